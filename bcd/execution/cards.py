"""Which GPUs and weights the kernels for products of frozen weights take."""

from collections.abc import Callable

import torch
from torch import Tensor


def require_dtype(weight: Tensor, products: str, whose: str, *possible: torch.dtype) -> None:
    """Raise ValueError unless the dtype of `weight` is possible. whose: kernels, in the message."""
    if weight.dtype not in possible:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in possible)
        raise ValueError(f"{products} products are not possible with weights in {weight.dtype}: {whose} want {wanted}")


def require_capability(
    weight: Tensor, products: str, possible: Callable[[tuple[int, int]], bool], wanted: str
) -> None:
    """Raise ValueError unless the compute capability of the GPU of `weight` is possible. wanted: "need 8.9"."""
    found = torch.cuda.get_device_capability(weight.device)
    if not possible(found):
        raise ValueError(
            f"{products} products are not possible on {torch.cuda.get_device_name(weight.device)}: it has compute "
            f"capability {'.'.join(map(str, found))}, they {wanted}"
        )

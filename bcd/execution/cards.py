"""Which GPUs and dtypes kernels take."""

from collections.abc import Callable

import torch
from torch import Tensor


def require_dtype(tensor: Tensor, what: str, whose: str, kernels: str, *possible: torch.dtype) -> None:
    """Raise ValueError unless the dtype of `tensor` is possible.

    what, whose, kernels: in the message, "fused products are", "weights" and "quack's".
    """
    if tensor.dtype not in possible:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in possible)
        raise ValueError(f"{what} not possible with {whose} in {tensor.dtype}: {kernels} want {wanted}")


def require_capability(tensor: Tensor, what: str, possible: Callable[[tuple[int, int]], bool], wanted: str) -> None:
    """Raise ValueError unless the compute capability of the GPU of `tensor` is possible.

    what, wanted: in the message, "float8 products are" and "torch's kernels need 8.9".
    """
    found = torch.cuda.get_device_capability(tensor.device)
    if not possible(found):
        raise ValueError(
            f"{what} not possible on {torch.cuda.get_device_name(tensor.device)}, which has compute capability "
            f"{'.'.join(map(str, found))}: {wanted}"
        )

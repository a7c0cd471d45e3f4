"""A frozen embedding table in the host's memory, where the GPU reads the rows that it needs.

A step looks up T rows of the table, (V, D): for 2,048 tokens 17 MB of the 1.05 GB of Llama 3-8B's. So the table may
lie in page-locked host memory, which a GPU reads over the bus under the same address. The GPU's memory then holds V D
numbers less, a step takes the time longer in which T D numbers travel, and nothing else changes: the lookup is bitwise
the same, and the parameter is still a CUDA tensor, for the optimizer, the state_dict and transformers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bcd.execution.kernels.addresses import at_address
from bcd.memory.tensors import ON_HOST, on_host


def _on_host(weight: Tensor) -> Tensor:
    """The same numbers as a CUDA tensor whose bytes lie in page-locked host memory."""
    with torch.cuda.device(weight.device):  # it is this one's memory, though every GPU could read it
        host = torch.empty(weight.nbytes, dtype=torch.uint8, pin_memory=True)
        table = at_address(host.data_ptr(), tuple(weight.shape), weight, owner=host)
    table.copy_(weight)
    return table


def host_embedding(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Callable[[], None]:
    """Keep the table of the input embedding of `model` in host memory, once the model is on its GPU.

        undo = host_embedding(model, optimizer)

    Args:
        model: with get_input_embeddings(), as every Hugging Face model has. On a CPU its table is there already, and
            moves with the model later.
        optimizer: so that a table which is trained in some later visit is refused.

    Returns:
        A function that undoes it.

    Raises:
        TypeError: for a model without an embedding.
        ValueError: if the table is trained, is the head's matrix too (tied), or is on the host already.
    """
    module: Any = getattr(model, "get_input_embeddings", lambda: None)()
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter):
        raise TypeError(f"{type(model).__name__} has no get_input_embeddings() with a weight to keep on the host")
    if on_host(weight):
        raise ValueError(f"the embedding of {type(model).__name__} is on the host already; undo that first")
    trained = [] if optimizer is None else [p for group in optimizer.param_groups for p in group["params"]]
    if weight.requires_grad or any(p is weight for p in trained):
        raise ValueError(
            'the embedding is trained, so its table cannot be on the host: freeze it (embedding="freeze" in '
            'bcd.by_layer), or leave embedding="device"'
        )
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    if getattr(head, "weight", None) is weight:
        raise ValueError(
            f"the embedding of {type(model).__name__} is its head's matrix too (tied), which every token multiplies: "
            'it cannot be on the host; leave embedding="device"'
        )
    if weight.device.type == "cpu":
        return lambda: None
    if weight.is_cuda:
        weight.data = _on_host(weight)
    setattr(weight, ON_HOST, weight.data_ptr())

    def undo() -> None:
        if on_host(weight) and weight.is_cuda:
            weight.data = weight.data.clone()
            torch.cuda.synchronize(weight.device)  # what is queued may still read the bytes that are given back
        if hasattr(weight, ON_HOST):
            delattr(weight, ON_HOST)

    return undo

"""Weight gradients of the active rows alone, where a partition gives each block a range of rows (`bcd.by_ratio`).

    y = x W',    dW of the rows a..b  =  (dy[:, a:b])' x            dx = dy W as ever

Autograd fills whole tensors: without it each visit of n parts computes n times the weight gradients that it uses, and
holds gradients as full training does. With it a step computes and holds 1/n of them, forward and the gradient of the
input are as they were. The idea is that of ChunkFT (arXiv 2605.21177).

The gradient of such a weight is a sparse tensor of the active rows, which `BlockCoordinateDescent` knows. Sparse
tensors cannot be clipped by torch's clip_grad_norm_, which raises: use `BlockCoordinateDescent.clip_grad_norm_`, or
leave clipping off (`max_grad_norm=0` in transformers.Trainer).
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from bcd.blocks import Part, sliced_rows
from bcd.memory.tensors import nbytes
from bcd.optimizer import BlockCoordinateDescent
from bcd.processes import size


class SlicedLinear(nn.Linear):
    """A linear map that computes the gradient of the active rows of its weight; `sliced_gradients` makes it of one.

    Attributes:
        rows: the active rows, from one up to before the other.
        row_index: the same one by one; None: it is nn.Linear.
        carrier: a tensor of their shape without memory, which autograd gives their gradient to.
    """

    rows: tuple[int, int] | None = None
    row_index: Tensor | None = None
    carrier: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        if self.row_index is None or self.carrier is None or not torch.is_grad_enabled():
            return super().forward(input)
        weight, bias = self.weight.detach(), self.bias
        if torch.is_autocast_enabled(input.device.type):
            dtype = torch.get_autocast_dtype(input.device.type)
            input, weight = input.to(dtype), weight.to(dtype)  # noqa: A001
            bias = None if bias is None else bias.to(dtype)
        return SlicedProduct.apply(input, weight, bias, self.carrier, self.row_index)

    def __getstate__(self) -> dict[str, Any]:
        """A copy is nn.Linear again, since nothing tells it of visits."""
        return {**self.__dict__, "rows": None, "row_index": None, "carrier": None}


class SlicedProduct(torch.autograd.Function):
    """x W' + b, with the gradient of some rows of W given to a tensor of their shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, carrier: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, index)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (dy,), (x, weight, index) = gradients, ctx.saved_tensors
        of_x, _, of_bias, of_rows, _ = ctx.needs_input_grad
        flat = dy.reshape(-1, dy.shape[-1])
        return (
            (flat @ weight).view(x.shape) if of_x else None,
            None,
            flat.sum(0) if of_bias else None,
            flat.index_select(1, index).T @ x.reshape(-1, x.shape[-1]) if of_rows else None,
            None,
        )


def sliced_gradients(model: nn.Module, optimizer: BlockCoordinateDescent) -> Callable[[], None]:
    """Let the linear maps of `model` compute the weight gradients of the active rows alone.

        undo = sliced_gradients(model, optimizer)

    It concerns every nn.Linear (no subclass) whose weight no other module has and blocks hold rows of. Everything else
    has whole gradients: vectors, embeddings, a tied head.

    Args:
        model: on the device where it is trained.
        optimizer: on a partition of it by rows.

    Returns:
        A function that undoes it.

    Raises:
        ValueError: for an optimizer that needs other gradients than those of one block, several processes, a model
            without such maps or one that has them already.
    """
    require_rows(optimizer)
    modules = sliceable(model, [part for block in optimizer.partition.blocks for part in block.parts])
    if any(isinstance(module, SlicedLinear) for module in model.modules()):
        raise ValueError(f"{type(model).__name__} has sliced gradients already; undo that first")
    if not modules:
        raise ValueError(
            f"{type(model).__name__} has no torch.nn.Linear of whose weight a block holds rows; "
            'row_gradients="sliced" is for a partition such as by_ratio of this very model'
        )
    for module in modules.values():
        module.__class__ = SlicedLinear

    def follow(_: object = None) -> None:
        if (alive := itself()) is None:
            return
        (block,) = (alive.partition.blocks[i] for i in alive.active_blocks)
        rows = {id(part.parameter): part.rows for part in block.parts}
        for key, module in modules.items():
            _slice(module, rows.get(key))

    itself = weakref.ref(optimizer)
    handle = optimizer.register_visit_hook(start=follow)
    follow()

    def undo() -> None:
        handle.remove()
        for module in modules.values():
            _slice(module, None)
            module.__class__ = nn.Linear

    return undo


def slice_anew(model: nn.Module) -> None:
    """Follow weights that have been put in place of others, with the rows that are active already."""
    for module in model.modules():
        if isinstance(module, SlicedLinear):
            _slice(module, module.rows)


def require_rows(optimizer: object) -> None:
    """Raise ValueError unless the gradients of one block's rows are all that the optimizer needs."""
    if not isinstance(optimizer, BlockCoordinateDescent):
        raise ValueError(
            f"optimizer={type(optimizer).__name__} is not possible: only BlockCoordinateDescent has blocks of rows"
        )
    reasons = {
        "the order asks for the gradients of all blocks": getattr(optimizer.order, "needs_gradients", False),
        "the order draws several blocks a visit": getattr(optimizer.order, "width", 1) != 1,
        f"always_active={list(optimizer.always_active)} trains several blocks a visit": bool(optimizer.always_active),
        "an expansion moves the other rows too": optimizer.expansion is not None,
        "several processes average whole gradients": size(optimizer._averaging.group) > 1,
    }
    if why := [reason for reason, holds in reasons.items() if holds]:
        raise ValueError(f'row_gradients="sliced" is not possible: {"; ".join(why)}')


def sliceable(model: nn.Module, parts: Iterable[Part]) -> dict[int, nn.Linear]:
    """id of the weight -> map, for the linear maps of whose weights `parts` are rows."""
    rows = {id(part.parameter) for part in parts if part.rows is not None}
    holders = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    maps = [m for m in model.modules() if isinstance(m, nn.Linear) and type(m) in (nn.Linear, SlicedLinear)]
    return {id(m.weight): m for m in maps if id(m.weight) in rows and holders[id(m.weight)] == 1}


def sliced_bytes(model: nn.Module, active: Sequence[Part]) -> int:
    """Bytes of the gradients of a visit with sliced gradients, from shapes alone; `bcd.memory.held` has whole ones.

    Args:
        model: whose linear maps are sliced, or are to be.
        active: the parts of the visit.
    """
    maps: Mapping[int, object] = sliceable(model, active)
    whole = nbytes(part.parameter for part in active if id(part.parameter) not in maps)
    return whole + sum(part.numel * part.parameter.element_size() for part in active if id(part.parameter) in maps)


def _slice(module: nn.Linear, rows: tuple[int, int] | None) -> None:
    """Make these rows the active ones of a map."""
    assert isinstance(module, SlicedLinear)
    weight, module.rows = module.weight, rows
    if rows is None:
        module.row_index = module.carrier = None
        sliced_rows.pop(weight, None)
        return
    start, stop = rows
    sliced_rows[weight] = rows
    index = module.row_index = torch.arange(start, stop, device=weight.device)
    carrier = weight.detach().new_zeros(1, 1).expand(stop - start, weight.shape[1]).detach().requires_grad_()
    module.carrier = carrier

    def give(carrier: Tensor) -> None:
        gradient, carrier.grad = carrier.grad, None
        assert gradient is not None
        if weight.grad is None or (weight.grad.layout != torch.strided and not weight.grad._nnz()):
            weight.grad = torch.sparse_coo_tensor(
                index[None], gradient, weight.shape, is_coalesced=True, check_invariants=False
            )
        elif weight.grad.layout == torch.strided:  # something else uses the weight
            weight.grad[start:stop] += gradient
        else:
            weight.grad._values().add_(gradient)

    carrier.register_post_accumulate_grad_hook(give)

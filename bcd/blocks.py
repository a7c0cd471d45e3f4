"""Blocks and partitions: which parameters are trained together.

A *block* is a named set of parameters. A *partition* is a list of blocks that are disjoint and, together
with the parameters that are frozen by explicit choice, cover the module. Both properties are checked when
a `Partition` is made, over the parameter tensors themselves, so a tensor that two modules share (a tied
head) is in exactly one block.
"""

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from bcd.processes import is_sharded

SHOWN = 5
"""Lines of blocks that the text of a partition has at most."""
_managed: Any = WeakTensorKeyDictionary()
"""Parameters whose requires_grad an optimizer of this library sets: that one is False says nothing then."""
sliced_rows: Any = WeakTensorKeyDictionary()
"""Parameter -> the rows that its sparse gradient holds, see `bcd.execution.row_gradients`."""


@dataclass(frozen=True)
class Part:
    """What a block holds of one parameter: all of it, or a range of rows (indices along dimension 0).

    Attributes:
        name: of the parameter.
        parameter: the whole tensor.
        rows: (start, stop), None for all.
    """

    name: str
    parameter: Tensor
    rows: tuple[int, int] | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """The view of `tensor` (the parameter, its gradient, a copy) that belongs to this part."""
        if self.rows is None:
            return tensor
        return tensor._values() if self.is_sliced(tensor) else tensor[self.rows[0] : self.rows[1]]

    def is_sliced(self, gradient: Tensor) -> bool:
        """Whether a gradient of the parameter holds the rows of this part and no others."""
        return gradient.layout != torch.strided and sliced_rows.get(self.parameter) == self.rows

    @property
    def numel(self) -> int:
        return self.of(self.parameter).numel()


@dataclass(frozen=True)
class Block:
    """A named set of parameters, or of row ranges of parameters, that are active together.

    Attributes:
        name: unique within the partition, for example ``"model.layers.3"``.
        parameters: parameter name -> parameter tensor, in the module's order; not empty.
        rows: parameter name -> (start, stop) along dimension 0, for parameters of which the block holds a part only.

    Raises:
        ValueError: for an empty block, a parameter that cannot be trained or an impossible range of rows.
    """

    name: str
    parameters: Mapping[str, Tensor]
    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError(f"block {self.name!r} has no parameters; drop it from the partition")
        for name, parameter in self.parameters.items():
            if not isinstance(parameter, Tensor):
                raise ValueError(f"block {self.name!r} has {name}={parameter!r}, which is no tensor")
            if not has_gradient(parameter):
                raise ValueError(
                    f"block {self.name!r} has {name} of {parameter.dtype}, which has no gradient; list it as frozen"
                )
            if not parameter.is_leaf:
                raise ValueError(f"block {self.name!r} has {name}, a computed tensor; give the parameter itself")
        if unknown := [name for name in self.rows if name not in self.parameters]:
            raise ValueError(
                f"block {self.name!r} has rows of {unknown}, but its parameters are {list(self.parameters)}"
            )
        for name, (start, stop) in self.rows.items():
            if not (isinstance(start, int) and isinstance(stop, int)):
                raise ValueError(f"block {self.name!r} has the rows {start}:{stop} of {name}; give whole numbers")
            if is_sharded(self.parameters[name]):
                raise ValueError(
                    f"block {self.name!r} has rows of {name}, a DTensor (fully_shard), whose rows are in several "
                    "processes; give whole parameters, as by_layer does"
                )
            length = self.parameters[name].shape[0] if self.parameters[name].ndim else 0
            if not 0 <= start < stop <= length:
                raise ValueError(f"block {self.name!r} has the rows {start}:{stop} of {name}, which has {length} rows")

    def __repr__(self) -> str:
        rows = f", rows of {len(self.rows)} of them" if self.rows else ""
        return f"Block({self.name!r}, {len(self.parameters)} parameters{rows}, {self.numel:,} weights)"

    @property
    def parts(self) -> list[Part]:
        """The block's parameters with their ranges of rows."""
        return [Part(name, parameter, self.rows.get(name)) for name, parameter in self.parameters.items()]

    @property
    def numel(self) -> int:
        """Number of scalar weights in the block."""
        return sum(part.numel for part in self.parts)

    def gradient_norm(self) -> float:
        """Euclidean norm of the block's gradient, in float32; parameters without a gradient count as zero."""
        gradients = [part.of(p.grad) for part in self.parts if (p := part.parameter).grad is not None]
        squares = [entries(g).float().square().sum() for g in gradients]
        # A block may span devices.
        return torch.stack([s.to(squares[0].device) for s in squares]).sum().sqrt().item() if squares else 0.0


@dataclass(frozen=True)
class Partition:
    """Disjoint blocks, and the parameters that no block trains.

    Attributes:
        blocks: D blocks, D >= 1; the order of the tuple is the order of the block indices.
        frozen: parameter name -> tensor for everything that is never trained.
        tied: second name -> first name for every tensor that the module reaches under two names.

    Raises:
        ValueError: when there is no block, a block name repeats, or one element is in two places or in none.
    """

    blocks: tuple[Block, ...]
    frozen: Mapping[str, Tensor]
    tied: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a partition needs at least one block; everything is frozen or nothing matched")
        names = [block.name for block in self.blocks]
        if len(set(names)) != len(names):
            repeated = sorted(name for name in names if names.count(name) > 1)
            raise ValueError(f"block names must be unique, got {repeated}")
        ranges: dict[int, list[tuple[int, int, str]]] = {}
        for block in self.blocks:
            for part in block.parts:
                start, stop = part.rows or (0, part.parameter.shape[0] if part.parameter.ndim else 1)
                place = f"block {block.name!r} ({part.name})"
                ranges.setdefault(id(part.parameter), []).append((start, stop, place))
        for name, parameter in self.frozen.items():
            if id(parameter) in ranges:
                raise ValueError(f"{name} is both frozen and in {ranges[id(parameter)][0][2]}")
        tensors = {id(p): p for block in self.blocks for p in block.parameters.values()}
        for key, parts in ranges.items():
            parts.sort()
            for (_, stop, place), (start, _, other) in itertools.pairwise(parts):
                if start < stop:
                    raise ValueError(f"blocks must be disjoint: one tensor is in {place} and in {other}")
            reached = 0
            for start, stop, place in parts:
                if start != reached:
                    raise ValueError(f"the rows {reached}:{start} of the tensor in {place} are in no block")
                reached = stop
            if reached != (length := tensors[key].shape[0] if tensors[key].ndim else 1):
                raise ValueError(f"the rows {reached}:{length} of the tensor in {parts[-1][2]} are in no block")

    def __repr__(self) -> str:
        """A line for each block; of many blocks the first three and the last one."""
        lines = [f"  {i}: {block!r}" for i, block in enumerate(self.blocks)]
        lines = lines if len(lines) <= SHOWN else [*lines[: SHOWN - 2], "  ...", lines[-1]]
        frozen = sum(parameter.numel() for parameter in self.frozen.values())
        weights = sum(block.numel for block in self.blocks)
        first = f"Partition({len(self)} blocks, {weights:,} weights; {len(self.frozen)} parameters frozen, {frozen:,}"
        return "\n".join([f"{first} weights)", *lines])

    def __len__(self) -> int:
        return len(self.blocks)

    def check_covers(self, module: nn.Module) -> None:
        """Raise ValueError unless every parameter of `module` is in a block or listed as frozen."""
        covered = {id(p) for block in self.blocks for p in block.parameters.values()}
        covered |= {id(p) for p in self.frozen.values()}
        if missing := [name for name, p in module.named_parameters() if id(p) not in covered]:
            raise ValueError(f"the partition does not cover {missing}; put them in a block or freeze them")


def entries(gradient: Tensor) -> Tensor:
    """The numbers of a gradient: of a sparse one those that are stored, of a complex one both parts."""
    dense = gradient if gradient.layout == torch.strided else gradient.coalesce().values()
    return torch.view_as_real(dense) if dense.is_complex() else dense


def has_gradient(parameter: Tensor) -> bool:
    """Whether a tensor of this dtype can have a gradient, which whole numbers (quantized weights) cannot."""
    return parameter.is_floating_point() or parameter.is_complex()


def is_frozen_by_others(parameter: Tensor) -> bool:
    """Whether a parameter requires no gradient, and no optimizer of this library has made it so."""
    return not parameter.requires_grad and parameter not in _managed


def manage(partition: Partition) -> None:
    """Note that an optimizer sets requires_grad of what the partition trains, and of what it freezes by choice."""
    for parameter in (p for block in partition.blocks for p in block.parameters.values()):
        _managed[parameter] = True
    for parameter in partition.frozen.values():
        if parameter.requires_grad:
            _managed[parameter] = True


def warn_of_frozen(partition: Partition) -> None:
    """Say which parameters a partition trains although somebody froze them, and which it leaves as whole numbers."""
    taken = [n for block in partition.blocks for n, p in block.parameters.items() if is_frozen_by_others(p)]
    whole = [name for name, p in partition.frozen.items() if not has_gradient(p)]
    if taken:
        warnings.warn(
            f"{len(taken)} parameters are in blocks although they do not require a gradient ({taken[0]} the first): "
            "they will be trained; only_trainable=True leaves them frozen",
            stacklevel=5,
        )
    if whole:
        warnings.warn(
            f"{len(whole)} parameters stay frozen since whole numbers have no gradient ({whole[0]} the first); "
            "only_trainable=True says that this is meant",
            stacklevel=5,
        )

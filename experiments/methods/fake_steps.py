"""What an optimizer keeps and what its update takes, measured: copies of it take steps on tensors without memory.

The tensors are torch's fake ones, which have a shape, a dtype and a number of bytes, so that the weights of any model
fit. An optimizer is built and stepped as it is; nothing here knows what it computes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bcd.memory import nbytes
from bcd.memory.activations import LivePeak

Make = Callable[..., Optimizer]
"""``make(*groups)`` builds an optimizer on lists of parameters."""
Groups = Sequence[Sequence[Tensor]]
STEPS = 2
"""Of a copy; the last one is measured. The first makes the state, and of SOAP it does nothing else."""


def state_bytes(make: Make, groups: Groups) -> int:
    """Bytes that the optimizer keeps for its parameters once it has taken steps.

    One parameter stands for all of its group with the same shape and dtype.

    Args:
        make: builds the optimizer.
        groups: its parameters, on any device.

    Raises:
        ValueError: for an optimizer that cannot step on fake tensors.
    """
    counts = [Counter(map(_kind, group)) for group in groups]
    optimizer, copies, _, _ = _stepped(make, [_at_most(1, group) for group in groups])
    return sum(
        count[_kind(copy)] * nbytes(tensors(optimizer.state[copy]))
        for count, group in zip(counts, copies, strict=True)
        for copy in group
    )


def update_bytes(make: Make, groups: Groups) -> int:
    """Largest number of bytes that a step takes beside parameters, gradients and state, and gives back.

    An optimizer that loops over its parameters frees what it took for one before it is through with the next, so two
    of every shape are enough; one that moves lists of tensors at once is run on all.

    Args:
        make: builds the optimizer.
        groups: its parameters, on any device.

    Raises:
        ValueError: for an optimizer that cannot step on fake tensors.
    """
    _, _, temporary, at_once = _stepped(make, [_at_most(2, group) for group in groups])
    return _stepped(make, groups)[2] if at_once else temporary


def tensors(state: Any) -> list[Tensor]:
    """The tensors in the nested dicts and lists of an optimizer's state."""
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


def _kind(parameter: Tensor) -> tuple[torch.Size, torch.dtype]:
    return parameter.shape, parameter.dtype


def _at_most(count: int, group: Iterable[Tensor]) -> list[Tensor]:
    """The first parameters of a group, at most `count` of each shape and dtype."""
    seen: Counter[Any] = Counter()
    first = []
    for parameter in group:
        seen[_kind(parameter)] += 1
        if seen[_kind(parameter)] <= count:
            first.append(parameter)
    return first


def _stepped(make: Make, groups: Groups) -> tuple[Optimizer, list[list[nn.Parameter]], int, bool]:
    """A copy of the optimizer after `STEPS` steps, its parameters, and the last step's temporary bytes.

    The fourth is whether it took memory for a list of tensors at once.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import, and blocks do not need it

    with FakeTensorMode(), Answers() as answers:
        copies = [[nn.Parameter(torch.empty(p.shape, dtype=p.dtype)) for p in group] for group in groups]
        optimizer = make(*copies)
        for group in optimizer.param_groups:
            if group.get("foreach", False) is None and not group.get("fused"):
                group["foreach"] = True  # what torch chooses on a GPU, for which the CPU stands here
        peak = 0
        for _ in range(STEPS):
            for parameter in (p for group in copies for p in group):
                parameter.grad = torch.empty_like(parameter)
            with LivePeak() as live:
                try:
                    optimizer.step()
                except (RuntimeError, NotImplementedError) as error:
                    raise ValueError(
                        f"{type(optimizer).__name__} cannot take a step on fake tensors, by which its bytes are "
                        f"predicted: {error}; give its method a footprint of its own"
                    ) from error
            peak = live.peak
    return optimizer, copies, peak, answers.at_once


class Answers(TorchDispatchMode):
    """Answers an optimizer that looks at a number, which no fake tensor has.

    A number is 1, and no condition holds: those that optimizers look for are numbers that are not finite.

    Attributes:
        at_once: whether an operation has been seen that made a list of tensors from one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at_once = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch._subclasses.fake_tensor import DataDependentOutputException

        self.at_once |= func.name().startswith("aten::_foreach_") and bool(func._schema.returns)
        try:
            return func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            dtype = args[0].dtype
            if func is not torch.ops.aten._local_scalar_dense.default or dtype == torch.bool:
                return False
            return 1.0 if dtype.is_floating_point else 1

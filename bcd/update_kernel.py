"""One optimizer step as one kernel a tensor, made by torch.compile from a rule's formula.

The exact master (`bcd.precision`) is joined, moved and split inside the kernel, so that a step reads and writes each
weight, remainder, gradient and state once: 26 bytes a weight for Adam's rule, where AdamW on a separate float32
master moves 38. The arithmetic is the formula's in the weights' dtype (float32 for a master); a compiler may contract
a * b + c, so results equal torch's own variants to rounding and not to the bit.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bcd import precision
from bcd.rules.rule import Elementwise, Rule, State
from bcd.toolchain import name_libraries_plainly

Formula = Callable[
    [Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]],
    tuple[Tensor, tuple[Tensor, ...]],
]

GRAPHS = 1024
"""Kernels are made for the shapes at hand, since unknown sizes would cost vector loads: one for each kind of block."""


def supports(rule: Rule) -> bool:
    """Whether the rule has a formula and leaves the choice of kernel open (no foreach, no fused)."""
    names_kernel = getattr(rule, "foreach", None) is not None or getattr(rule, "fused", None) is not None
    return isinstance(rule, Elementwise) and not names_kernel


def compiled_update(
    rule: Elementwise,
    weights: Sequence[Tensor],
    remainders: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    states: Sequence[State],
    lr: float,
    hyperparameters: Mapping[str, Any],
) -> None:
    """One step in place on weights, remainders and states, as `Rule.update` on the masters.

    Args:
        rule: with a formula.
        weights: bfloat16 with a remainder, or any float dtype with None.
        remainders: int16 of the weights' shapes.
        gradients: of the weights, only read.
        states: of the weights, under the rule's names.
        lr: step size.
        hyperparameters: of the rule.
    """
    if any(w.is_complex() for w in weights):
        raise ValueError("compiled=True is not possible with complex weights: their rules have no compiled kernel")
    dtype = torch.float64 if weights[0].dtype == torch.float64 else torch.float32
    rows = []
    for state in states:
        if "step" in state:
            state["step"] += 1
        rows.append(rule.coefficients(lr, hyperparameters, int(state["step"]) if "step" in state else 1))
    # A tensor, not numbers: a new number would be a new kernel.
    table = torch.tensor(rows, dtype=dtype).to(weights[0].device, non_blocking=True)
    copied: list[tuple[Tensor, Tensor]] = []

    def flat(tensor: Tensor) -> Tensor:
        """A view, or a copy of what is not contiguous (transposed, channels last), which is written back."""
        row = tensor.detach().reshape(-1)
        if not tensor.is_contiguous():
            copied.append((tensor, row))
        return row

    arguments = (
        [flat(w) for w in weights],
        [None if r is None else flat(r) for r in remainders],
        [g.detach().reshape(-1) for g in gradients],
        [[flat(state[name]) for name in rule.state_names] for state in states],
        table,
    )
    with torch._dynamo.config.patch(recompile_limit=GRAPHS):
        _kernel(rule.formula)(*arguments)
    for tensor, row in copied:
        tensor.copy_(row.view(tensor.shape))


@functools.cache
def _kernel(formula: Formula) -> Callable[..., None]:
    def step(
        weights: list[Tensor],
        remainders: list[Tensor | None],
        gradients: list[Tensor],
        states: list[list[Tensor]],
        table: Tensor,
    ) -> None:
        for i, (weight, remainder) in enumerate(zip(weights, remainders, strict=True)):
            x = weight if remainder is None else precision.join(weight, remainder)
            moved, changed = formula(x, gradients[i].to(x.dtype), states[i], table[i].unbind())
            for old, new in zip(states[i], changed, strict=True):
                old.copy_(new)
            if remainder is None:
                weight.copy_(moved)
            else:
                precision.split(moved, weight, remainder)

    name_libraries_plainly()
    return torch.compile(step, fullgraph=True, dynamic=False)

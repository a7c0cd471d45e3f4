"""Bytes held during one visit, with what is kept of other visits: from shapes, or of the live tensors."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bcd.blocks import Part, Partition
from bcd.expansion import Expansion
from bcd.memory.tensors import by_place, nbytes
from bcd.optimizer import BlockCoordinateDescent, Lifetime, Master
from bcd.rules.rule import StateShapes

STEP_BYTES = 4
"""Adam-like rules keep one float32 step counter for each parameter tensor, as torch.optim does."""
REMAINDER_BYTES = 2
"""An exact master is the bfloat16 weight and a 16-bit remainder, see `bcd.precision`."""
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Held:
    """Bytes held during one visit, once its first backward and step are done.

    Attributes:
        weights: all parameters on the device.
        master: remainders of the active weights.
        gradients: of the active parameters.
        state: optimizer state on the device, that of an expansion included.
        host: what is kept on the CPU: of the blocks that are not active, and an embedding that is read from there.
    """

    weights: int
    master: int
    gradients: int
    state: int
    host: int

    @property
    def device(self) -> int:
        """Everything but `host`."""
        return self.weights + self.master + self.gradients + self.state


def has_master(part: Part, master: Master) -> bool:
    """Whether the part has an exact float32 master under the option `master`."""
    return master != "off" and part.parameter.dtype == torch.bfloat16


def _remainders(parts: Iterable[Part], master: Master) -> int:
    return sum(REMAINDER_BYTES * part.numel for part in parts if has_master(part, master))


def _states(
    parts: Iterable[Part], state_tensors: int, counts_steps: bool, master: Master, state_shapes: StateShapes | None
) -> int:
    """The rule sees the float32 master where there is one, and makes its state of the same dtype."""
    return sum(
        state_tensors * part.numel * (FLOAT32_BYTES if has_master(part, master) else part.parameter.element_size())
        + (0 if state_shapes is None else _small_state(part, state_shapes))
        + STEP_BYTES * counts_steps
        for part in parts
    )


def _small_state(part: Part, state_shapes: StateShapes) -> int:
    numbers = sum(math.prod(shape) for shape in state_shapes(part.of(part.parameter).shape).values())
    return numbers * max(FLOAT32_BYTES, part.parameter.element_size())


def held(
    parameters: Iterable[Tensor],
    active: Sequence[Part],
    visited: Sequence[Part] = (),
    *,
    state_tensors: int,
    counts_steps: bool,
    state_shapes: StateShapes | None = None,
    state: Lifetime = "reset",
    master: Master = "off",
) -> Held:
    """Bytes held during a visit, from shapes alone.

        weights   = all parameters, without an embedding on the host
        master    = 2 bytes a weight of each active bfloat16 part, 0 when master="off"
        gradients = parameters with an active part, whole: autograd knows no rows
        state     = active parts x state_tensors, in float32 under a master, and the tensors of state_shapes;
                    state="device": visited parts too
        host      = state of the visited parts for state="host", and their remainders for master="host"; that embedding

    Args:
        parameters: all of the model.
        active: the parts of this visit.
        visited: the parts of earlier visits that are not active now; every other part after a block epoch.
        state_tensors: of the rule.
        counts_steps: of the rule.
        state_shapes: of a rule that is `bcd.rules.rule.Tensorwise`, whose state has shapes of its own in float32.
        state: see `BlockCoordinateDescent`.
        master: see `BlockCoordinateDescent`.
    """
    weights, embedding = by_place(parameters)
    on_device = _states(active, state_tensors, counts_steps, master, state_shapes)
    of_visited = _states(visited, state_tensors, counts_steps, master, state_shapes)
    return Held(
        weights=weights,
        master=_remainders(active, master),
        gradients=nbytes(part.parameter for part in active),
        state=on_device + of_visited * (state == "device"),
        host=embedding + of_visited * (state == "host") + _remainders(visited, master) * (master == "host"),
    )


def expansion_bytes(
    expansion: Expansion, partition: Partition, active: Collection[int], others: Iterable[Collection[int]] = ()
) -> int:
    """Bytes of the state that an expansion keeps for inactive blocks during a visit, from shapes alone.

        without a rank   the small state of every part that this visit or another one has moved
        rank=r           state_tensors x r x columns numbers, in float32, of each matrix that this visit moves

    `Held` of `held` is without them.

    Args:
        expansion: of the optimizer.
        partition: of the optimizer.
        active: indices of the blocks that are active.
        others: those of the visits made before.
    """
    rule, rank = expansion.rule, expansion.rank
    visits = [active] if rank is not None else [active, *others]
    moving = {each.key: each.part for visit in visits for each in expansion.moving(partition, visit)}.values()
    if rank is None:
        parts = list(moving)
    else:
        factors = (torch.empty(rank, part.parameter.shape[1], device="meta") for part in moving)
        parts = [Part("factor", factor) for factor in factors]
    return _states(parts, rule.state_tensors, rule.counts_steps, "off", getattr(rule, "state_shapes", None))


def measured_held(parameters: Iterable[Tensor], optimizer: BlockCoordinateDescent) -> Held:
    """The categories of `held` on the live tensors of `optimizer`, right now.

    What is kept of other visits counts as `host` by the optimizer's options: on a CPU the device cannot tell.
    """
    everything = list(parameters)
    blocks = optimizer.partition.blocks
    active = {(id(part.parameter), part.rows) for i in optimizer.active_blocks for part in blocks[i].parts}
    weights, embedding = by_place(everything)
    bytes_of = {"master": 0, "state": 0, "host": embedding}
    for part in (part for block in blocks for part in block.parts):
        values = optimizer.state.get(part.parameter, {})
        if part.rows is not None:
            values = values.get("{}:{}".format(*part.rows), {})
        for name, value in values.items():
            if (id(part.parameter), part.rows) in active:
                category = "master" if name == "remainder" else "state"
            else:
                away = name == "remainder" or optimizer.state_lifetime == "host"
                category = "host" if away else "state"
            bytes_of[category] += nbytes([value])
    bytes_of["state"] += nbytes(value for values in optimizer.expansion_state.values() for value in values.values())
    gradients = nbytes(p.grad for p in everything if p.grad is not None)
    return Held(weights=weights, gradients=gradients, **bytes_of)

"""How the active weights move: the rule's step through an exact master, one compiled kernel, or the rule itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bcd import precision
from bcd.blocks import Partition
from bcd.processes import is_sharded, local
from bcd.rules.rule import Rule, State, as_tensorwise
from bcd.update_kernel import compiled_update, supports


def require_whole_tensors(rule: Rule, partition: Partition) -> None:
    """Raise ValueError where a rule that needs whole tensors would get a part of one and take it for the whole."""
    tensorwise = as_tensorwise(rule)
    if tensorwise is None:
        return
    for block in partition.blocks:
        for part in block.parts:
            if is_sharded(part.parameter):
                raise ValueError(
                    f"rule={rule!r} is not possible with DTensors (fully_shard) such as {part.name}: its step of a "
                    "weight depends on others of the tensor, which are in several processes; give a rule that moves "
                    "every weight by itself, such as Adam() or Sign()"
                )
            if part.rows is not None and not tensorwise.splits(part.parameter.shape):
                raise ValueError(
                    f"rule={rule!r} is not possible with rows {part.rows[0]}:{part.rows[1]} of {part.name} in block "
                    f"{block.name!r}: its step depends on all of the tensor; give whole parameters, as by_layer does, "
                    "or a rule that moves every weight by itself, such as Adam() or Sign()"
                )


class Update:
    """One rule with its choice of kernel, and the memory that it uses again within a visit and at a switch.

    Args:
        rule: what moves the weights.
        compiled: see `BlockCoordinateDescent`.

    Raises:
        ValueError: for compiled=True with a rule that has no formula or names a kernel itself.
    """

    def __init__(self, rule: Rule, compiled: bool | None) -> None:
        self.rule = rule
        self.compiled = compiled
        self._can_compile = supports(rule)
        if compiled and not self._can_compile:
            raise ValueError(
                f"compiled=True is not possible with rule={rule!r}: it needs a formula and neither foreach nor fused"
            )
        self._scratch: dict[torch.device, precision.Scratch] = {}
        self._freed: dict[tuple[torch.Size, torch.dtype, torch.device], list[State]] = {}

    def step(
        self,
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float | Tensor,
        hyperparameters: Mapping[str, Any],
        *,
        master: bool,
        active: Sequence[Tensor],
    ) -> None:
        """One step in place on weights and states; a state without entries is made first.

        Args:
            weights: what moves.
            gradients: of the weights, only read.
            states: of the weights, under the rule's names.
            lr: step size.
            hyperparameters: of the rule.
            master: whether bfloat16 weights have an exact float32 master, whose remainder is an entry of their state.
            active: every weight of the visit, for the size of the buffers.
        """
        exact = [i for i, w in enumerate(weights) if master and w.dtype == torch.bfloat16]
        if exact:  # a master's halves are those of the shard; rules that need whole tensors have no shards
            weights, gradients, active = ([local(t) for t in each] for each in (weights, gradients, active))
        for i in exact:
            if "remainder" not in states[i]:
                states[i]["remainder"] = torch.zeros_like(weights[i], dtype=torch.int16)
        together: dict[Any, list[int]] = {}
        for i, weight in enumerate(weights):  # a block may span devices
            together.setdefault((i not in exact, weight.device), []).append(i)
        for (_, device), indices in sorted(together.items(), key=lambda each: each[0][0]):
            of_these = [weights[i] for i in indices], [gradients[i] for i in indices], [states[i] for i in indices]
            self._move(*of_these, lr, hyperparameters, [w for w in active if w.device == device])

    def _move(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        states: list[State],
        lr: float | Tensor,
        hyperparameters: Mapping[str, Any],
        active: Sequence[Tensor],
    ) -> None:
        """The step on tensors that all have an exact master (a remainder in their state) or all have none."""
        master = "remainder" in states[0]
        if self.compiled or (self.compiled is None and master and self._can_compile and weights[0].is_cuda):
            self._init(weights, states, torch.float32 if master else None)
            remainders = [state.get("remainder") for state in states]
            compiled_update(self.rule, weights, remainders, gradients, states, float(lr), hyperparameters)  # pyright: ignore[reportArgumentType]
        elif master:
            device = weights[0].device
            if device not in self._scratch:
                self._scratch[device] = precision.Scratch(active)
            for chunk in precision.chunks(weights):
                chunk_weights, chunk_states = [weights[i] for i in chunk], [states[i] for i in chunk]
                remainders = [state["remainder"] for state in chunk_states]
                masters, copies = self._scratch[device].unpack(
                    chunk_weights, remainders, [gradients[i] for i in chunk]
                )
                self._init(masters, chunk_states)
                self.rule.update(masters, copies, chunk_states, lr, hyperparameters)
                for full, weight, remainder in zip(masters, chunk_weights, remainders, strict=True):
                    precision.split(full, weight, remainder)
        else:
            self._init(weights, states)
            self.rule.update(weights, gradients, states, lr, hyperparameters)

    def _init(self, weights: Sequence[Tensor], states: Sequence[State], dtype: torch.dtype | None = None) -> None:
        """Fresh state, of the given dtype, for those that have none (a kept remainder is not the rule's)."""
        for weight, state in zip(weights, states, strict=True):
            if not state.keys() - {"remainder"}:
                # An expanded element has the shape and dtype without the memory.
                like = weight if dtype is None else weight.new_empty((), dtype=dtype).expand(weight.shape)
                freed = self._freed.get((like.shape, like.dtype, like.device))
                state.update({n: v.zero_() for n, v in freed.pop().items()} if freed else self.rule.init([like])[0])

    def free(self, weight: Tensor, state: State) -> None:
        """Take the rule's entries out of the state of a weight whose visit ends.

        On a CPU the first step of the next visit may take the memory over: given back to the system, it would cost
        more page faults at every switch than a step takes. An allocator of a GPU does that by itself.
        """
        weight = local(weight) if "remainder" in state else weight
        dtype = torch.float32 if "remainder" in state else weight.dtype
        entries = {name: state.pop(name) for name in list(state) if name != "remainder"}
        if weight.device.type == "cpu" and entries:
            self._freed.setdefault((weight.shape, dtype, weight.device), []).append(entries)

    def drop_freed(self) -> None:
        """Give back what the first step of a visit has not taken over."""
        self._freed.clear()

    def end_visit(self) -> None:
        """Give back the buffers of the visit."""
        self._scratch = {}

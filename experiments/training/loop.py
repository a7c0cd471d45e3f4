"""The training loop of every method, and its state between two steps, which a checkpoint holds."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bcd.checks import require_choice
from bcd.execution import Execution
from bcd.memory import Bytes
from experiments.errors import UserError
from experiments.methods import Trainable

Nonfinite = Literal["stop", "skip", "rollback"]
NONFINITE = get_args(Nonfinite)
PLAIN = Execution()
ROLLBACKS = 3
"""Returns to one and the same checkpoint before a run counts as failed: other data have not helped."""


class Training:
    """One run between two steps.

    `metrics` holds one entry a step: the loss before it, the gradient norm before clipping (none where backward uses
    the gradients up, and where a method without clipping does not know it, see `Trainable.clip`), the learning rate
    used, the seconds taken; skipped steps have no loss. `columns` puts them in the form of a record. `peak` is that of
    the measured bytes.

    Args:
        trainable: model and optimizer.
        schedule: of the learning rate, steps once an optimizer step.
        batches: ``batches(n)`` is the stream of batches after the first n.
        loss: ``loss(model, batch, execution)`` is the mean over `batch.terms` terms.
        accumulation: forward and backward passes that a batch is cut into, for memory; the gradient is that of the
            whole batch up to rounding, in the dtype of the weights.
        max_grad_norm: clips the global norm of the gradients; None: no clipping.
        nonfinite: what happens when the loss or the gradient norm is NaN or infinite. "stop" raises; "skip" drops the
            gradients and takes the next batch, the step counts; "rollback" returns to the state that `rollback` gives
            and goes on with data not seen yet.
        execution: how a step is computed, see `bcd.execution`; in force inside `prepared`.
        rollback: gives the state to return to; None: a rollback is a failure.
    """

    def __init__(
        self,
        trainable: Trainable,
        schedule: Any,
        batches: Callable[[int], Iterator[Any]],
        loss: Callable[[Any, Any, Execution], Tensor],
        *,
        accumulation: int = 1,
        max_grad_norm: float | None = None,
        nonfinite: Nonfinite = "stop",
        execution: Execution = PLAIN,
        rollback: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.trainable, self.schedule = trainable, schedule
        self.accumulation = accumulation
        self.max_norm = math.inf if max_grad_norm is None else max_grad_norm
        self.nonfinite, self._rollback = nonfinite, rollback
        self.execution = execution
        self._batches, self._mean_loss = batches, loss
        self._stream = batches(0)
        self.drawn = 0  # batches taken from the stream; more than the steps done after a rollback
        self.metrics: list[dict[str, Any]] = []
        self.peak = Bytes(0, 0, 0)
        self.rollbacks: list[int] = []  # the step that each of them returned from

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return len(self.metrics)

    def step(self) -> None:
        """Loss, backward, clip, step.

        Raises:
            FloatingPointError: when the loss or the gradient norm is not finite and nonfinite is "stop", or when
                `ROLLBACKS` returns have not helped; the weights are not touched then. With the step in backward only
                the loss is looked at, afterwards.
        """
        begin = time.perf_counter()
        optimizer = self.trainable.optimizer
        loss = self._backward(next(self._stream))
        self.drawn += 1
        held = self.trainable.measured()
        norm = self.trainable.clipped(self.max_norm)
        lr = optimizer.param_groups[0]["lr"]
        entry: dict[str, Any] = {"loss": 0.0, "lr": lr}
        if norm is None or self.execution.step_in_backward:
            entry["loss"] = loss.item()
        else:  # both at once: the device is waited for once a step
            entry["loss"], entry["grad_norm"] = torch.stack([loss, norm.to(loss)]).tolist()
        if bad := {name: value for name, value in entry.items() if not math.isfinite(value)}:
            optimizer.zero_grad()
            if self.nonfinite != "skip":
                self._return(*next(iter(bad.items())), lr)
                return
            entry |= dict.fromkeys(bad) | {"skipped": True}
        else:
            optimizer.step()
            # State is made by the step; at a switch it is already gone again, hence the peak of both moments.
            self.peak = self.peak.peak(held).peak(self.trainable.measured())
            optimizer.zero_grad()
        self.schedule.step()
        self.metrics.append(entry | {"seconds": time.perf_counter() - begin})

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Steps are computed as `execution` says inside the block; the model is as before after it."""
        undo = self.execution(self.trainable.model, self.trainable.optimizer)
        try:
            yield
        finally:
            undo()

    def _backward(self, batch: Any) -> Tensor:
        """Gradient of the mean loss over all terms of the batch, summed over its parts; returns that loss."""
        parts = batch.parts(self.accumulation)
        total = 0.0
        for part in parts:
            loss = self._mean_loss(self.trainable.model, part, self.execution)
            if len(parts) > 1:
                loss = loss * (part.terms / batch.terms)
            self.trainable.backward(loss)
            total = total + loss.detach().double()
        return total  # pyright: ignore[reportReturnType]

    def _return(self, name: str, value: float, lr: float) -> None:
        what = f"the {name.replace('grad_norm', 'gradient norm')} is {value} at step {self.steps}"
        if self.nonfinite == "stop" or self._rollback is None:
            raise FloatingPointError(f"{what}; try a smaller method.lr (now {lr:.3g})")
        if self.rollbacks[-ROLLBACKS:].count(self.steps) == ROLLBACKS:
            raise FloatingPointError(
                f"{what}, also after {ROLLBACKS} rollbacks; try a smaller method.lr (now {lr:.3g})"
            )
        drawn, rollbacks = self.drawn, [*self.rollbacks, self.steps]
        self.load_state_dict(self._rollback())
        self.rollbacks = rollbacks
        self._skip_to(drawn)

    def _skip_to(self, drawn: int) -> None:
        self.drawn = drawn
        self._stream = self._batches(drawn)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: weights, optimizer, schedule, data position, generators, metrics."""
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            generators["cuda"] = torch.cuda.get_rng_state()
        return {
            "model": self.trainable.model.state_dict(),
            "optimizer": self.trainable.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "drawn": self.drawn,
            "metrics": [dict(entry) for entry in self.metrics],
            "peak": asdict(self.peak),
            "rollbacks": list(self.rollbacks),
            "generators": generators,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.trainable.model.load_state_dict(state["model"])
        self.trainable.optimizer.load_state_dict(state["optimizer"])
        self.trainable.optimizer.zero_grad()
        self.schedule.load_state_dict(state["schedule"])
        self.metrics = [dict(entry) for entry in state["metrics"]]
        self.peak = Bytes(**state["peak"])
        self.rollbacks = list(state["rollbacks"])
        torch.set_rng_state(state["generators"]["cpu"])
        if "cuda" in state["generators"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["generators"]["cuda"])
        self._skip_to(state["drawn"])


@contextmanager
def any_length() -> Iterator[None]:
    """Attention inside the block runs on kernels that serve sequences of any length at once.

    cuDNN's, which torch prefers on an H100, plans every length anew, for 0.2 s: more than the step itself.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def columns(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """One list for each name that a step has, with 6 significant digits; None where a step lacks it.

    >>> columns([{"loss": 1.23456789, "lr": 0.1}, {"loss": None, "lr": 0.1, "skipped": True}])
    {'loss': [1.23457, None], 'lr': [0.1, 0.1], 'skipped': [None, True]}
    """
    names = dict.fromkeys(name for entry in metrics for name in entry)
    return {name: [_six_digits(entry.get(name)) for entry in metrics] for name in names}


def _six_digits(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def require_nonfinite(value: Any, checkpoint_every: Any) -> None:
    """Raise ValueError for an unknown choice, and for a rollback to checkpoints that are never written."""
    require_choice("nonfinite", value, NONFINITE)
    if value == "rollback" and checkpoint_every is None:
        raise UserError("nonfinite='rollback' is not possible without checkpoints; give checkpoint.every=STEPS")

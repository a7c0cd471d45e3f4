"""Evaluations along the way of a run: the curve of the held-out loss, and the target at which the run ends."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from bcd.checks import require_number, require_whole
from experiments.training.loop import Training
from experiments.training.planning import Plan
from experiments.workloads import Task


@dataclass(frozen=True)
class StopEarly:
    """When a run ends because its held-out loss falls no more; its weights are then those of the lowest loss.

    Attributes:
        patience: evaluations in a row without a lower loss that end the run.
        at_least: nats by which a loss must be below the lowest one so far to be lower.

    Raises:
        ValueError: for values that are not possible.
    """

    patience: int
    at_least: float = 0.0

    def __post_init__(self) -> None:
        require_whole("stop_early.patience", self.patience, least=1)
        require_number("stop_early.at_least", self.at_least, least=0)


class Course:
    """The curve of one run, and its target where it has one.

    With `StopEarly`, `best` is the evaluation with the lowest loss so far: step, loss, and a copy of model and
    optimizer on the CPU (methods that evaluate at an average of the weights keep it in the optimizer). `restore` puts
    it back; `measurements["stop_early"]` has what was asked for, its step and loss, and where the run ended early.

    The target is looked for at every evaluation, from the one before training on. `measurements["target"]` says what
    was asked for, whether and after which step it was reached, and the seconds of the training steps until then:
    evaluations, checkpoints and loading are left out, as in AlgoPerf (arXiv 2306.07179, section 4.2).

    Args:
        plan: of the run.
        task: its workload, loaded.
        measurements: of the run; `curve` and `target` are kept there.
        measure: evaluates the model in training.
    """

    def __init__(
        self, plan: Plan, task: Task, measurements: dict[str, Any], measure: Callable[[], dict[str, Any]]
    ) -> None:
        self._every, self._target = plan.config.get("evaluate_every"), plan.workload.target
        self._early, self._name, self._steps = plan.stop_early, plan.name, plan.config.steps
        self.best: dict[str, Any] | None = None
        self._task, self._into, self._measure = task, measurements, measure
        if self._target is not None:
            reached = self._target.reached(measurements["before"])
            measurements["target"] = {
                "metric": self._target.metric,
                "at_least": self._target.at_least,
                "at_most": self._target.at_most,
                "budget": self._target.budget,
                "reached": reached,
                "step": 0 if reached else None,
                "seconds": 0.0 if reached else None,
            }

    def due(self, step: int) -> bool:
        """Whether the model is to be evaluated after this many steps."""
        last = max((point["step"] for point in self._into["curve"]), default=0)
        return bool(self._every) and step > 0 and step % self._every == 0 and step != last

    def evaluate(self, training: Training) -> None:
        """Evaluate now: one more point of the curve."""
        metrics = self._measure()
        # After a rollback the points that lie ahead are measured again.
        former = [point for point in self._into["curve"] if point["step"] < training.steps]
        self._into["curve"] = [*former, self._point(training.steps, metrics)]
        self._look(training, metrics)
        if self._early is None:
            return
        loss = metrics["heldout_loss"]
        if self.best is None or loss < self.best["loss"] - self._early.at_least:
            trainable = training.trainable
            state = {"model": trainable.model.state_dict(), "optimizer": trainable.optimizer.state_dict()}
            self.best = {"step": training.steps, "loss": loss, "state": _copied(state)}

    def restore(self, training: Training) -> None:
        """Put the weights with the lowest loss back, where the run asks for it; the last step counts too."""
        if self._early is None:
            return
        ended = training.steps < self._steps
        if all(point["step"] != training.steps for point in self._into["curve"]):
            self.evaluate(training)
        assert self.best is not None
        training.trainable.model.load_state_dict(self.best["state"]["model"])
        training.trainable.optimizer.load_state_dict(self.best["state"]["optimizer"])
        self._into["stop_early"] = {
            "patience": self._early.patience,
            "at_least": self._early.at_least,
            "step": self.best["step"],
            "heldout_loss": self.best["loss"],
            "stopped": training.steps if ended else None,
        }
        how = f"stopped after step {training.steps}" if ended else "ran to its last step"
        tqdm.write(
            f"{self._name}: {how} of {self._steps}; the weights are those of step {self.best['step']}, held-out loss "
            f"{self.best['loss']:.4f}",
            file=sys.stderr,
        )

    def over(self, training: Training) -> bool:
        """Whether the run ends before its last step: at its target, when the budget is used up, or early."""
        if self._early is not None and self.best is not None:
            since = sum(point["step"] > self.best["step"] for point in self._into["curve"])
            return since >= self._early.patience
        if self._target is None:
            return False
        budget = self._target.budget
        return self._into["target"]["reached"] or (budget is not None and seconds(training) >= budget)

    def end(self, training: Training, after: dict[str, Any]) -> None:
        """Take the evaluation after training: the end of the curve, and the last look for the target."""
        if self._every:
            # A run that was interrupted after this has both ends already.
            between = [point for point in self._into["curve"] if 0 < point["step"] < training.steps]
            first, last = self._point(0, self._into["before"]), self._point(training.steps, after)
            if self._early is not None:  # the evaluation after training is of the weights with the lowest loss
                last = next(point for point in self._into["curve"] if point["step"] == training.steps)
            self._into["curve"] = [first, *between, last]
        self._look(training, after)

    def _look(self, training: Training, metrics: dict[str, Any]) -> None:
        if self._target is None or self._into["target"]["reached"] or not self._target.reached(metrics):
            return
        self._into["target"] |= {"reached": True, "step": training.steps, "seconds": seconds(training)}

    def _point(self, step: int, metrics: dict[str, Any]) -> dict[str, Any]:
        point = {"step": step} | self._task.seen(step) | {"heldout_loss": metrics["heldout_loss"]}
        if self._target is not None:
            point[self._target.metric] = metrics[self._target.metric]
        return point


def seconds(training: Training) -> float:
    """Seconds of the training steps so far, those before an interruption included."""
    return sum(step["seconds"] for step in training.metrics)


def _copied(state: Any) -> Any:
    """Nested dicts and lists with their tensors copied to the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    return type(state)(map(_copied, state)) if isinstance(state, list | tuple) else state

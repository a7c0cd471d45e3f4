"""Evaluations along the way of a run: the curve of the held-out loss, and the target at which the run ends."""

from collections.abc import Callable
from typing import Any

from experiments.training.loop import Training
from experiments.training.planning import Plan
from experiments.workloads import Task


class Course:
    """The curve of one run, and its target where it has one.

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

    def over(self, training: Training) -> bool:
        """Whether the run ends before its last step: at its target, or when the budget is used up."""
        if self._target is None:
            return False
        budget = self._target.budget
        return self._into["target"]["reached"] or (budget is not None and seconds(training) >= budget)

    def end(self, training: Training, after: dict[str, Any]) -> None:
        """Take the evaluation after training: the end of the curve, and the last look for the target."""
        if self._every:
            # A run that was interrupted after this has both ends already.
            between = [point for point in self._into["curve"] if 0 < point["step"] < training.steps]
            first = self._point(0, self._into["before"])
            self._into["curve"] = [first, *between, self._point(training.steps, after)]
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

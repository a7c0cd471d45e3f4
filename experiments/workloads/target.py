"""A target: the value of a metric at which a run ends, and the training time that it may take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bcd.checks import require_number
from experiments.errors import UserError


@dataclass(frozen=True)
class Target:
    """Reached when a metric on the held-out examples is at least, or at most, a value.

        reached  <=>  metric >= at_least        or        metric <= at_most

    Attributes:
        metric: name of a metric of the workload, for example accuracy or heldout_loss.
        at_least: the value for metrics that grow; None for one that falls.
        at_most: the value for metrics that fall; None for one that grows.
        budget: seconds of training steps (evaluations left out) after which the run ends unreached; None: its steps.

    Raises:
        UserError: unless exactly one of at_least and at_most is given.
        ValueError: for a value or budget that is no number.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise UserError(
                f"target of {self.metric} has at_least={self.at_least} and at_most={self.at_most}; give one"
            )
        for name in ("at_least", "at_most"):
            require_number(f"target.{name}", getattr(self, name), or_none=True)
        require_number("target.budget", self.budget, least=0.0, or_none=True)

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.at_most is None else '<='} {self.value:g}"

    @property
    def value(self) -> float:
        """What the metric is compared with."""
        return self.at_least if self.at_least is not None else self.at_most  # pyright: ignore[reportReturnType]

    def reached(self, metrics: Mapping[str, Any]) -> bool:
        """Whether the metrics of an evaluation meet the target; NaN never does.

        Raises:
            UserError: when the evaluation has no such metric.
        """
        if self.metric not in metrics:
            raise UserError(
                f"target.metric={self.metric} is no metric of this evaluation; it has {', '.join(metrics)}"
            )
        value = metrics[self.metric]
        return value >= self.value if self.at_most is None else value <= self.value

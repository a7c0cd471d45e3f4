"""What a run tells while it lives. An observer changes nothing: the record stays the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records import Record


@dataclass(frozen=True)
class Step:
    """One optimizer step that was done.

    Attributes:
        number: steps done, this one included; after a rollback it is smaller than before.
        metrics: of the step, see `experiments.training.loop.Training`; all of them are on the host already.
        seen: what all batches so far held, by name, for example tokens.
        active: names of the blocks that the step trained; none where a method has no blocks.
    """

    number: int
    metrics: Mapping[str, Any]
    seen: Mapping[str, int]
    active: tuple[str, ...]


class Observer:
    """What is told of a run, in this order: `start`, then steps and evaluations, then `end`. It does nothing here."""

    def start(self, steps: int, done: int, seen: Mapping[str, int]) -> None:
        """Training is about to begin, or to go on.

        Args:
            steps: of the whole run.
            done: steps that are done already.
            seen: as of `Step`, of the steps that are done.
        """

    def step(self, step: Step) -> None:
        """A step was done; nothing is computed on the device meanwhile, so be quick."""

    def evaluated(self, done: int, metrics: Mapping[str, Any]) -> None:
        """The model was evaluated after `done` steps."""

    def end(self, record: Record) -> None:
        """The run is over; this is its record. A run that fails early ends without having started."""

"""The learning rates that the tuning studies chose."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from records import Record

METHOD = "method"
OVER_EPOCHS = "tuning_regime"
"""What the names of the tuning studies over whole epochs begin with."""


@dataclass(frozen=True)
class Choice:
    """The choice for one method on one data set.

    Attributes:
        method: configuration name of the method.
        data: configuration name of the data set.
        rate: the learning rate.
        tried: how many learning rates were tried.
        failed: how many of them failed.
        at_edge: whether it is the least or the largest that was tried.
        over_epochs: whether the runs had whole epochs.
    """

    method: str
    data: str
    rate: float
    tried: int
    failed: int
    at_edge: bool
    over_epochs: bool


def choices(tuned: Iterable[Record]) -> Iterator[Choice]:
    """The choices of the studies that tune each method on a data set; those over model sizes too are left out."""
    for record in tuned:
        for choice in record.measurements["choices"]:
            if set(choice["cell"]) == {METHOD}:
                yield Choice(
                    method=choice["cell"][METHOD].rpartition("/")[2],
                    data=record.config["data"],
                    rate=choice["rate"],
                    tried=len(choice["tried"]),
                    failed=sum(loss is None for _, loss in choice["tried"]),
                    at_edge=choice["at_edge"],
                    over_epochs=record.config["study"].startswith(OVER_EPOCHS),
                )


def choices_by_model(tuned: Iterable[Record]) -> list[dict[str, Any]]:
    """What `choices` leaves out: the choices of studies that tune each method for models of several sizes."""
    every = [choice for record in tuned for choice in record.measurements["choices"]]
    return [choice for choice in every if set(choice["cell"]) != {METHOD}]

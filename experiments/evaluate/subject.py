"""The model under evaluation, and what an evaluation of it looks like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.errors import UserError


@dataclass(frozen=True)
class Subject:
    """The model under evaluation.

    Attributes:
        name: of the records.
        model: on its device, in evaluation mode.
        tokenizer: of the model.
        fingerprint: SHA-256 of the weights, the dtype and the kind of device.
        place: folder that keeps finished pieces of an interrupted evaluation; it is removed when its record is
            written.
    """

    name: str
    model: Any
    tokenizer: Any
    fingerprint: str
    place: Path


class PartialError(UserError):
    """Some of a part's items failed.

    Args:
        message: which, and why.
        measured: what the others gave.
    """

    def __init__(self, message: str, measured: dict[str, Any]) -> None:
        super().__init__(message)
        self.measured = measured


class Part(Protocol):
    """One part of an evaluation; its record's measurements are what calling it returns."""

    def fingerprint(self) -> str:
        """SHA-256 of everything that it reads besides its configuration and the model.

        Raises:
            UserError: when it cannot be read.
        """
        ...

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """The measurements, JSON values.

        Raises:
            PartialError: when a part of it failed; what was measured is recorded.
            UserError: for what the user can mend.
        """
        ...

    def size(self) -> dict[str, int]:
        """What is evaluated -> its number of items."""
        ...

    def compare(self, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        """What is compared -> difference, standard error, test, smallest detectable difference and verdict."""
        ...

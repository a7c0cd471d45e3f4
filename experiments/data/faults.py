"""Faults of rows: a line each, the first few of them in one error."""

from experiments.errors import UserError

SHOWN = 5
"""Faults whose lines an error has; of the others it has the number."""
CUT = 60
"""Characters of a value that a message shows."""


class Faults:
    """What is wrong with rows, told together: who mends a file wants to know of more than the first fault.

    Args:
        where: file or name of the rows; None where each place says it.
    """

    def __init__(self, where: object = None) -> None:
        self.where = where
        self._shown: list[str] = []
        self._count = 0

    def add(self, place: str, what: str) -> None:
        """Note a fault.

        Args:
            place: in the file, for example "row 3".
            what: is wrong there, with field, value and cure.
        """
        self._count += 1
        if len(self._shown) < SHOWN:
            self._shown.append(f"{'' if self.where is None else f'{self.where}, '}{place}: {what}")

    def check(self) -> None:
        """Raise UserError with a line for each of the first faults, when there is one."""
        if not self._count:
            return
        more = [f"{self._count} bad rows in all, of which these are the first {SHOWN}"] if self._count > SHOWN else []
        raise UserError("\n".join([*self._shown, *more]))


def shown(value: object) -> str:
    """A value for a message, cut.

    >>> shown("a" * 80)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    text = repr(value)
    return text if len(text) <= CUT else f"{text[:CUT]}..."

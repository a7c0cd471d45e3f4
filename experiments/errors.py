"""Errors that a user can mend: shown as one line, without a traceback."""


class UserError(ValueError):
    """A wrong configuration or a missing input. The message names the value and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

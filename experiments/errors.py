"""Errors that a user can mend: shown as one line, without a traceback."""


class UserError(ValueError):
    """A wrong configuration or a missing input. The message names the value and what to do."""

"""The Hugging Face hub where there may be no network: asked once, before its client asks for half a minute."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from experiments.errors import first_line

SECONDS = 10
"""How long the hub may take to answer at all."""


@contextmanager
def one_try() -> Iterator[None]:
    """Where the hub cannot be reached, the block has what the cache holds; whatever else it asks for fails at once.

    Raises:
        ConnectionError: with the reason why the hub cannot be reached, for what is not in the cache.
    """
    reason = unreachable()
    if not reason:
        yield
        return
    import datasets.config
    from huggingface_hub import constants

    with (
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
        mock.patch.object(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        try:
            yield
        except Exception as error:
            raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {reason}") from error


@contextmanager
def cached_only() -> Iterator[None]:
    """Inside the block the hub is not asked: what its cache does not hold is an error, and nothing is downloaded."""
    from huggingface_hub import constants

    with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
        yield


def unreachable() -> str:
    """Why the hub does not answer, in a line; "" where it does."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # the client raises many kinds; each means that there is no answer
        return first_line(error)
    return ""

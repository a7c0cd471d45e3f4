"""Partitions, visits, recomputation, generation and the chunked loss on every decoder of `tests.bcd.zoo`."""

import logging

import pytest

from tests.bcd.zoo import CHECKS, TYPES, results
from tests.cover import tiered

QUICK = ["llama", "gpt2", "lfm2", "mixtral"]


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.integration
@pytest.mark.parametrize("kind", tiered(TYPES, quick=QUICK))
def test_a_decoder_is_trained_right_or_refused_in_one_line(kind):
    found = results(kind)
    if "not built" in found:
        pytest.skip(found["not built"])
    assert found.keys() == CHECKS.keys()
    assert {name: value for name, value in found.items() if value.startswith("FAIL")} == {}


@pytest.mark.integration
@pytest.mark.parametrize("kind", QUICK)
def test_usual_decoders_are_refused_nothing(kind):
    assert set(results(kind).values()) == {"ok"}

"""The measurements on a real model."""

import pytest

from paper.read import practice
from records import RecordError
from tests.paper.small import practice_record


def test_a_measurement_without_the_visits_of_the_table_is_named():
    before = practice.states([practice_record()])[0]
    assert practice.visit(before, 0, practice.SHOWN_RATE, practice.SHOWN_STEPS)["observed"] > 0
    with pytest.raises(RecordError, match=r"no visit of block 0 with lr=0\.5, K=10"):
        practice.visit(before, 0, 0.5, 10)
    with pytest.raises(RecordError, match="no visit of K=7 steps"):
        practice.step_of(before, 7)

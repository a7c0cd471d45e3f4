"""The records of bounds, grouped."""

from paper.read import theorems
from tests.paper.checked import THEORY, record


def test_one_record_a_family_in_the_order_of_the_configuration() -> None:
    groups = theorems.by_bound([*THEORY, record("a1", tier="full")])
    assert [found.name for found in groups["a1"]] == ["a1-quadratic-full", "a1-logistic-quick"]
    assert list(groups) == ["a1", "badam_d4_printed", "d3", "z9_new"]

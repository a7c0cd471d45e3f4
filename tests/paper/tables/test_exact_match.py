"""Exact match over seeds and items: the error against simulation, the table, the sentence."""

from dataclasses import replace

import numpy as np
import pytest

from paper.numbers.matches import of_matches
from paper.read import matches, statistics
from paper.tables import exact_match
from records import RecordError
from tests.paper.synthetic import of

STUDY = of("regime_match")


def test_the_error_is_that_of_other_seeds_and_other_items() -> None:
    generator, seeds, items = np.random.default_rng(0), 5, 60
    means, variances, covered = [], [], 0
    for _ in range(2000):
        table = 0.3 + generator.normal(0, 0.2, (seeds, 1)) + generator.normal(0, 0.5, items)
        found = statistics.crossed((table + generator.normal(0, 1.0, (seeds, items))).tolist())
        means.append(found.mean)
        variances.append(found.error**2)
        covered += found.low <= 0.3 <= found.high
    expected = 0.2**2 / seeds + 0.5**2 / items + 1.0 / (seeds * items)
    assert np.var(means) == pytest.approx(expected, rel=0.1)
    assert np.mean(variances) == pytest.approx(expected, rel=0.1)
    assert 0.93 <= covered / 2000 <= 0.985


def test_one_kind_of_spread_alone_is_the_usual_error() -> None:
    by_seed = [0.1, 0.3, 0.2, 0.5]
    found = statistics.crossed([[value] * 50 for value in by_seed])
    usual = statistics.contrast({"a": 1, "b": -1}, {"a": dict(enumerate(by_seed)), "b": dict.fromkeys(range(4), 0.0)})
    assert usual is not None
    assert (found.mean, found.error, found.n) == pytest.approx((usual.mean, usual.error, usual.n))
    assert statistics.crossed([[0, 0], [0, 0]]).error == 0


@pytest.mark.parametrize("table", [[], [[1, 2]], [[1], [2]], [[1, 2], [1, 2, 3]]])
def test_too_few_seeds_or_items_are_refused(table: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="two seeds with the same two items"):
        statistics.crossed(table)


def test_methods_are_compared_on_the_same_items() -> None:
    found = {each.method: each for each in matches.compared(STUDY)}
    assert list(found) == sorted(found, key=lambda name: -found[name].share.mean)
    assert found["adamw"].difference is not None
    assert found["adamw"].difference.mean == pytest.approx(found["adamw"].share.mean - found["lora"].share.mean)
    assert found["adamw"].p is not None
    assert found["adamw"].p < 0.05
    assert (found["lora"].difference, found["lora"].p) == (None, None)
    text = exact_match.text(STUDY)
    assert text.count(" & ") == 6 * 4
    assert "LoRA & 5 & " in text
    macros = of_matches(STUDY)
    assert macros["StudyRegimeMatchDiffer"] == "AdamW"
    assert macros["StudyRegimeMatchItems"] == "400"


def test_other_questions_are_refused() -> None:
    first, *others = STUDY
    other = replace(first, provenance=first.provenance | {"test_rows": "another"})
    with pytest.raises(RecordError, match="answered 2 different sets of questions"):
        matches.compared([other, *others])

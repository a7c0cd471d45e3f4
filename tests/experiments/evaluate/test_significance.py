"""Fixed subsets, standard errors, tests and smallest detectable differences."""

import math
import random

import pytest
from scipy import stats

from experiments.evaluate.significance import (
    ALPHA,
    NOT_TESTABLE,
    POWER,
    mean_difference,
    paired,
    power_paired,
    share,
    shares,
    smallest_paired,
    unpaired,
    verdict,
)
from experiments.evaluate.subsets import chosen

ROWS = [{"id": i, "question": f"question {i}", "answer": i} for i in range(40)]


def test_a_subset_does_not_depend_on_the_order_or_on_ids():
    first = chosen(ROWS, ["question"], 10)
    mixed = [row | {"id": row["id"] + 1000} for row in random.Random(0).sample(ROWS, len(ROWS))]
    again = chosen(mixed, ["question"], 10)
    assert [row["question"] for row in first] == [row["question"] for row in again]
    assert len({row["question"] for row in first}) == 10
    assert [row["id"] for row in first] != sorted(row["id"] for row in first), "hashed, not the first rows"


def test_a_smaller_subset_begins_a_larger_one_and_repeated_items_count_once():
    assert chosen(ROWS, ["question"], 20)[:10] == chosen(ROWS, ["question"], 10)
    assert len(chosen([*ROWS, *ROWS], ["question"], 100)) == len(ROWS)
    changed = [row | {"question": row["question"] + "?"} for row in ROWS]
    assert [row["id"] for row in chosen(changed, ["question"], 10)] != [
        row["id"] for row in chosen(ROWS, ["question"], 10)
    ]


def test_rows_of_one_identity_are_chosen_by_content_not_by_place():
    twins = [{"question": "a", "answer": 1}, {"question": "a", "answer": 2}]
    assert chosen(twins, ["question"], 5) == chosen(twins[::-1], ["question"], 5)


def test_a_share_has_a_standard_error_an_interval_and_a_verdict_on_guessing():
    found = share([True] * 30 + [False] * 70, chance=0.25)
    assert found["share"] == 0.3
    assert found["standard_error"] == pytest.approx(math.sqrt(0.3 * 0.7 / 99))
    assert found["interval"][0] < 0.3 < found["interval"][1]
    assert not found["above_guessing"]
    assert found["p_guessing"] == pytest.approx(stats.binom.sf(29, 100, 0.25))
    assert share([True] * 40 + [False] * 60, chance=0.25)["above_guessing"]
    assert not share([True] * 60 + [False] * 40, chance=0.5, constant=0.62)["above_guessing"], "always yes is as good"
    assert share([True] + [False] * 99, chance=0.0)["above_guessing"], "one right answer is no guess"
    assert not share([False] * 99, chance=0.0)["above_guessing"]
    assert found["right"] == "1" * 30 + "0" * 70


def test_the_paired_difference_is_mcnemar():
    before = [True] * 5 + [False] * 15 + [True] * 80
    after = [False] * 5 + [True] * 15 + [True] * 80
    found = paired(before, after)
    assert (found["gained"], found["lost"]) == (15, 5)
    assert found["difference"] == pytest.approx(0.1)
    assert found["p"] == pytest.approx(2 * stats.binom.cdf(5, 20, 0.5))
    steps = [b - a for a, b in zip(before, after, strict=True)]
    assert found["standard_error"] == pytest.approx(stats.sem(steps))
    with pytest.raises(ValueError, match="100 and 99 items"):
        paired(before, after[1:])


@pytest.mark.parametrize(("n", "discordant"), [(60, 0.1), (200, 0.3), (500, 0.0), (500, 0.05), (500, 0.4)])
@pytest.mark.parametrize("alpha", [ALPHA, ALPHA / 12])
def test_the_smallest_detectable_difference_is_detected_with_the_power_and_a_smaller_one_is_not(n, discordant, alpha):
    least = smallest_paired(n, discordant, alpha)
    assert least is not None
    assert power_paired(n, max(least, discordant), least, alpha) >= POWER
    smaller = 0.97 * least
    assert power_paired(n, max(smaller, discordant), smaller, alpha) < POWER


@pytest.mark.integration
def test_the_power_is_that_of_simulated_experiments():
    n, discordant, difference = 80, 0.3, 0.16
    draw, rejected, trials = random.Random(1), 0, 2000
    for _ in range(trials):
        m = sum(draw.random() < discordant for _ in range(n))
        gained = sum(draw.random() < (1 + difference / discordant) / 2 for _ in range(m))
        rejected += m > 0 and stats.binomtest(gained, m).pvalue <= ALPHA
    expected = power_paired(n, discordant, difference, ALPHA)
    assert abs(rejected / trials - expected) < 4 * math.sqrt(expected * (1 - expected) / trials)


def test_too_few_items_detect_nothing():
    assert smallest_paired(5, 0.2) is None  # five of five in one direction have p = 1/16
    found = shares(result([False] * 5), result([True] * 5), ALPHA)
    assert found["difference"] == 1
    assert found["verdict"] == NOT_TESTABLE


def result(right, chance=0.0, rows="the same"):
    return share(right, chance=chance) | {"rows": rows}


def test_verdicts():
    low, high = [True] * 100 + [False] * 400, [True] * 180 + [False] * 320
    assert shares(result(low), result(high), ALPHA)["verdict"] == "better"
    assert shares(result(high), result(low), ALPHA)["verdict"] == "worse"
    close = [True] * 104 + [False] * 396
    assert shares(result(low), result(close), ALPHA)["verdict"] == NOT_TESTABLE
    at_chance = shares(result(low, chance=0.5), result(high, chance=0.5), ALPHA)
    assert at_chance["p"] < ALPHA
    assert at_chance["verdict"] == NOT_TESTABLE, "two models that guess are not compared"
    others = shares(result(low), result(high, rows="others"), ALPHA)
    assert others["kind"] == "different items"
    assert others["verdict"] == "better"


def test_unpaired_differences_have_fishers_test_and_a_detectable_difference_at_zero():
    found = unpaired([False] * 500, [True] * 10 + [False] * 490)
    assert found["p"] == pytest.approx(stats.fisher_exact([[0, 500], [10, 490]])[1])
    assert found["smallest_detectable"] > 0
    assert unpaired([False] * 500, [False] * 500)["smallest_detectable"] > 0


def test_mean_difference_with_equal_weights_is_the_paired_t_test():
    draw = random.Random(3)
    before = [draw.gauss(2, 1) for _ in range(30)]
    after = [value - 0.4 + draw.gauss(0, 0.5) for value in before]
    found = mean_difference(before, after, [1.0] * 30)
    known = stats.ttest_rel(after, before)
    assert found["p"] == pytest.approx(known.pvalue, rel=1e-9)
    assert found["standard_error"] == pytest.approx(found["difference"] / known.statistic, rel=1e-9)
    assert verdict(found, ALPHA, larger_is_better=False) == "better"
    assert verdict(found, ALPHA) == "worse"


def test_a_mean_difference_weighs_items_by_their_tokens():
    found = mean_difference([10.0, 1.0], [12.0, 1.0], [4, 1])
    assert found["difference"] == pytest.approx(2 / 5)
    # d = (2, 0), D = 0.4: residuals 0.4 and -0.4, so sqrt(2 * 0.32) / 5
    assert found["standard_error"] == pytest.approx(math.sqrt(2 * 0.32) / 5)
    with pytest.raises(ValueError, match="cannot be paired"):
        mean_difference([1.0], [1.0], [1.0])


@pytest.mark.slow
def test_the_smallest_detectable_mean_difference_has_the_power():
    draw, n, trials = random.Random(5), 40, 1500
    least = (stats.t(n - 1).ppf(1 - ALPHA / 2) + stats.t(n - 1).ppf(POWER)) / math.sqrt(n)  # of unit variance
    rejected = 0
    for _ in range(trials):
        found = mean_difference([0.0] * n, [draw.gauss(least, 1) for _ in range(n)], [1.0] * n)
        rejected += found["p"] <= ALPHA
    assert rejected / trials == pytest.approx(POWER, abs=4 * math.sqrt(0.16 / trials))

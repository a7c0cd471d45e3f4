"""Differences of records: paired by seed and by item, with intervals, and refused where they mean nothing."""

import random
import re

import numpy as np
import pytest
from scipy import stats

from experiments import compare
from experiments.compare import Side, side
from experiments.errors import UserError
from experiments.evaluate.significance import holm, mean_difference, paired
from paper.read import statistics
from records import Record, write
from tests.commands import run_module

DATA = {"_target_": "x.Data", "source": {"hub": "a/b"}, "max_tokens": 64}


def trained(name, seed, loss, *, config=None, after=None, test=None, **fields):
    return Record(
        kind="train",
        study="small",
        name=f"{name}-seed{seed}",
        key=f"{name}{seed}",
        status=fields.pop("status", "finished"),
        config={"seed": seed, "data": DATA, "model": {"path": "m"}, "choices": {"method": name}} | (config or {}),
        measurements={"after": {"heldout_loss": loss, "items": 4} | (after or {})} | ({"test": test} if test else {}),
        provenance={"test_rows": "r"},
        **fields,
    )


def sides(*losses, **options):
    """Two sides with a run for each seed."""
    names = ("a", "b")
    return [
        Side(name, tuple(trained(name, seed, loss, **options) for seed, loss in enumerate(listed)))
        for name, listed in zip(names, losses, strict=True)
    ]


def test_runs_are_paired_by_seed_as_the_paper_does():
    first, second = [1.0, 2.0, 3.5, 2.5], [1.2, 2.1, 3.9, 2.4]
    (found,) = compare.compare(*sides(first, second))
    expected = statistics.contrast({"b": 1, "a": -1}, {"a": dict(enumerate(first)), "b": dict(enumerate(second))})
    assert (found.metric, found.pairs, found.n) == ("held-out loss", "seeds", 4)
    assert found.difference == pytest.approx(expected.mean)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.p == pytest.approx(expected.p)
    theirs = stats.ttest_rel(second, first)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))


def test_one_seed_has_a_difference_and_no_interval():
    a, b = sides([1.0], [0.5])
    (found,) = compare.compare(a, b)
    assert found.difference == -0.5
    assert np.isnan([found.low, found.high, found.p]).all()
    assert "none                       1 seed\none seed has no interval" in compare.table(a, [b])


def test_what_both_have_of_each_item_is_paired_item_by_item():
    draw = random.Random(0)
    tests = [
        {
            "heldout_loss": 1.0,
            "losses": [draw.random() for _ in range(50)],
            "tokens": [draw.randint(1, 9) for _ in range(50)],
            "right": [draw.random() < 0.5 for _ in range(50)],
        }
        for _ in range(2)
    ]
    tests[1]["tokens"] = tests[0]["tokens"]
    a, b = (Side(name, (trained(name, 0, 1.0, test=test),)) for name, test in zip("ab", tests, strict=True))
    items = {each.metric: each for each in compare.compare(a, b) if each.pairs == "items"}
    loss = mean_difference(tests[0]["losses"], tests[1]["losses"], tests[0]["tokens"])
    assert items["test loss"].difference == pytest.approx(loss["difference"])
    assert items["test loss"].p == loss["p"]
    right = paired(tests[0]["right"], tests[1]["right"])
    assert items["test exact match"].difference == pytest.approx(right["difference"])
    assert items["test exact match"].p == right["p"]
    assert items["test exact match"].n == 50


def test_right_answers_of_several_seeds_are_averaged_for_each_item():
    found = compare.right_items("x", [[True, False, True], [True, True, False]], [[True] * 3, [True] * 3])
    theirs = stats.ttest_rel([1, 1, 1], [1, 0.5, 0.5])
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))


def test_holm_is_that_of_the_paper():
    draw = random.Random(1)
    for count in (1, 2, 7):
        p = [draw.random() ** 3 for _ in range(count)]
        assert holm(p) == pytest.approx(statistics.holm(p))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"data": DATA | {"source": {"hub": "c/d"}}}, "^data.source.hub: a/b in a, c/d in b; they cannot"),
        ({"data": DATA | {"max_tokens": 32}}, "^data.max_tokens: 64 in a, 32 in b"),
        ({"model": {"path": "other"}}, "^model.path: m in a, other in b"),
    ],
)
def test_other_data_and_models_are_refused_by_name(config, message):
    a, b = (Side(n, (trained(n, 0, 1.0, config=c),)) for n, c in (("a", {}), ("b", config)))
    with pytest.raises(UserError, match=message):
        compare.compare(a, b)


def test_other_rows_items_and_seeds_are_refused():
    a = Side("a", (trained("a", 0, 1.0),))
    other = trained("b", 0, 1.0)
    other.provenance["test_rows"] = "s"
    with pytest.raises(UserError, match="rows of the test part differ between a and b"):
        compare.compare(a, Side("b", (other,)))
    with pytest.raises(UserError, match="4 held-out items in a, 5 in b"):
        compare.compare(a, Side("b", (trained("b", 0, 1.0, after={"items": 5}),)))
    with pytest.raises(UserError, match="a has the seeds 0 and b the seeds 1"):
        compare.compare(a, Side("b", (trained("b", 1, 1.0),)))


def test_places_of_a_run_a_cell_and_its_seeds(tmp_path):
    for seed in range(3):
        write(trained("a", seed, 1.0), tmp_path)
        write(trained("b", seed, 2.0), tmp_path)
    folder = tmp_path / "small"
    assert len(side(str(folder / "a")).records) == 3
    assert len(side(str(folder / "a-seed1")).records) == 1
    assert len(side(str(folder / "a-seed1.json")).records) == 1
    assert [r.config["seed"] for r in side(str(folder / "a-seed1.json"), seeds=True).records] == [0, 1, 2]
    with pytest.raises(UserError, match=r"has several runs; name one: small/a, small/b"):
        side(str(folder))
    with pytest.raises(UserError, match=r"the study small has no c; it has a, b"):
        side(str(folder / "c"))
    with pytest.raises(UserError, match=r"there is no study nothing; there are .*headline"):
        side("nothing/a")
    write(trained("c", 0, 1.0, status="failed", error="broken"), tmp_path)
    with pytest.raises(UserError, match=r"c-seed0 is failed \(broken\); only finished records"):
        side(str(folder / "c"))


def test_committed_cells_give_what_the_readme_says():
    done = run_module("experiments.compare", "headline/gsm8k-adamw", "headline/gsm8k-badam", "headline/gsm8k-lora")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["headline/gsm8k-badam minus headline/gsm8k-adamw", "  method: adamw -> badam"]
    (badam, _) = (line for line in lines if line.startswith("test loss"))
    assert "+0.1192  [+0.1170, +0.1214]        5 seeds" in badam
    assert "headline/gsm8k-lora minus headline/gsm8k-adamw" in lines


def test_committed_evaluations_are_compared_task_by_task():
    done = run_module(
        "experiments.compare", "downstream/untrained-gsm8k-downstream", "downstream/badam-gsm8k-downstream"
    )
    assert done.returncode == 0, done.stderr
    (boolq,) = (line.split() for line in done.stdout.splitlines() if line.startswith("boolq"))
    assert boolq[1:4] == ["0.4440", "0.5400", "+0.0960"]
    assert float(boolq[-1]) == pytest.approx(12 * float(boolq[-2]), rel=0.05), "the smallest of twelve"


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["headline/gsm8k-badam"], "alone has no difference"),
        (["headline/gsm8k-badam", "cost/badam-fused-8192"], "is a profile record"),
        (
            ["headline/gsm8k-badam", "headline/alpaca_cleaned-badam"],
            "^error: data: gsm8k in headline/gsm8k-badam, alpaca_cleaned in headline/alpaca_cleaned-badam; they",
        ),
        (
            ["downstream/untrained-gsm8k-downstream", "downstream/badam-gsm8k-reasoning_gym"],
            "part: untrained-gsm8k-downstream is of downstream, badam-gsm8k-reasoning_gym of reasoning_gym",
        ),
        (["headline/gsm8k-badam", "downstream/badam-gsm8k-downstream"], "nothing that both have"),
    ],
)
def test_what_cannot_be_compared_is_one_line(places, message):
    done = run_module("experiments.compare", *places)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1

    assert re.search(message, done.stderr), done.stderr

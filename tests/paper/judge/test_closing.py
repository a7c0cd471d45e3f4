"""Whether variants close the gap, and whether it is their block: every verdict can come out in every way."""

import pytest

from paper.judge import closing
from paper.judge.closing import Closing, Cost
from paper.read import studies
from paper.read.studies import Row
from paper.tables import closing as table
from tests.paper.synthetic import frontier_cost, of, run

LORA, ADAMW = [0.620, 0.622, 0.618], [0.600, 0.602, 0.598]
"""Untrained 1.4, so that AdamW gains 0.8 and the margin is 0.04."""
SMALL, LARGE = Cost(21e9, 0.5), Cost(30e9, 0.7)
METHODS = ("bread_sign", "above_sign", "above_sign_equal", "above_factored", "badam")
COSTS = {"lora": Cost(23e9, 0.6), "above_sign": SMALL, "above_sign_twin": Cost(20e9, 0.5)}


def rows(method: str, losses: list[float]) -> list[Row]:
    choices = {"partition": "by_layer", "rule": "sign" if method.endswith("twin") else "adam"}
    if not method.startswith(("above", "bread", "badam")):
        choices = {"partition": "single"}
    return [Row(run("regime_gsm8k", method, method, seed, x, choices=choices)) for seed, x in enumerate(losses)]


def judged(costs: dict[str, Cost] = COSTS, **losses: list[float]) -> dict[str, Closing]:
    cells = {name: rows(name, x) for name, x in {"lora": LORA, "adamw": ADAMW, **losses}.items()}
    return {each.method: each for each in closing.judge(cells, costs)}


def shifted(by: float) -> list[float]:
    return [x + by + e for x, e in zip(LORA, (0.0, 0.001, -0.001), strict=True)]


@pytest.mark.parametrize(
    ("by", "costs", "closes", "reaches"),
    [
        (0.01, COSTS, True, False),
        (-0.01, COSTS, True, True),
        (0.06, COSTS, False, False),
        (-0.01, COSTS | {"above_sign": LARGE}, False, True),
        (-0.01, COSTS | {"above_sign": Cost(21e9, 0.7)}, False, True),
        (-0.01, COSTS | {"above_sign": Cost(21e9)}, None, True),
        (-0.01, COSTS | {"above_sign": Cost(30e9)}, False, True),
        (0.06, {}, False, False),
    ],
)
def test_the_gap_is_closed_by_loss_bytes_and_time_together(by, costs, closes, reaches):
    found = judged(costs, above_sign=shifted(by))["above_sign"]
    assert (found.closes, found.reaches) == (closes, reaches)
    assert found.margin == pytest.approx(0.05 * (1.4 - 0.6))


@pytest.mark.parametrize(
    ("by", "ours", "helps"),
    [
        (-0.02, LARGE, True),
        (0.0, LARGE, False),
        (0.0, Cost(19e9, 0.5), True),
        (0.0, Cost(21e9, 0.4), True),
        (0.06, Cost(19e9, 0.4), False),
    ],
)
def test_the_block_contributes_by_a_lower_loss_or_by_a_lower_cost(by, ours, helps):
    found = judged(COSTS | {"above_sign": ours}, above_sign=shifted(by), above_sign_twin=LORA)["above_sign"]
    assert found.twin == "above_sign_twin"
    assert found.block_helps == helps


def test_p_values_are_adjusted_over_the_variants():
    alone = judged(above_sign=shifted(0.03))["above_sign"].p
    beside = judged(above_sign=shifted(0.03), above_factored=shifted(0.03), badam=shifted(0.03))
    assert list(beside) == ["above_sign", "above_factored", "badam"]
    assert beside["above_sign"].p == pytest.approx(3 * alone)


def test_twins_are_those_of_the_plan():
    cells = {name: rows(name, LORA) for name in ("bread_sign", "above_sign", "above_sign_twin", "sign", "factored")}
    twins = {name: closing.twin_of(name, cells) for name in METHODS}
    assert twins == {
        "bread_sign": "sign",
        "above_sign": "above_sign_twin",
        "above_sign_equal": "above_sign_twin",
        "above_factored": "factored",
        "badam": "",
    }
    found = judged(badam=shifted(0.0), sign=LORA, above_sign_twin=LORA)
    assert list(found) == ["badam"], "methods without a block of Adam are no variants"
    assert found["badam"].block_helps is None


def test_without_lora_or_adamw_nothing_is_judged():
    assert closing.judge({"lora": rows("lora", LORA), "badam": rows("badam", LORA)}, {}) == []
    assert closing.judge({"adamw": rows("adamw", LORA), "badam": rows("badam", LORA)}, {}) == []


def test_a_variant_must_close_the_gap_on_every_data_set():
    one, other = (judged(above_sign=shifted(by))["above_sign"] for by in (0.0, 0.06))
    unknown = judged({}, above_sign=shifted(0.0))["above_sign"]
    told = {
        pair: closing.closes_everywhere("above_sign", {"gsm8k": [first], "alpaca": second})
        for pair, first, second in (
            ("both", one, [one]),
            ("one", one, [other]),
            ("missing", one, []),
            ("unknown", unknown, [one]),
            ("unknown, and one not", unknown, [other]),
        )
    }
    assert told == {"both": True, "one": False, "missing": None, "unknown": None, "unknown, and one not": False}


def test_the_table_has_every_variant_and_what_was_not_run():
    given = {name: of(name) for name in studies.REGIME}
    costs = [frontier_cost("lora", peak=23e9), frontier_cost("above_sign", peak=21e9)]
    text = table.text(costs, [], **given)
    assert text.count("\nsign above & ") == 2
    assert "& no Adam &" in text
    assert "& 21.0 & -- & --, " in text, "without a time the gap is not told"
    assert "margin 0.0" in text
    only = {"regime_gsm8k": [r for r in of("regime_gsm8k") if r.config["choices"]["method"] == "lora"]}
    assert "LoRA or AdamW not run" in table.text([], [], **only)

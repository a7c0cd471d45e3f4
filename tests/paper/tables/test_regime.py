"""The tables of the studies over whole epochs."""

from paper.read import statistics, studies
from paper.tables import regime_in_numbers, regime_orders_in_numbers, regime_variants_in_numbers
from tests.paper.synthetic import of

MAIN = {name: of(name) for name in studies.REGIME}


def row(text: str, begin: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(begin)).removesuffix(r" \\").split(" & ")


def test_every_method_has_its_differences_on_every_data_set() -> None:
    text = regime_in_numbers.text(**MAIN)
    assert r"\emph{GSM8K, three epochs}" in text
    assert r"\emph{Alpaca, three epochs}" in text
    assert text.count("\nBAdam & ") == 2
    cells = studies.by_data(studies.rows(studies.over_epochs(MAIN)))["gsm8k"]
    losses = {name: studies.losses(runs) for name, runs in cells.items()}
    difference = statistics.contrast({"badam": 1, "lora": -1}, losses)
    assert difference is not None
    assert row(text, "BAdam & ")[4] == f"${difference.mean:+.3f}$"
    assert row(text, "LoRA & ")[4:6] == ["--", "--"]


def test_variants_stand_beside_the_held_out_losses_of_the_main_study() -> None:
    main = {name: of(name) for name in ("regime_gsm8k", "regime_rules_gsm8k")}
    text = regime_variants_in_numbers.text(regime_variants=of("regime_variants"), **main)
    assert row(text, "2 layers, sign above & ")[2] == "3"
    assert row(text, "BAdam* & ")[2] == "5"
    rows = [r for r in studies.rows(main["regime_gsm8k"]) if r.data == "gsm8k" and r.method == "lora"]
    assert row(text, "LoRA* & ")[3].startswith(f"${sum(r.loss for r in rows) / len(rows):.3f}")
    alone = regime_variants_in_numbers.text(of("regime_variants"), [], [])
    assert row(alone, "16 parts of rows & ")[4:] == ["--", "--"]


def test_orders_are_compared_with_the_usual_one() -> None:
    text = regime_orders_in_numbers.text(of("regime_orders"))
    assert "minus random reshuffle, $K=7$" in text
    assert row(text, "random reshuffle, $K=7$ & ")[3:] == ["--", "--"]
    assert row(text, "random reshuffle, $K=1$ & ")[3].startswith("$+0.00")

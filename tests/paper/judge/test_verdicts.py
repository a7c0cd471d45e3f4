"""Verdicts: every rule can come out in every way, what is missing is said, and the table shows what was judged."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from paper.judge import claims, verdicts
from paper.judge.claims import CLAIMS, EQUIVALENT, MEASURED, NOT_INFERIOR, RULES, SUPERIOR, Claim
from paper.read import statistics, studies
from paper.tables import claims as table
from paper.tables import claims_of_cost, claims_of_options
from records import COMMITTED, ROOT, Record, load_study
from tests.paper.synthetic import PROVENANCE, run

MARGIN = 0.01
CONTRAST = ({"badam": 1, "lora": -1},)


def difference(mean: float, error: float = 0.001) -> statistics.Difference:
    half = 4.303 * error  # t with two degrees of freedom
    return statistics.Difference(mean, mean - half, mean + half, 3, error)


@pytest.mark.parametrize(
    ("rule", "mean", "error", "supported", "refuted"),
    [
        (SUPERIOR, -0.05, 0.001, True, False),
        (SUPERIOR, 0.05, 0.001, False, True),
        (SUPERIOR, -0.001, 0.001, False, True),  # an advantage of the margin is excluded
        (SUPERIOR, -0.02, 0.02, False, False),
        (NOT_INFERIOR, 0.002, 0.001, True, False),
        (NOT_INFERIOR, -0.05, 0.001, True, False),
        (NOT_INFERIOR, 0.05, 0.001, False, True),
        (NOT_INFERIOR, 0.012, 0.005, False, False),
        (EQUIVALENT, 0.001, 0.001, True, False),
        (EQUIVALENT, -0.05, 0.001, False, True),
        (EQUIVALENT, 0.05, 0.001, False, True),
        (EQUIVALENT, 0.0, 0.02, False, False),
    ],
)
@pytest.mark.parametrize("lower", [True, False])
def test_every_rule_comes_out_every_way(
    rule: str, mean: float, error: float, supported: bool, refuted: bool, lower: bool
) -> None:
    d = difference(mean if lower else -mean, error)
    p, against = verdicts.tested(rule, d, MARGIN, lower=lower)
    assert (p <= 0.05, against) == (supported, refuted)


def test_a_rule_without_a_test_is_refused() -> None:
    with pytest.raises(ValueError, match="rule='measured' is not possible"):
        verdicts.tested(MEASURED, difference(0.0), MARGIN, lower=True)


def claim(**changes: Any) -> Claim:
    return replace(Claim("x", "Section 1", SUPERIOR, "final loss", ("headline", "methods"), CONTRAST), **changes)


def losses(study: str = "headline", data: str = "gsm8k", **cells: list[float]) -> list[Record]:
    return [
        run(study, f"{data}-{method}", method, seed, loss, choices={"data": data})
        for method, values in cells.items()
        for seed, loss in enumerate(values)
    ]


def judged(records: dict[str, list[Record]], **changes: Any) -> verdicts.Judged:
    (found,) = verdicts.judge(records, [claim(**changes)])
    return found


BETTER = {"badam": [0.50, 0.51, 0.49], "lora": [0.70, 0.715, 0.69]}
WORSE = {"badam": BETTER["lora"], "lora": BETTER["badam"]}
OPEN = {"badam": [0.50, 0.72, 0.60], "lora": [0.70, 0.60, 0.65]}


def test_a_claim_holds_only_if_it_holds_on_every_data_set() -> None:
    both = losses(**BETTER) + losses(data="alpaca_cleaned", **BETTER)
    assert judged({"headline": both}).verdict == verdicts.SUPPORTED
    settings = [f.setting for f in judged({"headline": both}).findings]
    assert settings == [
        verdicts.Setting(data, "SmolLM2-135M", "held-out", "420", "one epoch", 3) for data in ("GSM8K", "Alpaca")
    ]
    one = losses(**BETTER) + losses(data="alpaca_cleaned", **OPEN)
    assert judged({"headline": one}).verdict == verdicts.TOO_FEW_SEEDS
    assert judged({"headline": one + losses(data="math", **WORSE)}).verdict == verdicts.NOT_SUPPORTED


def test_p_values_of_a_claim_are_adjusted_together() -> None:
    (alone,) = judged({"headline": losses(**BETTER)}).findings
    both = judged({"headline": losses(**BETTER) + losses(data="math", **BETTER)}).findings
    assert alone.p is not None
    assert [finding.p for finding in both] == pytest.approx([2 * alone.p] * 2)


def test_the_first_study_with_records_is_used_and_a_test_part_counts_where_it_was_read() -> None:
    methods = losses("methods", **BETTER)
    assert judged({"headline": [], "methods": methods}).study == "methods"
    read = [replace(r, measurements=r.measurements | {"test": {"heldout_loss": 1.0}}) for r in losses(**BETTER)]
    (finding,) = judged({"headline": read, "methods": methods}).findings
    assert finding.effect == 0.0


def test_without_records_or_without_a_side_there_is_no_verdict() -> None:
    assert judged({}).verdict == verdicts.NOT_RUN
    assert judged({"headline": losses(badam=[0.5, 0.6])}).verdict == verdicts.NOT_RUN
    assert judged({"headline": losses(badam=[0.5], lora=[0.6])}).verdict == verdicts.NOT_RUN


def test_the_margin_is_a_twentieth_of_what_the_other_gains() -> None:
    (finding,) = judged({"headline": losses(badam=[0.5, 0.6], lora=[0.4, 0.4])}).findings
    assert finding.margin == pytest.approx(0.05 * (1.4 - 0.4))


def test_a_higher_rank_is_the_better_one() -> None:
    def of(method: str, seed: int, share: float) -> Record:
        matrix = {"shape": [100, 400], "rank_90": round(100 * share), "stable_rank": 1.0, "values": [1.0]}
        return run("rank", method, method, seed, 0.5, measured={"spectrum": {"matrices": {"w": matrix}}})

    records = [of("badam", s, 0.6 + 0.01 * s) for s in range(3)] + [of("lora", s, 0.02) for s in range(3)]
    found = judged({"rank": records}, measure="rank", studies=("rank",))
    assert found.verdict == verdicts.SUPPORTED
    assert found.findings[0].effect == pytest.approx(0.59)
    turned = judged({"rank": records}, measure="rank", studies=("rank",), contrasts=({"lora": 1, "badam": -1},))
    assert turned.verdict == verdicts.NOT_SUPPORTED


def test_training_loss_is_the_mean_of_the_last_tenth() -> None:
    steps = {"loss": [9.0] * 18 + [1.0, 3.0], "seconds": [0.1] * 20}
    assert verdicts.training_loss(studies.Row(run("s", "n", "badam", 0, 0.5, measured={"steps": steps}))) == 2.0


def compared(after: str, before: str, part: str = "downstream", **differences: float) -> Record:
    config = {"part": part, "about": {"method": after, "model": "m", "data": "gsm8k", "baseline": before}}
    measured = {
        task: {"difference": difference, "standard_error": 0.01, "items": 500, "verdict": "better", "p": 0.001}
        for task, difference in differences.items()
    }
    return Record("compare", "downstream", f"{after}-{before}-{part}", "k", "finished", config, measured, PROVENANCE)


@pytest.mark.parametrize(
    ("rule", "differences", "verdict"),
    [
        (verdicts.SUPERIOR, (0.05, 0.0), verdicts.SUPPORTED),
        (verdicts.SUPERIOR, (0.03, -0.01), verdicts.TOO_FEW_ITEMS),
        (verdicts.SUPERIOR, (-0.02, 0.01), verdicts.NOT_SUPPORTED),
        (verdicts.NOT_INFERIOR, (0.02, -0.02), verdicts.SUPPORTED),
        (verdicts.NOT_INFERIOR, (-0.02, -0.01), verdicts.TOO_FEW_ITEMS),
        (verdicts.NOT_INFERIOR, (-0.05, -0.04), verdicts.NOT_SUPPORTED),
    ],
)
def test_downstream_the_mean_of_the_tasks_counts(rule: str, differences: tuple[float, float], verdict: str) -> None:
    records = [
        compared("badam", "lora", gsm8k=differences[0], math=differences[1]),
        compared("badam", "lora", "reasoning_gym", loss=9.0),
        compared("badam_blocks5", "lora", gsm8k=9.0),
        compared("badam", "untrained", gsm8k=9.0),
    ]
    found = judged({"downstream": records}, measure="downstream", studies=("downstream",), rule=rule)
    assert found.verdict == verdict
    (finding,) = found.findings
    assert finding.effect == pytest.approx(sum(differences) / 2)
    assert finding.high is not None
    assert finding.high - finding.effect == pytest.approx(1.96 * 0.01 / 2**0.5, rel=1e-2)


def test_the_claims_about_cost_are_judged_on_the_committed_runs() -> None:
    found = verdicts.judge({"cost": load_study("cost", kind="profile", folder=COMMITTED)})
    measured = [j for j in found if j.claim.rule == MEASURED]
    assert len(measured) == 5
    assert all(j.findings for j in measured)
    assert all(j.verdict == verdicts.NOT_RUN for j in found if j.claim.rule != MEASURED)
    too_much = [replace(j.claim, bound=0.01) for j in measured]
    stricter = verdicts.judge({"cost": load_study("cost", kind="profile", folder=COMMITTED)}, too_much)
    assert {j.verdict for j in stricter} == {verdicts.NOT_SUPPORTED}


def test_no_claim_depends_on_the_name_of_a_run() -> None:
    sources = claims.SOURCES | claims.STUDIES
    read = {name: load_study(study, kind=kind, folder=COMMITTED) for name, (kind, study) in sources.items()}
    judged = verdicts.judge(read)
    assert verdicts.NOT_RUN not in {j.verdict for j in judged}
    renamed = {
        study: [
            replace(record, name=f"run {len(runs) - i:03d}", config=_nameless(record)) for i, record in enumerate(runs)
        ]
        for study, runs in read.items()
    }
    assert verdicts.judge(renamed) == judged


def _nameless(record: Record) -> dict[str, Any]:
    """The configuration without the names of other runs, which a comparison has."""
    return {key: value for key, value in record.config.items() if key not in ("before", "after")}


def test_the_list_of_claims_can_be_evaluated() -> None:
    assert {c.rule for c in CLAIMS} == set(RULES)
    for c in CLAIMS:
        known = verdicts.RATIOS.keys() | {"card"} if c.rule == MEASURED else verdicts.MEASURES.keys() | {"downstream"}
        assert c.measure in known
        assert c.axis in verdicts.AXES
        assert set(c.studies) <= claims.STUDIES.keys() | claims.SOURCES.keys()
    with pytest.raises(ValueError, match="must sum to 0"):
        claim(contrasts=({"badam": 1},))
    with pytest.raises(ValueError, match="rule='best' is not one of"):
        claim(rule="best")


def test_the_table_has_every_claim_its_numbers_and_what_is_missing() -> None:
    cost = load_study("cost", kind="profile", folder=COMMITTED)
    text, of_options = (each.text(cost=cost, headline=losses(**WORSE)) for each in (table, claims_of_options))
    of_cost = claims_of_cost.text(cost=cost)
    for each in CLAIMS:
        assert [each.said in part for part in (text, of_options, of_cost)].count(True) == 1
        assert (each.said in of_cost) == (each.rule == MEASURED)
    effect = "$+0.202$ $[+0.194, +0.209]$"
    assert rf"GSM8K & SmolLM2-135M & 420 & held-out & 3 & {effect} & worse & 0.045 & 0.009 \\" in text
    assert "study order: not run" in of_options
    assert text.count(r"\textbf{not supported at one epoch}") == 2
    quality = [each for each in CLAIMS if each.rule != MEASURED]
    assert (text + of_options).count("8B: not tested") == len(quality)


@pytest.mark.parametrize(("axis", "key"), [("order", "order"), ("inner_steps", "method.inner_steps")])
def test_the_claims_compare_what_the_frozen_studies_have(axis: str, key: str) -> None:
    frozen = yaml.safe_load((ROOT / "conf" / "study" / f"{axis}.yaml").read_text())
    compared = {cell for each in CLAIMS if each.axis == axis for contrast in each.contrasts for cell in contrast}
    runs = studies.rows(load_study(axis, kind="train", folder=COMMITTED))
    cells = {verdicts.AXES[axis](row) for row in runs}
    assert compared
    assert compared <= cells
    assert len(cells) == len(frozen["axes"][key])


def test_the_ratios_stand_beside_what_they_may_not_exceed() -> None:
    cost = load_study("cost", kind="profile", folder=COMMITTED)
    text = claims_of_cost.text(cost=cost)
    rows = re.findall(r"^cost & .*? & (\d+\.\d\d) (times|GB) & (\d+\.\d\d) \\\\$", text, re.MULTILINE)
    findings = [f for j in verdicts.judge({"cost": cost}) if j.claim.rule == MEASURED for f in j.findings]
    assert [row[0] for row in rows] == [f"{finding.effect:.2f}" for finding in findings]
    assert [float(ours) <= float(most) for ours, _, most in rows] == [
        f.verdict == verdicts.SUPPORTED for f in findings
    ]
    assert r"$2\times1{,}024$ tokens" in text
    assert "study cost: not run" in claims_of_cost.text(cost=[])


@pytest.mark.parametrize(
    ("rule", "mean", "worse"),
    [
        (SUPERIOR, 0.05, True),
        (SUPERIOR, -0.001, False),  # refuted, and yet better
        (NOT_INFERIOR, 0.05, True),
        (NOT_INFERIOR, 0.007, False),  # worse, by less than the margin
        (EQUIVALENT, 0.05, False),  # has no better side
    ],
)
@pytest.mark.parametrize("lower", [True, False])
def test_worse_is_said_where_the_whole_interval_contradicts_the_claim(
    rule: str, mean: float, worse: bool, lower: bool
) -> None:
    d = difference(mean if lower else -mean)
    assert verdicts.is_worse(rule, d, MARGIN, lower=lower) == worse
    if worse:
        assert verdicts.tested(rule, d, MARGIN, lower=lower)[0] > 0.95


def test_a_claim_is_judged_again_on_every_longer_study_that_has_runs() -> None:
    records = {"headline": losses(**WORSE), "equal_time": losses("equal_time", **BETTER)}
    both = verdicts.judge(records, [claim(longer=("equal_time", "regime"))])
    assert [(each.study, each.verdict) for each in both] == [
        ("headline", verdicts.NOT_SUPPORTED),
        ("equal_time", verdicts.SUPPORTED),
    ]
    assert verdicts.first(both) == both[:1]
    assert [each.regime for each in both] == ["one epoch", "LoRA's time of 420 steps"]
    assert both[0].in_print == r"\textbf{not supported at one epoch}: x (\S1)"


def test_a_regime_that_differs_between_data_sets_names_them() -> None:
    short = [replace(r, config=r.config | {"steps": 180}) for r in losses(data="math", **BETTER)]
    assert judged({"headline": losses(**BETTER) + short}).regime == "one epoch on GSM8K and 180 steps on MATH"


def test_downstream_the_regime_is_that_of_the_runs_which_were_exported() -> None:
    records = {"downstream": [compared("badam", "lora", gsm8k=0.05)], "headline": losses(**BETTER)}
    found = judged(records, measure="downstream", studies=("downstream",))
    assert found.regime == "one epoch"
    assert judged(records | {"headline": []}, measure="downstream", studies=("downstream",)).regime == ""

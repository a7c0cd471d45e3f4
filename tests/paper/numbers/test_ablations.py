"""The numbers of the section on the studies: of complete records, and without some."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paper.numbers import ablations
from paper.read import gap, studies
from records import COMMITTED, ROOT, Record, load_study
from tests.paper import synthetic
from tests.paper.synthetic import of

SECTION = (ROOT / "paper" / "sections" / "ablations.tex").read_text(encoding="utf-8")
ALL = synthetic.studies()
COST = load_study("cost", kind="profile", folder=COMMITTED)


def numbers(records: Sequence[Record]) -> dict[str, str]:
    by_source = {name: [r for r in records if (r.kind, r.study) == s] for name, s in ablations.STUDIES.items()}
    return ablations.numbers(COST, **by_source)


def test_without_studies_there_are_numbers_of_the_claims_about_cost_alone():
    found = numbers([])
    without = int(re.fullmatch(r"; (\d+) were not run", found["ClaimsWithout"])[1])
    assert found["ClaimsCount"] == str(int(found["ClaimsSupported"]) + without)
    assert not any(name.startswith("Study") for name in found)


def test_macros_of_the_section_are_those_that_are_made():
    made = set(numbers(ALL))
    used = set(re.findall(r"\\((?:Study|Claims)\w+)", SECTION))
    assert used <= made
    assert all(name.isalpha() for name in made)
    for name in re.findall(r"\\ifstudy\{(\w+)\}", SECTION):
        assert f"Study{name}Source" in made
    bodies = re.split(r"\\ifstudy\{", SECTION)[1:]
    for body in bodies:  # what a study without records leaves out is all that its macros are used in
        name = body.partition("}")[0]
        foreign = {m for m in re.findall(r"\\Study([A-Z]\w+)", body) if not m.startswith(name)}
        assert foreign <= {"Steps", "Batch", "InnerSteps"}


def test_a_study_without_records_has_no_macro_and_the_text_asks_for_it():
    made = numbers([record for record in ALL if record.study not in ("order", "variants")])
    assert not any(name.startswith(("StudyOrder", "StudyVariants")) for name in made)
    assert "StudyStateSource" in made
    studies_of_text = dict(re.findall(r"\\ifstudy\{(\w+)\}\{([\w\\]+)\}", SECTION))
    shown_as = {"evaluated": "downstream", "movement_brief": "movement"} | dict.fromkeys(studies.REGIME, "regime")
    costs = {"predicted_large", "measured_large"}  # of the frontier, which is about the losses of the variants
    expected = {shown_as.get(name, name) for name in ablations.STUDIES if name not in costs}
    assert {name.replace("\\", "") for name in studies_of_text.values()} == expected
    main = (ROOT / "paper" / "main.tex").read_text(encoding="utf-8")
    assert r"\ifcsname Study#1Source\endcsname" in main
    assert "not run." in main


def test_no_result_is_typed_into_the_section():
    text = re.sub(r"\\(?:cite\w*|label|ref|includegraphics|input)(?:\[[^]]*\])?\{[^}]*\}", "", SECTION)
    # levels of intervals, power, explained variance and percentiles; Llama 3-8B, SmolLM2-135M
    assert set(re.findall(r"\d+", text)) <= {"95", "80", "90", "10", "3", "8", "2", "135"}


def test_numbers_of_one_axis():
    found = numbers(ALL)
    cells = studies.cells(studies.rows(of("order")), lambda row: row.choice("order"))
    means = {name: np.mean([row.loss for row in rows]) for name, rows in cells.items()}
    assert found["StudyOrderSpread"] == f"{max(means.values()) - min(means.values()):.3f}"
    assert found["StudyOrderList"].startswith(f"random reshuffle ({means['random_reshuffle']:.3f})")
    assert found["StudyOrderCompared"] == "5"
    assert found["StudyInnerStepsRecommended"] == "14"
    assert found["StudyLearningRateDiverged"] == "3 of BCD + SGD, 3 of SGD"
    assert found["StudyVariantsBest"] == "10 layers a block"
    assert found["StudyVariantsWithin"] == "none"


def test_failed_runs_are_counted_in_the_source():
    assert numbers(ALL)["StudyLearningRateSource"].endswith("; 6 more failed")
    assert "failed" not in numbers(ALL)["StudyOrderSource"]


def test_without_the_methods_there_is_no_gap():
    assert numbers([r for r in ALL if r.study != "methods"])["StudyVariantsGapLora"] == "--"


def test_rounds_of_the_steps_alone_are_compared():
    found = numbers(ALL)
    assert (found["StudyStepsAloneSpread"], found["StudyStepsAloneRounds"]) == ("16", "20")
    assert found["StudyStepsAloneRepeated"] == str(len(of("steps_alone")))
    assert found["StudyStepsAloneTimed"] == "3"


def test_downstream_in_numbers():
    found = numbers(ALL)
    assert found["StudyEvaluatedList"] == "LoRA (25.0), 5 layers a block (23.0), untrained (21.0)"
    counts = [found[f"StudyEvaluated{name}"] for name in ("Tests", "Better", "Worse", "Guessing")]
    assert counts == ["5", "1", "1", "1"]
    assert found["StudyEvaluatedAboveLora"] == r"$-2.0$ $[-4.0, -0.0]$ points over 1 tasks"
    assert found["StudyEvaluatedAboveAdamw"] == "--"


def test_equal_time_in_numbers():
    found = numbers(ALL)
    assert found["StudyEqualTimeSeeds"] == "5"
    assert found["StudyEqualTimeWithin"] == "on GSM8K none; on Alpaca none", (
        "AdamW is below LoRA's loss, not its memory"
    )
    small = [replace(r, measurements=r.measurements | {"peak_allocated": 2.6e9}) for r in of("equal_time")]
    assert numbers(small)["StudyEqualTimeWithin"] == "on GSM8K AdamW; on Alpaca AdamW"
    unknown = [replace(r, measurements=r.measurements | {"peak_allocated": None}) for r in of("equal_time")]
    assert numbers(unknown)["StudyEqualTimeWithin"] == "on GSM8K cannot be told; on Alpaca cannot be told"
    lora_on_alpaca = {"data": "alpaca_cleaned", "method": "lora"}
    partial = [r for r in of("equal_time") if not lora_on_alpaca.items() <= r.config["choices"].items()]
    assert numbers(partial)["StudyEqualTimeWithin"] == "on GSM8K none; on Alpaca cannot be told"
    assert found["StudyEqualTimeRatios"] == "2.14 on GSM8K and 1.67 on Alpaca"
    assert numbers(partial)["StudyEqualTimeRatios"] == "2.14 on GSM8K"
    assert found["StudyEqualTimeEdges"] == "BAdam"
    assert numbers(partial)["StudyEqualTimeEdges"] == "none"
    assert "not run" not in found["StudyEqualTimeTimed"]
    assert numbers(partial)["StudyEqualTimeTimed"] == "not run"


def test_edges_of_the_tuning_in_numbers():
    found = numbers(ALL)
    assert found["StudyTunedEdges"] == "2"
    assert (found["StudyScaleChoices"], found["StudyScaleEdges"]) == ("2", "BAdam with 4, 4 layers"), (
        "those of a depth are told apart"
    )


def test_what_limits_the_studies_in_numbers():
    found = numbers(ALL)
    assert (found["StudyInnerStepsReadme"], found["StudyInnerStepsVisits"]) == ("50", "8.4")
    assert found["StudyMethodsWithin"] == "none", "AdamW is below LoRA's loss, and needs more memory"
    small = [replace(r, measurements=r.measurements | {"peak_allocated": 2.6e9}) for r in ALL if r.kind == "train"]
    within = numbers([*small, *of("steps_alone")])["StudyMethodsWithin"].split("; ")
    assert [each.partition(" (")[0] for each in within] == ["AdamW"]
    assert "2.60 against 2.60\\,GB, 36 against 41\\,ms a step)" in within[0]
    assert found["StudyMethodsProjected"] == "none"
    gap = [replace(r, config=r.config | {"method": {"lr": 1.0, "update_proj_gap": 420}}) for r in of("methods")]
    only = [r for r in gap if r.config["choices"]["method"] in ("galore", "lora")]
    assert numbers(only)["StudyMethodsProjected"] == "GaLore (every 420 steps) and LoRA (every 420 steps)"
    assert (found["StudyEqualTimeTimedOn"], found["StudyEqualTimeRunOn"]) == ("X", "X")
    assert found["StudyEqualTimeSteps"] == "420 to 900"
    assert found["StudyScaleShares"] == "1e+02 with 4, 52 with 8, 26 with 16, 13 with 32"
    assert found["StudyHeadlineClipped"] == "--", "no run of these has a bound"


def test_clipped_steps_are_those_above_the_bound():
    norms = {"sgd": [2.0, 3.0], "bsgd": [0.5, 1.5], "badam": [0.1, 0.1]}
    runs = [
        replace(
            r,
            config=r.config | {"max_grad_norm": 1.0},
            measurements=r.measurements
            | {"steps": {"loss": [1.0], "grad_norm": norms[r.config["choices"]["method"]]}},
        )
        for r in of("headline")
        if r.config["choices"]["method"] in norms and r.config["choices"]["data"] == "gsm8k"
    ]
    assert numbers(runs)["StudyHeadlineClipped"] == r"100\,\% against 50\,\% on GSM8K"


def over_epochs(*methods: str) -> list[Record]:
    runs = [r for name in studies.REGIME for r in of(name)]
    return [r for r in runs if r.config["choices"]["method"] in methods or not methods]


def test_whole_epochs_in_numbers():
    found = numbers(ALL)
    assert found["StudyRegimeLengths"] == "three epochs on GSM8K; three epochs on Alpaca"
    below = "sign above, sign above, no Adam, sign on all layers"
    assert found["StudyRegimeReach"] == f"{below} on GSM8K; {below} on Alpaca"
    first = found["StudyRegimePurpose"].partition(" on GSM8K; ")[0]
    assert first.startswith("the lowest loss with an active block of Adam has sign above, $")
    assert first.endswith(" to sign above, no Adam, its twin without it")
    assert found["StudyRegimeCloses"] == "none (cannot be told of sign above)", "no step of 8B was measured"
    assert " of 1 with a twin on GSM8K; " in found["StudyRegimeHelps"]
    assert found["ClaimsAtRegime"].startswith("at three epochs, of 3 claims 0 are supported")
    without = numbers([r for r in ALL if r.study not in studies.REGIME])
    assert not {"StudyRegimeSource", "StudyRegimeList", "StudyRegimeCloses"} & without.keys()
    assert without["ClaimsAtRegime"] == "not run"


def test_a_comparison_over_whole_epochs_that_lacks_a_method_says_so():
    alone = numbers(over_epochs("lora", "badam"))
    assert alone["StudyRegimeGapLora"].startswith("$+0.07")
    assert alone["StudyRegimeGapAdamw"] == "--"
    assert alone["StudyRegimePurpose"].startswith("the lowest loss with an active block of Adam has BAdam, $")
    full = numbers(over_epochs("lora", "adamw"))
    assert full["StudyRegimePurpose"] == "no block method was run on GSM8K; no block method was run on Alpaca"
    assert numbers(over_epochs("badam"))["StudyRegimeReach"] == "cannot be told on GSM8K; cannot be told on Alpaca"


def test_conclusions_are_read_from_the_records():
    found = numbers(ALL)
    assert found["ClaimsOrder"] == "supported at one epoch"
    largest = gap.causes(**{name: of(name) for name in gap.STUDIES})[0]
    share = -100 * largest.difference.mean / gap.gaps(of("methods"))["adamw"].mean
    assert found["StudyVariantsGapLargest"] == rf"{share:.0f}\,\%, by {largest.choice}"
    assert numbers([r for r in ALL if r.study not in ("methods", "order")])["ClaimsOrder"] == "not run"
    assert numbers([r for r in ALL if r.study != "methods"])["StudyVariantsGapLargest"] == "--"


def test_options_over_whole_epochs_in_numbers():
    found = numbers(ALL)
    assert found["StudyRegimeVariantsList"].startswith("2 layers, sign above (0.6")
    assert found["StudyRegimeOrdersCompared"] == "2"
    assert re.fullmatch(
        r"\$\+0\.0[45]\d\$ .* with clipping at 0\.1; \$\+0\.(19|20)\d\$ .* with no clipping",
        found["StudyRegimeClippingCosts"],
    )
    only = [r for r in of("regime_clipping") if r.config["choices"]["method"] == "sgd"]
    assert numbers(only)["StudyRegimeClippingCosts"] == "--"


def test_the_gap_against_movement_in_numbers():
    found = numbers(ALL)
    assert found["StudyMovementPoints"] == "5", "AdamW gains nothing at the smallest rate of the brief model"
    first, second = found["StudyMovementEnds"].split("; ")
    assert first == r"SmolLM2-135M: 10\,\% at a change of 0.1\,\%, 30\,\% at a change of 10\,\%"
    assert second.startswith("llama small trained: 20")

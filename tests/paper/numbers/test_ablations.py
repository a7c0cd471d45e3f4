"""The numbers of the section on the studies: of complete records, and without some."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paper.numbers import ablations
from paper.read import studies
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
    without = int(re.fullmatch(r"; for (\d+) there are no records", found["ClaimsWithout"])[1])
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
    shown_as = {"evaluated": "downstream"}
    expected = {shown_as.get(name, name) for name in ablations.STUDIES}
    assert {name.replace("\\", "") for name in studies_of_text.values()} == expected
    main = (ROOT / "paper" / "main.tex").read_text(encoding="utf-8")
    assert r"\ifcsname Study#1Source\endcsname" in main
    assert "no records." in main


def test_no_result_is_typed_into_the_section():
    text = re.sub(r"\\(?:cite\w*|label|ref|includegraphics|input)(?:\[[^]]*\])?\{[^}]*\}", "", SECTION)
    # levels of intervals, power, explained variance and percentiles; Llama 3
    assert set(re.findall(r"\d+", text)) <= {"95", "80", "90", "10", "3"}


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
    assert "no records" not in found["StudyEqualTimeTimed"]
    assert numbers(partial)["StudyEqualTimeTimed"] == "no records"


def test_edges_of_the_tuning_in_numbers():
    found = numbers(ALL)
    assert found["StudyTunedEdges"] == "2"
    assert (found["StudyScaleChoices"], found["StudyScaleEdges"]) == ("2", "BAdam with 4, 4 layers"), (
        "those of a depth are told apart"
    )

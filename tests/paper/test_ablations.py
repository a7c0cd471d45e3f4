"""Figures, tables and numbers of the studies: what they show of complete records, and what happens without some."""

import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from paper import ablations, build, frontier, placement, statistics, studies
from paper.figures import equal_time as equal_time_figure
from paper.figures import frontier as frontier_figure
from paper.figures import headline, inner_steps, learning_rate, order, rank, scale, style
from paper.tables import downstream, equal_time_in_numbers, gap, methods_in_numbers, tuning, variants_in_numbers
from records import COMMITTED, Record, RecordError, load_study, write
from tests.paper import synthetic

ROOT = Path(__file__).resolve().parent.parent.parent
SECTION = (ROOT / "paper" / "sections" / "ablations.tex").read_text(encoding="utf-8")
ALL = synthetic.studies()


def of(study: str) -> list[Record]:
    return [record for record in ALL if record.study == study]


def of_kind(kind: str) -> list[Record]:
    return [record for record in ALL if record.kind == kind]


def numbers(records: list[Record]) -> dict[str, str]:
    cost = load_study("cost", kind="profile", folder=COMMITTED)
    found = {name: [r for r in records if (r.kind, r.study) == source] for name, source in ablations.STUDIES.items()}
    return ablations.numbers(cost, **found)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for record in ALL:
        write(record, tmp_path / "records")
    shutil.copytree(COMMITTED / "cost", tmp_path / "committed" / "cost")
    monkeypatch.setattr(build, "COMMITTED", tmp_path / "committed")
    monkeypatch.setattr(build, "OUTPUTS", tmp_path / "records")
    monkeypatch.setattr(build, "BUILD", tmp_path / "build")
    return tmp_path


def shown() -> list[build.Product]:
    """What shows studies: without SOURCES, and the table of claims, which the committed runs of cost begin."""
    return [p for p in build.products() if p.studies and p.name != "numbers"]


def test_every_study_is_shown_and_a_study_without_records_is_left_out(folders):
    products = shown()
    assert len([p for p in products if p.folder.name == "figures"]) >= 9
    assert len([p for p in products if p.folder.name == "tables"]) >= 3
    assert build.build(products) == len(products)
    assert all(path.stat().st_size > 1000 or path.suffix == ".tex" for p in products for path in p.files)
    assert build.build(products) == 0

    for path in (folders / "records" / "order").glob("*.json"):
        path.unlink()
    (own,) = (p for p in products if p.name == "order")
    assert build.build(products) == 2, "the tables of claims and of the gap change, nothing else"
    assert not any(path.exists() for path in own.files)
    assert "order" not in build.read_manifest()
    assert "study order: no records" in (folders / "build" / "tables" / "claims.tex").read_text()


def test_no_study_at_all_leaves_the_claims_about_cost(folders, monkeypatch):
    monkeypatch.setattr(build, "OUTPUTS", folders / "nothing")
    made = [p.name for p in shown() if not p.absent(build.read(p))]
    assert made == ["claims"]
    found = numbers([])
    assert found["ClaimsCount"] == str(int(found["ClaimsSupported"]) + int(found["ClaimsNoRecords"]))
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


def test_two_runs_of_one_cell_and_seed_are_refused():
    with pytest.raises(ValueError, match="share a seed"):
        studies.cells(studies.rows(of("order")), lambda row: "all of them")


def test_a_curve_goes_from_the_untrained_model_to_the_end():
    row = studies.rows(of("headline"))[0]
    assert row.curve[0] == (0, row.before)
    assert row.curve[-1] == (row.tokens, row.loss)
    assert [tokens for tokens, _ in row.curve] == sorted({tokens for tokens, _ in row.curve})
    without = studies.Row(replace(row.record, measurements={**row.record.measurements, "curve": []}))
    assert without.curve == [(0, row.before), (row.tokens, row.loss)]


def test_the_time_of_a_method_is_not_that_of_another_cell():
    for data, factor in (("gsm8k", 1), ("alpaca_cleaned", 2)):
        here = [row for row in studies.rows(of("headline")) if row.data == data]
        found = studies.seconds_alone(of("steps_alone"), studies.cells(here, lambda row: row.method))
        assert found["badam"] == factor * synthetic.SECONDS["badam"]
    by_order = studies.cells(studies.rows(of("order")), lambda row: row.choice("order"))
    assert set(studies.seconds_alone(of("steps_alone"), by_order).values()) == {synthetic.SECONDS["badam"]}


def test_the_figure_of_the_order_shows_the_paired_differences():
    axes = order.draw(of("order")).axes[1]
    cells = studies.cells(studies.rows(of("order")), lambda row: row.choice("order"))
    losses = {name: studies.losses(rows) for name, rows in cells.items()}
    wanted = {
        round(d.mean, 9)
        for name in losses
        if name != "random_reshuffle" and (d := statistics.contrast({name: 1, "random_reshuffle": -1}, losses))
    }
    drawn = {round(float(np.asarray(line.get_xdata())[0]), 9) for line in axes.lines if line.get_marker() == "o"}
    assert wanted <= drawn


def test_the_figure_of_k_marks_the_recommended_one():
    axes = inner_steps.draw(of("inner_steps")).axes[0]
    assert inner_steps.recommended(studies.rows(of("inner_steps"))[0]) == pytest.approx(6711 / (16 * 30))
    assert any("14" in text.get_text() for text in axes.texts)


def test_diverged_runs_are_marked_and_no_mean():
    axes = learning_rate.draw(of("learning_rate")).axes[0]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    (sgd,) = (line for line in axes.lines if line.get_label() == "SGD")
    assert len(np.asarray(sgd.get_xdata())) == 4, "the fifth learning rate diverged"


def test_without_times_the_curves_are_drawn_against_tokens_alone():
    assert len(headline.draw(of("headline"), []).axes) == 2
    assert len(headline.draw(of("headline"), of("steps_alone")).axes) == 4


def test_a_matrix_that_did_not_change_has_a_rank_and_no_spectrum():
    unmoved = {"shape": [4, 4], "stable_rank": 0.0, "rank_90": 0, "values": []}
    first, *others = of("rank")
    spectra = {"spectrum": {"matrices": {"w": unmoved, **first.measurements["spectrum"]["matrices"]}}}
    shares, stable = rank.draw([replace(first, measurements=first.measurements | spectra), *others]).axes[1:3]
    counts = [len(np.asarray(axes.lines[0].get_ydata())) for axes in (shares, stable)]
    assert counts == [10, 9], "of three seeds with three matrices, and the one that stayed"


def test_the_gap_against_depth_is_paired():
    gap = scale.draw(of("scale")).axes[1]
    (line,) = (line for line in gap.lines if str(line.get_label()).endswith("AdamW"))
    assert len(np.asarray(line.get_ydata())) == 4
    assert list(np.asarray(line.get_ydata())) == sorted(np.asarray(line.get_ydata()))


def test_what_is_within_lora_s_loss_memory_and_time():
    variants, methods, alone = of("variants"), of("methods"), of("steps_alone")
    entries = {entry.method: entry for entry in frontier.entries(variants, methods, alone)}
    assert entries["lora"].within is None
    assert entries["badam"].within is False
    cheap = [
        replace(r, measurements=r.measurements | {"after": {"heldout_loss": 0.5}, "peak_allocated": 1e9})
        for r in variants
        if "blocks5-" in r.name
    ]
    found = {entry.method: entry for entry in frontier.entries(cheap, methods, alone)}
    assert found["badam_blocks5"].within is True
    assert {e.method: e.within for e in frontier.entries(cheap, methods, [])}["badam_blocks5"] is None


def test_a_loss_far_above_is_named_and_not_drawn():
    worse = [
        replace(r, measurements=r.measurements | {"after": {"heldout_loss": 1.3}}) if "bf16-" in r.name else r
        for r in of("variants")
    ]
    axes = frontier_figure.draw(worse, of("methods"), of("steps_alone")).axes[0]
    assert axes.get_title(loc="right") == "above: bfloat16 weights (1.30)"
    assert axes.get_ylim()[1] < 1
    assert "bfloat16 weights" not in [text.get_text() for text in axes.texts]
    assert frontier_figure.draw(of("variants"), of("methods"), []).axes[0].get_title(loc="right") == ""


def test_a_variant_is_named_where_it_is_clearly_below_badam():
    axes = frontier_figure.draw(of("variants"), of("methods"), of("steps_alone")).axes[0]
    written = {text.get_text() for text in axes.texts}
    assert {"10 layers a block", "BAdam", "LoRA"} <= written
    assert not {"bfloat16, exact master", "state kept"} & written


def test_failed_runs_are_counted_in_the_source():
    assert numbers(ALL)["StudyLearningRateSource"].endswith("; 6 more failed")
    assert "failed" not in numbers(ALL)["StudyOrderSource"]


def test_tables_of_methods_and_variants():
    text = methods_in_numbers.text(of("methods"), of("steps_alone"))
    rows = [line.split(" & ") for line in text.splitlines() if " & " in line][2:]
    assert rows[0][0] == "AdamW"
    assert len(rows) == len(synthetic.LOSSES) + len(synthetic.OTHERS)
    (badam,) = (row for row in rows if row[0] == "BAdam")
    assert badam[-1] == r"20.0 \\"
    best = [
        line
        for line in variants_in_numbers.text(of("variants"), of("methods"), []).splitlines()
        if "10 layers" in line
    ]
    assert len(best) == 1
    assert best[0].endswith(r"-- & no \\"), "no time was measured, and the loss alone is too high"


def test_downstream_marks_what_differs_from_the_untrained_model():
    text = downstream.text(of_kind("evaluate"), of_kind("compare"))
    assert r"GSM8K & 500 & 0.0 & 2.0 & 2.4 & 6.0$^*$ & 0.0$^*$ & 3.2 \\" in text
    assert r"ARC easy & 500 & 25.0 & 40.0 & -- & 44.0 & 46.0$^\dagger$ & 3.2 \\" in text
    assert r"mean &  &  & 21.0 & -- & 25.0 & 23.0 &  \\" in text, "BAdam lacks a task"
    assert r"puzzles, loss &  &  & 3.00 & 3.50 & -- & -- &  \\" in text
    failed = [
        replace(record, status="failed", error="KeyError", measurements={}) for record in of_kind("evaluate")[:1]
    ]
    assert r"& \rotatebox{60}{BAdam}" in downstream.text([*failed, *of_kind("evaluate")[1:]], of_kind("compare"))
    found = numbers(ALL)
    assert found["StudyEvaluatedList"] == "LoRA (25.0), 5 layers a block (23.0), untrained (21.0)"
    counts = [found[f"StudyEvaluated{name}"] for name in ("Tests", "Better", "Worse", "Guessing")]
    assert counts == ["5", "1", "1", "1"]
    assert found["StudyEvaluatedAboveLora"] == r"$-2.0$ $[-4.0, -0.0]$ points over 1 tasks"
    assert found["StudyEvaluatedAboveAdamw"] == "--"


def test_the_gap_is_taken_apart():
    given = {name: of(name) for name in gap.STUDIES}
    found = {cause.name: cause for cause in gap.causes(**given)}
    assert found["size of a block"].choice == "10 layers a block"
    assert (found["size of a block"].number, found["order"].number, found["steps a visit"].number) == (3, 5, 5)
    assert found["size of a block"].difference.mean == pytest.approx(0.63 - 0.69, abs=0.01)
    assert all(cause.difference.mean <= after.difference.mean for cause, after in pairwise(found.values()))
    every = [(cause, choice, d) for cause, choice, d in gap._differences(given) if d is not None]
    adjusted = statistics.holm([d.p for _, _, d in every])
    choices = {(cause, choice): p for (cause, choice, _), p in zip(every, adjusted, strict=True)}
    assert all(cause.p == choices[cause.name, cause.choice] for cause in found.values())
    references = {
        ("state", "reset"),
        ("order", "random reshuffle"),
        ("partition", "by layer"),
        ("steps a visit", "$K=3$"),
    }
    assert not (references | {("outside the layers", "layers only")}) & choices.keys()
    row = next(line for line in gap.text(**given).splitlines() if line.startswith("size of a block"))
    closed = int(row.split(" & ")[-1].split("\\")[0].strip("$+"))
    wide = gap.gaps(of("methods"))["adamw"].mean
    assert closed == round(-100 * found["size of a block"].difference.mean / wide)
    assert "averaged weights" not in {c.name for c in gap.causes(**given | {"variants": []})}
    assert "steps a visit" not in {c.name for c in gap.causes(**given | {"methods": []})}, (
        "no run says what K is usual"
    )
    assert "multicolumn" not in gap.text(**given | {"methods": []})
    assert numbers([r for r in ALL if r.study != "methods"])["StudyVariantsGapLora"] == "--"


def test_every_variant_is_a_cause_of_the_gap_or_of_another_study():
    axis = yaml.safe_load((ROOT / "conf" / "study" / "variants.yaml").read_text())["axes"]["method"]
    causes = {n if n.startswith("bread") else f"badam_{n}" for names in gap.VARIANTS.values() for n in names}
    assert causes | gap.LEFT_OUT.keys() == {name.rpartition("/")[2] for name in axis}


def test_equal_time_has_the_steps_and_the_difference_to_lora():
    text = equal_time_in_numbers.text(of("equal_time"), of("steps_alone"))
    gsm8k, alpaca = ([line.split(" & ") for line in part.splitlines()[1:]] for part in text.split(r"\emph")[1:])
    assert [row[:2] for row in gsm8k[:2]] == [["AdamW", "900"], ["LoRA", "420"]]
    assert [row[:2] for row in alpaca[:2]] == [["AdamW", "700"], ["LoRA", "420"]]
    assert [*gsm8k[1][2:4], *gsm8k[1][5:]] == ["--", "2.60", "--", r"-- \\"], (
        "LoRA is what the others are compared with"
    )
    for rows in (gsm8k, alpaca):
        (badam,) = (row for row in rows if row[0] == "BAdam")
        assert float(badam[5].strip("$")) == pytest.approx(0.07, abs=0.01)
        assert badam[2] == "775--861", "420 steps times 0.041 s / 0.020 s, and 0.9 times that in the third round"
    assert "775" not in equal_time_in_numbers.text(of("equal_time"), [])
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


def test_methods_at_equal_time_end_at_one_time():
    drawn = equal_time_figure.draw(of("equal_time"), of("steps_alone"))
    for axes, others, times in zip(drawn.axes, (900, 700), (1, 2), strict=True):
        ends = [times * (420 if name == "lora" else others) * seconds for name, seconds in synthetic.SECONDS.items()]
        assert sorted(line.get_xdata()[-1] for line in axes.lines) == pytest.approx(sorted(ends), rel=1e-3)
    with pytest.raises(RecordError, match=r"no step of .*badam.* on gsm8k was timed alone; run experiments.alone"):
        equal_time_figure.draw(of("equal_time"), [])


def test_rounds_of_the_steps_alone_are_compared():
    found = numbers(ALL)
    assert (found["StudyStepsAloneSpread"], found["StudyStepsAloneRounds"]) == ("16", "20")
    assert found["StudyStepsAloneRepeated"] == str(len(of("steps_alone")))
    assert found["StudyStepsAloneTimed"] == "3"


def test_tuning_says_what_lies_at_the_edge():
    text = tuning.text(of("tuned"))
    assert r"BAdam & $1 \times 10^{-4}$* & 1 of 5 & $1 \times 10^{-4}$* & 1 of 5 \\" in text
    assert r"GaLore & $1 \times 10^{-3}$ & 1 of 5 & -- & -- \\" in text
    found = numbers(ALL)
    assert found["StudyTunedEdges"] == "2"
    assert (found["StudyScaleChoices"], found["StudyScaleEdges"]) == ("2", "BAdam with 4, 4 layers"), (
        "those of a depth are told apart"
    )


def test_names_of_a_scatter_plot_do_not_cover_each_other():
    drawn, (axes,) = style.figure(height=3.0)
    generator = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in generator.uniform(0, 1, (12, 2))]
    axes.plot(*zip(*points, strict=True), "o")
    placement.label(axes, points, [f"variant {i}" for i in range(12)], [(y, y) for _, y in points])
    drawn.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

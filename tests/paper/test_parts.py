"""One number for one thing: text, claims, tables and figures take final losses from one part, and say from which.

On the committed results, where the test part and the held-out part differ.
"""

import importlib
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from paper.figures import sgd_rule
from paper.judge import claims, verdicts
from paper.numbers import ablations
from paper.read import frontier, studies
from paper.tables import equal_time_in_numbers, methods_in_numbers, variants_in_numbers
from records import COMMITTED, ROOT, Record, RecordError, load_study
from tests.paper.synthetic import of

SECTION = (ROOT / "paper" / "sections" / "ablations.tex").read_text(encoding="utf-8")
FIGURES = ("order", "inner_steps", "partition", "state", "outside_layers", "methods")
"""Figures that show the mean final loss of every cell of a study which the text lists."""


@cache
def committed(kind: str, study: str) -> list[Record]:
    return load_study(study, kind=kind, folder=COMMITTED)


def committed_together(names: Iterable[str]) -> list[Record]:
    return [record for name in names for record in committed("train", name)]


@cache
def macros() -> dict[str, str]:
    every = {name: committed(kind, study) for name, (kind, study) in ablations.STUDIES.items()}
    return ablations.numbers(committed("profile", "cost"), **every)


@cache
def judged() -> list[verdicts.Judged]:
    every = claims.SOURCES | claims.STUDIES
    return verdicts.judge({name: committed(kind, study) for name, (kind, study) in every.items()})


def made(module: Any, make: str) -> Any:
    sources = getattr(module, "SOURCES", {}) | getattr(module, "STUDIES", {})
    return getattr(module, make)(**{name: committed(*place) for name, place in sources.items()})


def figure(name: str) -> Figure:
    return made(importlib.import_module(f"paper.figures.{name}"), "draw")


def coordinates(drawn: Figure) -> set[str]:
    """Every place of a point, along either axis, as the text prints numbers."""
    values = [line.get_data() for axes in drawn.axes for line in axes.lines]
    return {f"{value:.3f}" for pair in values for values_ in pair for value in np.asarray(values_, dtype=float)}


def listed(study: str) -> list[str]:
    name = "".join(word.capitalize() for word in study.split("_"))
    return re.findall(r"\((-?\d\.\d+)\)", macros()[f"Study{name}List"])


@pytest.mark.integration
@pytest.mark.parametrize("study", FIGURES)
def test_means_in_the_text_are_in_the_figure(study):
    if study == "methods":
        table = made(methods_in_numbers, "text")
        drawn = coordinates(figure(study))
        assert all(number in drawn for number in re.findall(r"\$(\d\.\d{3}) \\pm", table))
        return
    assert len(listed(study)) > 2
    assert set(listed(study)) <= coordinates(figure(study))


def test_the_rules_of_the_main_comparison_end_in_the_figure_where_the_text_says():
    drawn = made(sgd_rule, "draw")
    shown = {
        f"{y:.3f}"
        for axes in drawn.axes[:-1]
        for line in axes.lines[::1]
        if line.get_label() in sgd_rule.RULES
        for y in np.asarray(line.get_ydata(), dtype=float)
    }
    assert len(shown) == 8
    assert shown <= set(listed("headline"))


def test_the_interaction_in_the_figure_is_that_of_the_claim():
    effects = made(sgd_rule, "draw").axes[-1]
    shown = {round(float(np.asarray(line.get_xdata())[0]), 9) for line in effects.lines if len(line.get_xdata()) == 1}
    (claim,) = (each for each in verdicts.first(judged()) if len(each.claim.contrasts[0]) == 4)
    assert claim.study == "headline"
    assert len(claim.findings) == 2
    assert {round(finding.effect, 9) for finding in claim.findings} <= shown
    (other,) = (
        each
        for each in verdicts.first(judged())
        if each.claim.contrasts[0].keys() == {"badam", "adamw"} and each.claim.measure == verdicts.FINAL_LOSS
    )
    assert {round(finding.effect, 9) for finding in other.findings} <= shown


@pytest.mark.integration
@pytest.mark.parametrize("study", ["order"])
def test_differences_of_the_claims_are_in_the_figure(study):
    (claim,) = (each for each in judged() if each.study == study)
    paired = figure(study).axes[1]
    shown = {round(float(np.asarray(line.get_xdata())[0]), 9) for line in paired.lines if line.get_marker() == "o"}
    assert {round(finding.effect, 9) for finding in claim.findings} <= shown


def test_the_loss_of_a_run_is_one_in_text_and_tables():
    table = made(equal_time_in_numbers, "text")
    assert set(listed("equal_time")) == set(re.findall(r"\$(\d\.\d{3}) \\pm", table))
    assert "& test loss &" in table
    in_variants = re.findall(r"^BAdam & .*?\$(\d\.\d{3}) \\pm", made(variants_in_numbers, "text"), re.MULTILINE)
    in_methods = re.findall(r"^BAdam & .*?\$(\d\.\d{3}) \\pm", made(methods_in_numbers, "text"), re.MULTILINE)
    assert in_variants == in_methods, "the same runs in two tables"


@pytest.mark.integration
@pytest.mark.parametrize(
    "name",
    ["sgd_rule", *FIGURES, "learning_rate", "scale", "variants", "frontier", "headline", "equal_time"],
)
def test_every_axis_of_a_loss_names_the_part(name):
    along_the_way = name == "equal_time"  # where the held-out part alone is read
    study = "headline" if name == "sgd_rule" else name
    if name == "frontier":  # the studies over whole epochs, where there are any
        sets = frontier.losses_of(
            *(committed_together(names) for names in (studies.REGIME, ["variants"], ["methods"]))
        )
        shown = [row for rows in sets.values() for row in rows]
    else:
        shown = studies.rows(committed("train", study))
    part = "held-out" if along_the_way else studies.part(shown)
    labels = [label for axes in figure(name).axes for label in (axes.get_xlabel(), axes.get_ylabel())]
    of_loss = [label for label in labels if re.search(r"\bloss\b", label) and "above the best" not in label]
    of_loss = [label for label in of_loss if not label.startswith("difference")]
    assert of_loss
    assert all(f"{part} loss" in label for label in of_loss)
    if name != "frontier":
        assert part == ("test" if study == "headline" and not along_the_way else "held-out")


FLOATS = re.findall(r"\\begin\{(figure|table)\}(.*?)\\end\{\1\}", SECTION, re.DOTALL)
WITHOUT_A_LOSS = {"claims", "claims_of_options", "claims_of_cost", "tuning", "downstream", "rank"}


@pytest.mark.parametrize("body", [body for _, body in FLOATS], ids=lambda body: re.search(r"label\{(.*?)\}", body)[1])
def test_captions_say_how_many_seeds_and_which_part(body):
    (name,) = re.findall(r"\\includegraphics\[[^]]*\]\{(\w+)\}|\\input\{build/tables/(\w+)\}", body)
    caption = re.search(r"\\caption\{(.*)\}\n", body, re.DOTALL)[1]
    if "".join(name) not in WITHOUT_A_LOSS:
        assert re.search(r"\\Study\w+Part\{\}", caption)
    if "".join(name) not in {"claims", "claims_of_options", "claims_of_cost", "tuning", "downstream"}:
        assert re.search(r"\\Study\w+Seeds\{\}", caption)


def test_claims_name_the_part_and_the_seeds():
    for each in judged():
        for finding in each.findings:
            if each.claim.measure == verdicts.FINAL_LOSS:
                wanted = "test" if each.study in (*studies.TESTED, claims.REGIME) else "held-out"
                assert finding.setting, finding
                assert (finding.setting.part, finding.setting.seeds > 1) == (wanted, True), finding


def test_seeds_and_parts_of_the_committed_studies():
    found = macros()
    assert {name: found[f"Study{name}Part"] for name in ("Headline", "EqualTime", "Methods", "Variants")} == {
        "Headline": "test",
        "EqualTime": "test",
        "Methods": "held-out",
        "Variants": "held-out",
    }
    assert (found["StudyHeadlineSeeds"], found["StudyMethodsSeeds"], found["StudyVariantsSeeds"]) == ("5", "3", "3")


def test_some_runs_with_and_some_without_the_test_part_are_refused():
    first, *others = of("headline")
    read = replace(first, measurements=first.measurements | {"test": {"heldout_loss": 1.0}})
    with pytest.raises(RecordError, match=r"two parts cannot be compared: that of .* on the .*data\.test=\.\.\."):
        studies.part(studies.rows([read, *others]))
    assert studies.part(studies.rows(others)) == "held-out"
    assert studies.part([]) == "held-out"


def test_cells_with_fewer_seeds_show():
    runs = studies.rows(of("order"))
    assert studies.seeds(runs) == "3"
    assert studies.seeds(runs[1:]) == "2 to 3"


@pytest.mark.parametrize("study", ["headline", "equal_time"])
def test_the_numbers_of_the_text_are_of_the_part_it_names(study):
    runs: dict[tuple[str, str], list[float]] = {}
    for record in committed("train", study):
        place = record.config["choices"]["data"], record.config["choices"]["method"]
        runs.setdefault(place, []).append(record.measurements["test"]["heldout_loss"])
    assert set(listed(study)) == {f"{np.mean(losses):.3f}" for losses in runs.values()}

"""The gap to LoRA and AdamW taken apart by cause."""

from dataclasses import replace
from itertools import pairwise

import pytest
import yaml

from paper.read import gap, statistics
from paper.tables import gap as table
from records import ROOT
from tests.paper.synthetic import of


def test_the_gap_is_taken_apart():
    given = {name: of(name) for name in gap.STUDIES}
    found = {cause.name: cause for cause in gap.causes(**given)}
    assert found["size of a block"].choice == "10 layers a block"
    assert (found["size of a block"].number, found["order"].number, found["steps a visit"].number) == (3, 5, 5)
    assert found["size of a block"].difference.mean == pytest.approx(0.63 - 0.69, abs=0.01)
    assert all(cause.difference.mean <= after.difference.mean for cause, after in pairwise(found.values()))
    every = [(cause, choice, d) for cause, choice, d in gap.differences(given) if d is not None]
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
    row = next(line for line in table.text(**given).splitlines() if line.startswith("size of a block"))
    closed = int(row.split(" & ")[-1].split("\\")[0].strip(" $+"))
    wide = gap.gaps(of("methods"))["adamw"].mean
    assert closed == round(-100 * found["size of a block"].difference.mean / wide)
    assert "averaged weights" not in {c.name for c in gap.causes(**given | {"variants": []})}
    assert "steps a visit" not in {c.name for c in gap.causes(**given | {"methods": []})}, (
        "no run says what K is usual"
    )
    assert "of the gap to" not in table.text(**given | {"methods": []})


def test_every_variant_is_a_cause_of_the_gap_or_of_another_study():
    axis = yaml.safe_load((ROOT / "conf" / "study" / "variants.yaml").read_text())["axes"]["method"]
    causes = {n if n.startswith("bread") else f"badam_{n}" for names in gap.VARIANTS.values() for n in names}
    assert causes | gap.LEFT_OUT.keys() == {name.rpartition("/")[2] for name in axis}


def test_few_seeds_have_the_additive_model_beside_the_paired_test():
    given = {name: of(name) for name in gap.STUDIES}
    choices = gap.choices(**given)
    assert gap.beside(choices)
    assert "& paired & pooled &" in table.text(**given)
    every = gap.pooled(given)
    assert {(each.name, each.choice) for each in choices} == every.keys()
    adjusted = statistics.holm([every[each.name, each.choice].p for each in choices])
    assert [each.pooled for each in choices] == adjusted
    assert all(abs(every[c.name, c.choice].mean - c.difference.mean) < 0.01 for c in choices)
    enough = [replace(c, difference=replace(c.difference, n=gap.ENOUGH)) for c in choices]
    assert not gap.beside(enough)


def test_a_run_that_studies_share_is_counted_once():
    (first, *_) = (r for r in of("order") if r.config["choices"]["order"] == "random_reshuffle")
    studied = {name: of(name) for name in gap.STUDIES}
    same = [replace(r, key=f"shared{r.config['seed']}") for r in studied["order"] if _usual(r)]
    others = [r for r in studied["order"] if not _usual(r)]
    shared = [replace(r, study="state") for r in same]
    kept = [
        r for r in studied["state"] if r.config["method"]["state"] != "reset" or r.config["method"]["switch_warmup"]
    ]
    once = gap.pooled(studied | {"order": [*same, *others], "state": [*shared, *kept]})
    assert first.key not in {r.key for r in same}
    twice = gap.pooled(studied)
    assert once["order", "greedy"].n == twice["order", "greedy"].n - 2


def _usual(record):
    return record.config["choices"]["order"] == "random_reshuffle"

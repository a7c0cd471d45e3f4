"""The paper: every product from small records, what it needs, and what it may not contain."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from paper import build, cost, execution, numbers, runs
from paper.audit_numbers import audit
from paper.tables import cost_cards
from records import COMMITTED, Record, RecordError, load_study, write

ROOT = Path(__file__).resolve().parent.parent.parent
PROVENANCE = {"commit": "0123456789abcdef", "dirty": False, "date": "2026-01-02", "device": "X", "device_type": "cpu"}
BYTES = {"weights": 4000, "gradients": 400, "state": 800}


def train_record(method: str, loss: float) -> Record:
    config = {
        "choices": {"method": method},
        "steps": 12,
        "batch_size": 2,
        "data": {"train_size": 8, "max_tokens": 64},
        "method": {"lr": 1e-3, "inner_steps": 2} if "b" in method else {"lr": 1e-4},
    }
    measured = {
        "steps": {
            "loss": [5 - 0.1 * i for i in range(12)],
            "lr": [1e-3] * 12,
            "grad_norm": [1.0] * 12,
            "seconds": [0.5] * 12,
        },
        "before": {"heldout_loss": 4.5, "exact_match": 0.0, "items": 64},
        "after": {"heldout_loss": loss, "exact_match": 0.25, "items": 64},
        "predicted_bytes": BYTES,
        "measured_bytes": BYTES,
        "trained_parameters": 1000,
    }
    return Record("train", "quick", f"{method}-seed0", "k", "finished", config, measured, PROVENANCE)


def verify_record(bound: str = "a1", problem: str = "quadratic", **changes: Any) -> Record:
    line = {"kind": "inequality", "checks": 1000, "instances": 50, "largest_ratio": 0.9, "violations": 0}
    measured = {
        "lines": {"A0": line, "T": line | {"largest_ratio": None}},
        "kind": "upper",
        "instances": {"ratio": [0.1, 0.5, None]},
        "precise": {"instances": 1},
        "showcase": {"bound": [3.0, 2.0], "measured": [2.0, 1.0], "ratios": {"A0": [0.5, 1.0], "T": [None]}},
        "controls": [{"name": "C_t halved", "line": "epoch", "ratio": 2.0, "true_ratio": 1.0, "rejected": True}],
        "violations": 0,
        "refuted": False,
    }
    config = {"bound": {"problems": ["quadratic", "logistic"], "example": {"epochs": 1}}}
    name = f"{bound}-{problem}-quick"
    return Record("verify", "theory", name, "k", "finished", config, measured | changes, PROVENANCE)


def practice_record() -> Record:
    """The committed analysis of a real model: small, and never computed by a clone."""
    (record,) = load_study("practice", kind="verify", folder=COMMITTED)
    return record


def audit_record(bound: str, problem: str, steps: list[int], quotients: list[float]) -> Record:
    """Of a printed statement: K of each instance, and its claimed over its actual decrease."""
    violations = sum(quotient > 1 for quotient in quotients)
    line = {"kind": "inequality", "checks": len(steps), "instances": len(steps), "largest_ratio": max(quotients)}
    instances = {"inner_steps": steps, "measured": quotients, "bound": [1.0] * len(steps), "ratio": quotients}
    lines = {bound: line | {"violations": violations}}
    return verify_record(
        f"badam_{bound}_printed", problem, lines=lines, instances=instances, violations=violations, refuted=True
    )


def theory_records() -> list[Record]:
    return [
        verify_record(),
        audit_record("d4", "bilinear", [200, 1000, 1], [1.5, 7.125, 0.5]),
        audit_record("d5", "bilinear", [200, 1], [0.25, 11.25]),
        audit_record("d4", "quadratic", [1, 3], [0.125, 0.25]),
        audit_record("d5", "quadratic", [1, 3], [0.125, 0.0625]),
    ]


def adversary_record() -> Record:
    row = {"target": "a1_pair", "bound": "A1", "line": "epoch", "ratio": 0.9999, "least": 0.98, "instance": {}}
    killed = {"ratio": 2.0, "true_ratio": 1.0, "dies_at": 1.0, "killed": True, "required": True}
    mutants = [
        row | killed | {"mutant": "left side x 2"},
        row | killed | {"mutant": "left side x 2", "line": "T", "ratio": 1.5, "dies_at": 1.33},
        row | killed | {"mutant": "coupling = 0", "line": "T", "ratio": 1e6, "dies_at": None},
        row | killed | {"mutant": "radius = 0.5", "killed": False, "required": False, "ratio": 0.9, "dies_at": 2.22},
    ]
    cells = {
        "kind": "a1",
        "fixed": {"gamma": 1.0},
        "x": "coupling",
        "y": "inner_steps",
        "xs": [0.0, 0.9],
        "ys": [1, 4],
    }
    steps = cells | {"kind": "b1_plus", "fixed": {"inner_steps": 1}, "x": "eps", "y": "fraction"}
    measured = {
        "tightness": [row, row | {"least": None, "line": "T", "ratio": 0.5}],
        "mutants": mutants,
        "controls": [{"killed": True}],
        "maps": [{**item, "ratio": [[1.0, 1.0], [1.0, 0.47]]} for item in (cells, steps)],
        "evaluations": 12345,
        "violations": [],
    }
    return Record("verify", "adversary", "full-seed0", "k", "finished", {}, measured, PROVENANCE)


ON_ANOTHER_CARD = ("reference-documented-8192", "badam-fused-8192", "badam-keep-8192")


def cost_records() -> list[Record]:
    """Measured runs of one session, and the prediction of each; memory and time in round numbers."""
    seconds = {"forward": 0.1, "backward": 0.3, "update": 0.1, "step": 0.5}
    held = {"weights": 8 * 10**9, "master": 10**9, "gradients": 10**9, "state": 2 * 10**9}
    found = []
    names = [
        "reference-documented",
        "reference-options",
        "lora-documented",
        "lora-documented-without_tf32",
        "lora-options",
        "badam-float8",
        "badam-keep",
        "badam-fused",
        "badam-600mb",
        "badam-fused_host_600mb",
        "badam-card24",
        "badam-host_card24",
        "badam-fused_host_card24",
    ]
    names = [f"{name}-{tokens}" for name in names for tokens in (2048, 8192)]
    for name in [*names, "adamw-documented-layers8-8192", "adamw-documented-layers16-8192"]:
        layers = int(name.partition("layers")[2].partition("-")[0] or 0)
        factor = (0.5 if "badam" in name else 1.0) * (layers or 32) / 32
        visit = {"index": 3, "seconds": {k: factor * v for k, v in seconds.items()}, "held": held, "peak": 20 * 10**9}
        visit |= {"flops": factor * 1e14, "phases": {"forward": 1, "backward": int(factor * 20e9), "update": 2}}
        measured = {"rate": 5e14, "visits": [visit, visit | {"index": 0}], "seconds": visit["seconds"]}
        measured |= {"flops": factor * 1e14, "peak": int(factor * 20 * 10**9)}
        measured |= {"reserved": int(factor * 21 * 10**9), "context": 10**9}
        config = {"layers": layers or None, "model": {"architecture": {"num_hidden_layers": 32}}}
        found.append(Record("profile", "cost", name, "k", "finished", config, measured, PROVENANCE))
        phases = {"forward": 1, "backward": int(factor * 21 * 10**9), "update": 2}
        forecast = {"predicted": {"held": held, "phases": phases}}
        found.append(Record("profile", "cost_predicted", name, "k", "finished", config, forecast, PROVENANCE))
        if name in ON_ANOTHER_CARD:  # where keep is as slow as the reference
            other = measured if "badam-fused" in name else measured | {"seconds": seconds}
            provenance = PROVENANCE | {"device": "NVIDIA Z9 80GB"}
            found.append(Record("profile", "cost_h200", name, "k", "finished", config, other, provenance))
    return found


def execution_records() -> list[Record]:
    """Held-out losses of seeds 0 and 1 with all options off, all on, and 8-bit products."""
    found = []
    for version, losses in {"plain": (1.0, 1.5), "all": (1.01, 1.48), "fp8": (1.1, 1.45)}.items():
        for seed, loss in enumerate(losses):
            config = {"choices": {"execution": version}, "seed": seed, "steps": 200}
            measured = {"after": {"heldout_loss": loss}}
            name = f"seed{seed}-execution{version}"
            found.append(Record("train", "execution", name, "k", "finished", config, measured, PROVENANCE))
    return found


def of_study(study: str) -> list[Record]:
    return [record for record in cost_records() if record.study == study]


METHODS = {"badam": 1.5, "bsgd": 2.0, "adamw": 0.9, "sgd": 1.1, "lora": 1.0}


@pytest.fixture
def outputs(tmp_path, monkeypatch, worst_case_record, curves_record):
    """A folder of records and a build folder of its own."""
    for record in (worst_case_record, curves_record):
        write(record, tmp_path / "records")
    for method, loss in METHODS.items():
        write(train_record(method, loss), tmp_path / "records")
    write(practice_record(), tmp_path / "records")
    for record in theory_records():
        write(record, tmp_path / "records")
    for record in [adversary_record(), *cost_records(), *execution_records()]:
        write(record, tmp_path / "records")
    monkeypatch.setattr(build, "OUTPUTS", tmp_path / "records")
    monkeypatch.setattr(build, "COMMITTED", tmp_path / "committed")
    monkeypatch.setattr(build, "BUILD", tmp_path / "build")
    return tmp_path


def test_every_product_is_made_once_and_again_when_a_record_changes(outputs):
    products = build.products()
    assert {p.name for p in products} >= {"loss_curves", "memory", "bound_slack", "quick_study", "numbers"}
    products = [p for p in products if p.sources]  # the others show studies, see test_ablations.py
    assert build.build(products) == len(products)
    assert all(path.stat().st_size > 0 for p in products for path in p.files)
    assert build.build(products) == 0
    write(train_record("lora", 0.5), outputs / "records")
    assert build.build(products) == sum("quick" in p.sources for p in products)
    next(p for p in products if p.name == "memory").files[0].unlink()
    assert build.build(products) == 1


def test_some_runs_of_a_committed_study_do_not_stand_for_it(outputs):
    (product,) = (p for p in build.products() if p.name == "loss_curves")
    own = build.read(product)["quick"]
    for record in own:
        write(record, outputs / "committed")
    (outputs / "records" / "quick" / f"{own[0].name}.json").unlink()
    assert [r.path.parent.parent.name for r in build.read(product)["quick"]] == ["committed"] * len(own)
    write(train_record("another", 0.5), outputs / "records")
    assert {r.path.parent.parent.name for r in build.read(product)["quick"]} == {"records"}


def test_the_manifest_traces_every_file_to_records(outputs):
    import json

    build.build(build.products())
    manifest = json.loads((outputs / "build" / "manifest.json").read_text())
    assert manifest["loss_curves"]["producer"] == "paper.figures.loss_curves"
    assert manifest["loss_curves"]["records"]["quick/lora-seed0"] == {"key": "k", "commit": PROVENANCE["commit"]}


@pytest.fixture
def theory(worst_case_record, curves_record):
    """What the numbers need besides the quick study."""
    records = {"worst_case": worst_case_record, "curves": curves_record, "practice": practice_record()}
    records["adversary"] = adversary_record()
    profiles = {"cost": of_study("cost"), "predicted": of_study("cost_predicted"), "execution": execution_records()}
    profiles["other"] = of_study("cost_h200")
    return {"theory": theory_records(), **profiles, **{name: [record] for name, record in records.items()}}


def test_numbers_come_from_the_records(theory):
    text = numbers.text(quick=[train_record(m, loss) for m, loss in METHODS.items()], **theory)
    macros = dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", text))
    assert macros["QuickBestMethod"] == "AdamW"
    assert macros["QuickBestLoss"] == "0.900"
    assert macros["QuickBadamInnerSteps"] == "2"
    assert macros["TheoryChecks"] == r"2\,000"
    assert macros["AdversaryInstances"] == r"12\,345"
    assert (macros["AdversaryMutants"], macros["AdversaryLooseSurvivors"]) == ("3", "1")
    assert macros["QuickBytesVerdict"] == "agree to the byte"
    assert (macros["TheoryAuditSteps"], macros["TheoryAuditRatios"]) == ("200 and 1000", "1.50 and 7.12")
    assert (macros["TheoryAuditCorollaryRatio"], macros["TheoryAuditRandom"]) == ("11.2", "4")
    assert macros["TheoryAuditRandomRatio"] == "0.250"
    assert all(name.isalpha() for name in macros)


def test_the_study_of_cost_in_numbers():
    found = cost.numbers(of_study("cost"), of_study("cost_predicted"))
    assert found["CostOverReference"] == "2.00"
    assert found["CostKeepTokens"] == "32\\,768", "8,192 tokens in half of half a second"
    assert found["CostKeepShare"] == "40", "1e14 FLOPs at 5e14 a second are 0.2 s"
    assert found["CostPredictionError"] == "5.0"
    assert found["CostRate"] == "500"
    ratios = {"OverLora": "2.00", "FloatOverReference": "2.00", "FloatOverKeep": "1.00", "FusedOverKeep": "1.00"}
    ratios |= {"SmallFusedOverReference": "2.00", "CardFusedOverReferenceSmall": "2.00", "CardOverReference": "2.00"}
    assert {name: found[f"Cost{name}"] for name in ratios} == ratios
    assert found["CostSmallTokens"] == "8\\,192", "2,048 tokens in a quarter of a second"


def test_the_other_card_in_numbers_and_in_its_table():
    found = cost.other_card(of_study("cost_h200"))
    assert found["CostOtherCard"] == "Z9"
    assert (found["CostOtherFusedOverReference"], found["CostOtherFusedShare"]) == ("2.00", "40")
    assert (found["CostOtherFusedOverLora"], found["CostOtherSmallFusedOverReference"]) == ("--", "--"), "not measured"
    assert (found["CostOtherReferenceShare"], found["CostOtherMostOverReference"]) == ("40", "2.50")
    lines = cost_cards.text(of_study("cost"), of_study("cost_h200")).splitlines()
    assert r"\multicolumn{3}{c}{Z9}" in lines[2]
    (keep,) = (line for line in lines if "all kept" in line)
    assert keep == r"BAdam, ours, all kept & 8\,192 & 32\,768 & 40.0\,\% & 2.00 & 16\,384 & 20.0\,\% & 1.00 \\"
    assert len([line for line in lines if "8\\,192" in line]) == 3, "what both cards have"


def test_the_study_of_execution_in_numbers():
    found = execution.numbers(execution_records())
    assert found["ExecutionOffLosses"] == "1.000, 1.500"
    assert (found["ExecutionOnDifference"], found["ExecutionFloatDifference"]) == ("0.020", "0.100")
    assert found["ExecutionSeedDifference"] == "0.500"
    assert (found["ExecutionOnVerdict"], found["ExecutionFloatVerdict"]) == ("less than", "less than")
    far = [record for record in execution_records() if record.name != "seed1-executionplain"]
    assert execution.numbers(far)["ExecutionOnVerdict"] == "more than", "one seed has no spread"
    fewer = execution.numbers(execution_records()[:5])
    assert (fewer["ExecutionFloatLosses"], fewer["ExecutionFloatDifference"]) == ("1.100", "0.100"), (
        "the seeds of both"
    )


def test_versions_in_print():
    rows = cost.rows(of_study("cost"))
    printed = {(row.family, row.tokens, cost.in_print(row)) for row in rows}
    assert printed >= {
        ("badam", 8192, "8-bit products"),
        ("badam", 2048, "600 MB kept"),
        ("lora", 8192, "documented, no TF32"),
    }
    small = dataclasses.replace(rows[0], version="float8_700mb")
    assert cost.in_print(small) == "700 MB kept, 8-bit"
    assert cost.in_print(dataclasses.replace(rows[0], version="host_0gb")) == "recomputed, host"
    assert cost.in_print(dataclasses.replace(rows[0], version="fused_host_card24")) == "24 GB card, host, fused"
    assert cost.recomputed(rows, 2048).version == "600mb"
    assert cost.recomputed(rows, 2048, "fused").version == "fused_host_600mb"
    assert cost.recomputed(rows, 100) is None
    shown = {row.version for row in cost.compared(rows, 8192)}
    assert shown == {"documented", "options", "documented-without_tf32", "keep", "fused", "float8"}


def test_fewer_layers_are_followed_to_the_whole_model():
    (adamw,) = (row for row in cost.rows(of_study("cost")) if row.family == "adamw")
    assert adamw.layers == [8, 16]
    assert adamw.seconds["step"] == pytest.approx(0.5), "a quarter and a half of it at 8 and 16 of 32 layers"
    assert adamw.peak == pytest.approx(20e9)
    one = [record for record in of_study("cost") if "layers8" in record.name]
    with pytest.raises(ValueError, match="two depths are needed"):
        cost.rows(one)


def test_the_audit_refuses_records_that_say_something_else_than_the_text():
    records = theory_records()
    with pytest.raises(RecordError, match="no finished record of badam_d5_printed-quadratic-quick"):
        audit(records[:-1])
    for false in (
        audit_record("d4", "bilinear", [200], [0.5]),
        audit_record("d5", "bilinear", [1], [0.5]),
        audit_record("d4", "quadratic", [1], [1.5]),
    ):
        changed = [false if record.name == false.name else record for record in records]
        with pytest.raises(RecordError, match="they do not"):
            audit(changed)


def test_a_difference_between_predicted_and_measured_bytes_is_said(theory):
    from dataclasses import replace

    right = [train_record(m, loss) for m, loss in METHODS.items()]
    measured = right[0].measurements | {"measured_bytes": BYTES | {"state": 801}}
    text = numbers.text(quick=[replace(right[0], measurements=measured), *right[1:]], **theory)
    assert "differ for at least one method" in text


def test_missing_records_name_the_command(outputs):
    for path in (outputs / "records" / "quick").glob("*.json"):
        path.unlink()
    with pytest.raises(RecordError, match=r"study 'quick'.*run `make study` first"):
        build.build(build.products())


def test_a_method_without_a_record_is_named(outputs):
    (outputs / "records" / "quick" / "bsgd-seed0.json").unlink()
    with pytest.raises(RecordError, match="no finished record of bsgd, which the text quotes; run `make study`"):
        build.build(build.products())


def test_an_interrupted_product_is_made_again(outputs, monkeypatch):
    products = build.products()
    build.build(products)
    (memory,) = (p for p in products if p.name == "memory")
    memory.files[0].unlink()

    def interrupted(product, records):
        product.files[0].write_text("half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "make", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build.build(products)
    assert build.build(products) == 1
    assert memory.files[0].read_bytes().startswith(b"%PDF")


def test_captions_say_which_runs_they_show():
    said = runs.source([train_record("badam", 1.0), train_record("lora", 1.0)])
    assert said == "study quick, 2 runs on X CPU, 2026-01-02, commit 0123456789"
    dirty = Record(**{**vars(train_record("badam", 1.0)), "provenance": PROVENANCE | {"dirty": True}})
    assert runs.source([dirty]).endswith("commit 0123456789+changes")


QUOTING = ("abstract", "experiments", "practice")  # sections that could quote a result


def prose() -> str:
    """These sections without commands."""
    text = "".join((ROOT / "paper" / "sections" / f"{name}.tex").read_text() for name in QUOTING)
    text = re.sub(r"\\(?:cite|label|ref|includegraphics|input)(?:\[[^]]*\])?\{[^}]*\}", "", text)
    return re.sub(r"\\[a-zA-Z]+|arXiv:\S+", "", text)


def sections() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "paper" / "sections").glob("*.tex")))


def test_every_float_has_a_producer_and_a_source(outputs):
    text = sections()
    figures = set(re.findall(r"\\includegraphics\[[^]]*\]\{(\w+)\}", text))
    tables = set(re.findall(r"\\input\{build/tables/(\w+)\}", text))
    names = {p.name: p.folder.name for p in build.products()}
    assert figures == {name for name, folder in names.items() if folder == "figures"}
    assert tables == {name for name, folder in names.items() if folder == "tables"}
    floats = re.findall(r"\\begin\{(?:figure|table)\}.*?\\end\{(?:figure|table)\}", text, re.DOTALL)
    assert len(floats) == len(figures) + len(tables)
    assert all(re.search(r"Source: \\\w+Source\{\}", item) for item in floats)


def test_every_macro_of_the_text_is_defined(theory):
    text = numbers.text(quick=[train_record(m, loss) for m, loss in METHODS.items()], **theory)
    defined = set(re.findall(r"\\newcommand\{\\(\w+)\}", text))
    assert set(re.findall(r"\\((?:Quick|Theory|Practice|Adversary|Cost|Claims)\w+)", sections())) <= defined


def test_no_result_is_typed_by_hand():
    """Numbers in the prose are results, and results are macros; what describes the set-up is listed here."""
    # 135 million parameters, 30 layers, a 4-bit file, float32, SmolLM2; names of theorems, roots and norms
    set_up = {"135", "30", "4", "32", "2", "1", "3"}
    assert set(re.findall(r"\d+", prose())) <= set_up


def test_a_measurement_without_the_visits_of_the_table_is_named():
    from paper import practice

    before = practice.states([practice_record()])[0]
    assert practice.visit(before, 0, practice.SHOWN_RATE, practice.SHOWN_STEPS)["observed"] > 0
    with pytest.raises(RecordError, match=r"no visit of block 0 with lr=0\.5, K=10"):
        practice.visit(before, 0, 0.5, 10)
    with pytest.raises(RecordError, match="no visit of K=7 steps"):
        practice.step_of(before, 7)
    assert practice.median([3.0, 1.0, 2.0]) == 2.0
    assert practice.median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert practice.power_of_ten(1.23e-9) == r"1.2 \times 10^{-9}"


def test_the_mutation_table_keeps_the_clearest_witness_and_says_what_survives(outputs):
    from paper.tables import mutations, tightness

    record = adversary_record()
    weaker = {**record.measurements["mutants"][2], "ratio": 1.1}
    measured = record.measurements | {"mutants": [weaker, *record.measurements["mutants"]]}
    rows = mutations.text([Record(**{**vars(record), "measurements": measured})]).splitlines()[4:-2]
    assert rows[0] == r"A1 & each of 2 lines $\times2$ & Lemma T & 1.500 & 1.000 & 1.33 & 2 of 2 killed \\"
    assert rows[1] == r" & coupling $\Lambda$: dropped & Lemma T & $\infty$ & 1.000 & -- & killed \\"
    assert rows[2] == r" & $R$: halved & epoch & 0.900 & 1.000 & 2.22 & survives \\"
    assert len(rows) == 3
    assert "two scalar blocks, $K=1$ & epoch & 0.9999" in tightness.text([record])

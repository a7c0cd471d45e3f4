"""The paper: every product from small records, what it needs, and what it may not contain."""

import re
from pathlib import Path

import pytest

from paper import build, numbers, runs
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
        "steps": [{"loss": 5 - 0.1 * i, "lr": 1e-3, "grad_norm": 1.0, "seconds": 0.5} for i in range(12)],
        "before": {"heldout_loss": 4.5, "exact_match": 0.0, "items": 64},
        "after": {"heldout_loss": loss, "exact_match": 0.25, "items": 64},
        "predicted_bytes": BYTES,
        "measured_bytes": BYTES,
        "trained_parameters": 1000,
    }
    return Record("train", "quick", f"{method}-seed0", "k", "finished", config, measured, PROVENANCE)


def verify_record() -> Record:
    line = {"checks": 1000, "instances": 50, "largest_ratio": 0.9, "violations": 0}
    measured = {
        "lines": {"A0": line, "T": line | {"largest_ratio": None}},
        "instances": {"ratio": [0.1, 0.5, None]},
        "showcase": {"bound": [3.0, 2.0], "measured": [2.0, 1.0], "ratios": {"A0": [0.5, 1.0], "T": [None]}},
        "controls": [{"name": "C_t halved", "line": "epoch", "ratio": 2.0, "true_ratio": 1.0, "rejected": True}],
        "violations": 0,
    }
    return Record("verify", "theory", "a1-quadratic-quick", "k", "finished", {}, measured, PROVENANCE)


def practice_record() -> Record:
    """The committed analysis of a real model: small, and never computed by a clone."""
    (record,) = load_study("practice", kind="verify", folder=COMMITTED)
    return record


METHODS = {"badam": 1.5, "bsgd": 2.0, "adamw": 0.9, "sgd": 1.1, "lora": 1.0}


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """A folder of records and a build folder of its own."""
    for method, loss in METHODS.items():
        write(train_record(method, loss), tmp_path / "records")
    write(verify_record(), tmp_path / "records")
    write(practice_record(), tmp_path / "records")
    monkeypatch.setattr(build, "OUTPUTS", tmp_path / "records")
    monkeypatch.setattr(build, "COMMITTED", tmp_path / "committed")
    monkeypatch.setattr(build, "BUILD", tmp_path / "build")
    return tmp_path


def test_every_product_is_made_once_and_again_when_a_record_changes(outputs):
    products = build.products()
    assert {p.name for p in products} >= {"loss_curves", "memory", "bound_slack", "quick_study", "numbers"}
    assert build.build(products) == len(products)
    assert all(path.stat().st_size > 0 for p in products for path in p.files)
    assert build.build(products) == 0
    write(train_record("lora", 0.5), outputs / "records")
    assert build.build(products) == sum("quick" in p.module.SOURCES for p in products)
    next(p for p in products if p.name == "memory").files[0].unlink()
    assert build.build(products) == 1


def test_the_manifest_traces_every_file_to_records(outputs):
    import json

    build.build(build.products())
    manifest = json.loads((outputs / "build" / "manifest.json").read_text())
    assert manifest["loss_curves"]["producer"] == "paper.figures.loss_curves"
    assert manifest["loss_curves"]["records"]["quick/lora-seed0"] == {"key": "k", "commit": PROVENANCE["commit"]}


def test_numbers_come_from_the_records(outputs):
    text = numbers.text([train_record(m, loss) for m, loss in METHODS.items()], [verify_record()], [practice_record()])
    macros = dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", text))
    assert macros["QuickBestMethod"] == "AdamW"
    assert macros["QuickBestLoss"] == "0.900"
    assert macros["QuickBadamInnerSteps"] == "2"
    assert macros["TheoryChecks"] == r"2\,000"
    assert macros["QuickBytesVerdict"] == "agree to the byte"
    assert all(name.isalpha() for name in macros)


def test_a_difference_between_predicted_and_measured_bytes_is_said(outputs):
    from dataclasses import replace

    right = [train_record(m, loss) for m, loss in METHODS.items()]
    measured = right[0].measurements | {"measured_bytes": BYTES | {"state": 801}}
    text = numbers.text([replace(right[0], measurements=measured), *right[1:]], [verify_record()], [practice_record()])
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


def test_every_macro_of_the_text_is_defined(outputs):
    text = numbers.text([train_record(m, loss) for m, loss in METHODS.items()], [verify_record()], [practice_record()])
    defined = set(re.findall(r"\\newcommand\{\\(\w+)\}", text))
    assert set(re.findall(r"\\((?:Quick|Theory|Practice)\w+)", sections())) <= defined


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

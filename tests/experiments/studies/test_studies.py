"""The committed studies: every one composes and lists, and what is tuned covers what is reported."""

import json
import re
from functools import cache

import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from experiments import models
from experiments.errors import UserError
from experiments.studies import rates as tuned
from experiments.studies import show, study
from experiments.training import planning
from records import COMMITTED, ROOT, Record, load_study, write
from tests.cover import tiered

STUDIES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf" / "study").glob("*.yaml"))}
TUNED = sorted(name for name, given in STUDIES.items() if "tuned" in given)
TUNING = sorted(name for name, given in STUDIES.items() if given.get("tuning"))
ROWS = {
    "gsm8k": [{"question": f"What is {i} and {i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"} for i in range(400)],
    "alpaca_gpt4": [{"instruction": f"Say {i}.", "input": "", "output": f"Here is {i}."} for i in range(400)],
    "alpaca_cleaned": [{"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(400)],
    "math": [{"problem": f"What is ${i}+{i}$?", "solution": rf"It is $\boxed{{{2 * i}}}$."} for i in range(400)],
}


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """Folder with small data of the studies' schemas."""
    folder = tmp_path_factory.mktemp("data")
    for name, rows in ROWS.items():
        (folder / f"{name}.train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="session")
def shared():
    """What plans that are made together share: the studies have methods, models and data in common."""
    return planning.Shared()


@pytest.fixture
def listed(local, checkpoint, llama3, tmp_path, monkeypatch, shared):
    """listed(name, dry) -> entries of a committed study on small data; trained models are tiny checkpoints."""
    monkeypatch.setattr(models.Pretrained, "local", lambda self: llama3 if "Llama-3" in self.path else checkpoint)

    def make(name, *, dry=False):
        text = json.dumps(STUDIES[name])
        on_disk = "reasoning_gym" not in text and "workload=digits" not in text
        extra = [f"data.source.local={local}", "data.heldout_size=4"] if on_disk else []
        extra += ["data.test_size=null"] if "data.test=true" in STUDIES[name]["overrides"] else []
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            given = OmegaConf.create(STUDIES[name])
            return study.runs(given, extra, [f"records_dir={tmp_path}"], shared, dry=dry)

    return make


def choose_middle(name, folder, listed):
    """Record the third rate of every cell of a tuning study, as if it had been run."""
    entries, cells = listed(name), {}
    for entry in entries:
        cell = {key: value for key, value in entry.cell.items() if key not in (tuned.RATE, "seed")}
        cells.setdefault(json.dumps(cell), []).append(entry.cell[tuned.RATE])
    choices = [{"cell": json.loads(cell), "rate": sorted(rates)[len(rates) // 2]} for cell, rates in cells.items()]
    chosen = entries[0].plan.config.choices
    common = {key: chosen[key] for key in tuned.COMMON}
    config = {"study": name, "rule": "", "steps": 1, "batch_size": 1, **common}
    record = Record("tuning", tuned.FOLDER, name, "0" * 64, "finished", config, {"choices": choices}, {})
    write(record, folder)
    return choices


def one_at_a_time(cells):
    """Those cells that differ from the first on one axis at most, which compose every value of every axis once."""
    return [cell for cell in cells if sum(value != cells[0][key] for key, value in cell.items()) <= 1]


@pytest.mark.parametrize("name", tiered(sorted(STUDIES.keys() - TUNING), quick=("digits", "equal_time", "quick")))
def test_every_study_lists_with_names_of_its_own_and_a_time(name, listed, monkeypatch):
    every = study.cells
    monkeypatch.setattr(study, "cells", lambda *given: one_at_a_time(every(*given)))
    entries = listed(name, dry=True)
    names = [entry.name for entry in entries]
    assert STUDIES[name]["name"] == name
    assert len({*names}) == len({entry.plan.key for entry in entries}) == len(names) > 0
    text = show.table(entries)
    assert text.count("to do") == len(names)
    assert f"left: {len(names)} runs, about" in text


@cache
def cells_of(name):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return study.cells(OmegaConf.create(STUDIES[name]), [])


@pytest.mark.parametrize("name", tiered(TUNING, quick=("tuning_gsm8k",)))
def test_tuning_studies_try_as_many_rates_everywhere_and_can_run(name, listed, monkeypatch):
    cells = cells_of(name)
    rates = {}
    for cell in cells:
        rest = json.dumps({key: value for key, value in cell.items() if key != tuned.RATE}, default=str)
        rates.setdefault(rest, []).append(cell[tuned.RATE])
    assert len({len(tried) for tried in rates.values()}) == 1
    assert all(len({*tried}) == len(tried) >= 3 for tried in rates.values())
    first = {key: value for key, value in cells[0].items() if key != tuned.RATE}
    grid = [cell for cell in cells if {key: value for key, value in cell.items() if key != tuned.RATE} == first]
    monkeypatch.setattr(study, "cells", lambda *given: grid)
    assert [entry.state for entry in listed(name)] == ["to do"] * len(grid)


@pytest.mark.integration
@pytest.mark.parametrize("name", TUNED)
def test_every_reported_run_has_a_tuned_rate(name):
    """Every method of the study, or the one whose rate it takes, is tuned on the data of the run."""
    given = STUDIES[name]
    known = {
        (cell["method"], data_of(STUDIES[tuning]["overrides"]))
        for tuning in ([given["tuned"]] if isinstance(given["tuned"], str) else given["tuned"])
        for cell in cells_of(tuning)
    }
    for cell in cells_of(name):
        overrides = [*given["overrides"], *study.as_overrides(cell)]
        method = next(item for item in reversed(overrides) if item.startswith("method=")).partition("=")[2]
        of = None if "preset=headline_8b" in overrides else rate_of(method)  # where every method has its own
        assert (of or method, data_of(overrides)) in known


@cache
def rate_of(method):
    return yaml.safe_load((ROOT / "conf" / "method" / f"{method}.yaml").read_text()).get("rate_of")


def data_of(overrides):
    """What the overrides choose, or their preset does."""
    preset = next((item.partition("=")[2] for item in overrides if item.startswith("preset=")), None)
    if not any(item.startswith("data=") for item in overrides):
        return _data_of_preset(preset)
    return next(item for item in reversed(overrides) if item.startswith("data="))


def _data_of_preset(preset):
    defaults = yaml.safe_load((ROOT / "conf" / "preset" / f"{preset}.yaml").read_text())["defaults"]
    chosen = [each["override /data"] for each in defaults if isinstance(each, dict) and "override /data" in each]
    return f"data={chosen[0]}" if chosen else _data_of_preset(defaults[0])


@pytest.mark.slow
def test_a_study_takes_the_rates_of_several_tuning_studies_and_of_other_methods(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(tuned, "COMMITTED", tmp_path / "nothing")
    every = study.cells
    kept = {"variant/badam_blocks5", "variant/badam_window5", "variant/badam_kept", "bread", "badam"}
    monkeypatch.setattr(
        study, "cells", lambda *given: [cell for cell in every(*given) if cell["method"] in kept and cell["seed"] != 1]
    )
    with pytest.raises(UserError, match=r"study=tuning_gsm8k are not recorded; .*study=tuning_variants are not reco"):
        listed("variants")
    rates = {}
    for name in ("tuning_gsm8k", "tuning_variants"):
        rates |= {choice["cell"]["method"]: choice["rate"] for choice in choose_middle(name, tmp_path, listed)}
    for entry in listed("variants"):
        method = entry.plan.config.choices.method
        source = {"variant/badam_window5": "variant/badam_blocks5", "variant/badam_kept": "badam"}.get(method, method)
        assert entry.plan.config.method.lr == rates[source]
    assert rates["badam"] != rates["variant/badam_blocks5"]


def test_values_by_an_earlier_axis():
    given = {
        "name": "small",
        "axes": {"partition": ["by_layer", "by_module"], "steps": {"partition": {"by_layer": 7, "by_module": [3, 4]}}},
        "overrides": [],
    }
    made = study.cells(OmegaConf.create(given), [])
    assert [(cell["partition"], cell["steps"]) for cell in made] == [
        ("by_layer", 7),
        ("by_module", 3),
        ("by_module", 4),
    ]
    given["axes"]["seed"] = [0, 1]
    given["axes"]["batch_size"] = {"seed": {0: {"steps": {7: 2, 3: 4, 4: [5, 6]}}, 1: 8}}
    made = [(cell["seed"], cell["steps"], cell["batch_size"]) for cell in study.cells(OmegaConf.create(given), [])]
    assert made == [(0, 7, 2), (1, 7, 8), (0, 3, 4), (1, 3, 8), (0, 4, 5), (0, 4, 6), (1, 4, 8)]
    given["axes"]["batch_size"] = {"seed": {0: {"steps": {7: 2}}, 1: 8}}
    with pytest.raises(UserError, match="study=small has no values of batch_size for seed=0, steps=3"):
        study.cells(OmegaConf.create(given), [])
    for table in ({}, {"seed": {}, "steps": {}}, {"seed": 5}, {"seed": None}, {"seed": {0: {"steps": 5}, 1: 8}}):
        given["axes"]["batch_size"] = table
        with pytest.raises(UserError, match=r"study=small (gives|has no) values of batch_size"):
            study.cells(OmegaConf.create(given), [])
    del given["axes"]["batch_size"], given["axes"]["seed"]
    norms = {"max_grad_norm": [None, 0.1], "steps": {"max_grad_norm": {"null": 7, 0.1: 3}}}
    made = study.cells(OmegaConf.create(given | {"axes": norms}), [])
    assert [(cell["max_grad_norm"], cell["steps"]) for cell in made] == [(None, 7), (0.1, 3)]
    given["axes"]["steps"] = {"partition": {"by_layer": 7}}
    with pytest.raises(UserError, match="study=small has no values of steps for partition=by_module"):
        study.cells(OmegaConf.create(given), [])
    given["axes"]["steps"] = {"order": {"by_layer": 7}}
    with pytest.raises(UserError, match="no values of steps for the axis order, which is none before it"):
        study.cells(OmegaConf.create(given), [])


def test_equal_time_is_the_time_of_the_steps_of_lora():
    alone = load_study("steps_alone", kind="profile", folder=COMMITTED)
    seconds = {}
    for record in alone:
        chosen = record.config["choices"]
        seconds[chosen["data"], chosen["method"]] = record.measurements["seconds_per_step"]
    axes = STUDIES["headline"]["axes"]
    assert STUDIES["equal_time"]["axes"]["steps"]["data"] == {
        data: {
            "method": {method: round(180 * seconds[data, "lora"] / seconds[data, method]) for method in axes["method"]}
        }
        for data in axes["data"]
    }


@pytest.mark.integration
def test_the_plan_counts_the_runs_of_every_reported_study():
    text = (ROOT / "results" / "PLAN.md").read_text()
    rows = [re.split(r" *\| *", line)[1:] for line in text.splitlines() if line.startswith("| ")]
    rows = [row[1:] if row[0].isdigit() else row for row in rows]  # the number of the stage
    pairs = [(row[0].split(", "), row[1].split(", ")) for row in rows]
    planned = {name: int(runs) for some in pairs for name, runs in zip(*some, strict=False) if runs.isdigit()}
    others = ("execution", "digits")  # which check the code, and rank nothing
    reported = [name for name in STUDIES if (COMMITTED / f"{name}.jsonl").exists() and name not in others]
    reported = [name for name in reported if not STUDIES[name].get("extend", STUDIES[name].get("tuning", 0))]
    assert set(reported) <= planned.keys()
    assert planned == {name: len(cells_of(name)) for name in planned}
    first, _ = text.split("# Plan of the second regime")
    assert f"The stages have {sum(runs for name, runs in planned.items() if f'| {name} |' in first)} runs" in first
    assert f"`study=digits` ({len(cells_of('digits'))} runs" in text


@pytest.mark.integration
def test_the_quick_study_covers_a_whole_block_epoch_at_equal_steps():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        quick = yaml.safe_load((ROOT / "conf/study/quick.yaml").read_text())
        assert set(quick["axes"]["method"]) == {"badam", "bsgd", "adamw", "sgd", "lora"}
        for method in quick["axes"]["method"]:
            config, _ = study.compose([*quick["overrides"], f"method={method}"])
            assert config.steps == 60
            assert config.data.heldout_size >= 64
            if "inner_steps" in config.method:
                assert config.steps >= config.model.architecture.num_hidden_layers * config.method.inner_steps


def test_overrides_make_another_study_and_cannot_touch_its_axes(entries):
    config = OmegaConf.create({"name": "small"})
    assert study.study_name(config, []) == "small"
    assert re.fullmatch(r"small-[0-9a-f]{8}", study.study_name(config, ["steps=5"]))
    with pytest.raises(UserError, match="study=small sweeps over seed itself; drop seed=3"):
        entries("small", {"method": ["badam"], "seed": [0]}, extra=["seed=3"])


def test_two_runs_never_share_a_name(entries):
    with pytest.raises(UserError, match="study=twice has two runs named badam-seed0"):
        entries("twice", {"method": ["badam", "badam"], "seed": [0]})
    with pytest.raises(UserError, match="study=print has two runs named a_b-sgd"):
        entries("print", {"data.system": ["a b", "a_b"], "method": ["sgd"]})

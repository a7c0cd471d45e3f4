"""Labels that the paper groups runs by: they reach the record and decide neither what is measured nor its key."""

import pytest
import yaml
from hydra import compose, initialize_config_dir

from experiments import configuration, profile
from experiments.command import spelled_out
from experiments.cost import case
from experiments.evaluate import evaluation
from records import ROOT, load


@pytest.fixture
def evaluate(checkpoint, tmp_path, monkeypatch):
    """evaluate(*overrides) -> record and comparison of the held-out part on small data."""
    monkeypatch.setattr(evaluation, "KEPT", tmp_path / "kept")
    fixed = [f"path={checkpoint}", "data.train_size=8", "data.heldout_size=2", "data.max_tokens=256", "device=cpu"]
    fixed += ["parts=[heldout]", f"records_dir={tmp_path}/records"]

    def execute(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose(
                "evaluate", overrides=spelled_out([*fixed, *overrides], "evaluate"), return_hydra_config=True
            )
        ((record, compared),) = evaluation.execute(evaluation.plan(config, configuration.choices(config.hydra)))
        assert record.status == "finished", record.error
        return record, compared

    return execute


def test_labels_of_an_evaluation_are_in_its_record_and_in_the_comparison(evaluate):
    first, _ = evaluate("name=a", "about.method=untrained", "about.model=tiny")
    assert first.config["about"] == {"method": "untrained", "model": "tiny", "data": None}
    second, compared = evaluate("name=b", "before=a", "about.method=badam", "about.data=gsm8k")
    assert second.key == first.key
    assert compared.config["about"] == {"method": "badam", "model": None, "data": "gsm8k", "baseline": "untrained"}


def test_other_labels_change_the_record_and_measure_nothing_again(evaluate, monkeypatch, tmp_path):
    before, _ = evaluate("name=a", "about.method=one")
    monkeypatch.setattr(evaluation, "_measure", None)
    after, _ = evaluate("name=a", "about.method=another")
    assert after.measurements == before.measurements
    written = load(tmp_path / "records" / "evaluate" / "a-heldout.json")
    assert written.config == before.config | {"about": before.config["about"] | {"method": "another"}}


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return profile.compose(["model=smollm2_135m", "tokens=64", "sequence=32", *overrides])


def test_labels_of_a_profile_are_in_its_record_and_not_in_its_key():
    first, second = (
        case.record(composed(*labels), "cost", {"peak": 1})
        for labels in ([], ["about.family=badam", "about.version=keep", "tf32=true"])
    )
    assert first.config["about"] == {"family": None, "version": None, "tf32": True}
    assert second.config["about"] == {"family": "badam", "version": "keep", "tf32": True}
    assert first.key == second.key


def test_every_run_of_the_sweep_of_cost_has_labels():
    runs = yaml.safe_load((ROOT / "conf" / "sweep" / "cost.yaml").read_text())["runs"]
    for name, overrides in runs.items():
        labels = dict(item.split("=") for item in overrides if item.startswith("about."))
        layers = next((f"layers{item.partition('=')[2]}" for item in overrides if item.startswith("layers=")), "")
        without = "without_tf32" if "tf32=false" in overrides else ""
        (tokens,) = (item.partition("=")[2] for item in overrides if item.startswith("tokens="))
        parts = [labels["about.family"], labels["about.version"], layers, without, tokens]
        assert name == "-".join(filter(None, parts)), "names are for readers, and say the same"

"""Plans: what makes a run another one, what is refused before any work, and that composing once is composing."""

import json

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from experiments import configuration
from experiments.command import spelled_out
from experiments.studies import overrides, study
from experiments.training import planning
from experiments.training.run import Run
from experiments.training.running import execute
from tests.experiments.conftest import ROOT, TINY


def test_finished_means_config_code_and_data(tiny, monkeypatch):
    execute(Run(tiny("method=badam")))
    assert Run(tiny("method=badam")).finished
    assert not Run(tiny("method=badam", "seed=1")).finished
    assert not Run(tiny("method=badam", "data.train_seed=99")).finished
    monkeypatch.setattr("experiments.sources.code_hash", lambda modules: "other code")
    assert not Run(tiny("method=badam")).finished


def test_how_to_run_is_not_what_is_run(tiny, tmp_path):
    assert tiny("force=true").key == tiny(f"records_dir={tmp_path}/other").key


@pytest.mark.slow
def test_composing_once_gives_what_hydra_gives(entries):
    axes = {"method": ["badam", "lora"], "method.lr": "learning_rates", "seed": [0, 3], "max_grad_norm": [None, 0.5]}
    listed = entries("grid", axes)
    assert len(listed) == 40
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for entry in listed[::7]:
            fixed = [f"{key}={value}" for key, value in OmegaConf.to_container(entry.plan.config.model).items()]
            path = next(item for item in fixed if item.startswith("path="))
            given = ["model=pretrained", f"model.{path}", *TINY, *study.as_overrides(entry.cell)]
            again = planning.plan(*study.compose([*given, f"records_dir={entry.plan.config.how.records_dir}"]))
            assert again.identity == entry.plan.identity
            assert again.key == entry.plan.key
            assert again.expected == entry.plan.expected


def test_a_plan_travels_without_its_skeleton(tiny):
    import pickle

    planned = tiny("method=badam")
    expected = planned.expected
    again = pickle.loads(pickle.dumps(planned))
    assert "skeleton" not in vars(again)
    assert (again.key, again.identity, again.expected) == (planned.key, planned.identity, expected)


def test_the_place_of_the_data_is_no_part_of_a_run(tmp_path, places):
    rows = [{"question": f"What is {i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(60)]
    keys = []
    for name, count, option in (("a", 60, "data.source.local"), ("b", 60, "local_data"), ("c", 59, "local_data")):
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(row) + "\n" for row in rows[:count])
        (tmp_path / name / "gsm8k.train.jsonl").write_text(text)
        given = ["data=gsm8k", f"{option}={tmp_path}/{name}", "data.heldout_size=3", "batch_size=2"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            planned = planning.plan(*study.compose([*places, "device=cpu", *given]))
        assert str(tmp_path / name) not in json.dumps(planned.identity["data"])
        assert planned.workload.data.source.local == str(tmp_path / name)
        keys.append(planned.key)
    assert keys[0] == keys[1] != keys[2]
    override = spelled_out([f"data.source.local={tmp_path}/a", "local_data=b"])
    assert overrides.extra_overrides(override) == []
    assert overrides.passed_on(override) == override


# --- refusals ---


@pytest.mark.parametrize("value", ["0", "two", "true", "1.5", "null"])
def test_impossible_counts_and_switches_are_refused(value):
    config = OmegaConf.from_dotlist([f"rounds={value}"])
    with pytest.raises(ValueError, match=f"rounds={config.rounds!r} is not possible: it must be a whole number"):
        configuration.require_how(config)
    if value != "true":
        config = OmegaConf.from_dotlist([f"force={value}"])
        with pytest.raises(ValueError, match=f"force={config.force!r} is not one of True, False"):
            configuration.require_how(config)
    configuration.require_how(OmegaConf.from_dotlist(["rounds=2", "workers=1", "dry=true", "retry=false"]))


REFUSALS = {
    "method.inner_steps=0": "inner_steps=0 is not possible",
    "method.lr=-1": "lr=-1 is not possible",
    "steps=0": "steps=0 is not possible",
    "batch_size=0": "batch_size=0 is not possible",
    "accumulation=0": "accumulation=0 is not possible",
    "accumulation=3": "accumulation=3 does not divide batch_size=2",
    "data.bucket=0": "data.bucket=0 is not possible",
    "data.test=maybe": "data.test='maybe' is not one of True, False",
    "data.test_seed=1000003": "data.heldout_seed=1000000 and data.test_seed=1000003 are closer than",
    "batch_size=9": "batch_size=9 exceeds data.train_size=8",
    "max_grad_norm=0": "max_grad_norm=0 is not possible",
    "dtype=float8": "dtype='float8' is not one of float32, float64, bfloat16",
    "device=tpu": "device='tpu' is not one of auto, cpu, cuda",
    "rule.betas=[1.0,0.9]": "beta1=1.0 is not possible",
    "rule.weight_decay=-1": "weight_decay=-1 is not possible",
    "outside_layers.head=keep": "head='keep' is not one of train, join, freeze",
    "outside_layers.embedding=train": "the head is tied to model.embed_tokens.weight",
    "+data.tasks.sudoko={}": "'sudoko', which reasoning-gym lacks",
    "+data.tasks.lcm.sise=3": r"data.tasks.lcm=.* is refused by reasoning-gym",
    "data.heldout_seed=3": "closer than",
    "data.heldout_size=0": "data.heldout_size=0 is not possible",
    "evaluation.max_new_tokens=0": "evaluation.max_new_tokens=0 is not possible",
    "steps=abc": "steps='abc' is not possible: it must be a whole number",
    "steps=1.5": "steps=1.5 is not possible",
    "seed=x": "seed='x' is not possible",
    "max_grad_norm=x": "max_grad_norm='x' is not possible",
    "method.lr=abc": "lr='abc' is not possible: it must be a number",
    "data.train_size=abc": "data.train_size='abc' is not possible: it must be a whole number",
    "schedule.num_warmup_steps=abc": "schedule=.* is not possible",
    "method.order=cyclic": "method.order=cyclic is no order; choose one with order=cyclic",
    "method.partition=single": "choose one with partition=single",
    "model.path=/nowhere/at/all": "model.path='/nowhere/at/all' is no folder",
}


@pytest.mark.parametrize("override", REFUSALS)
def test_impossible_values_are_refused_before_any_work(override, tiny, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=REFUSALS[override]):
        _ = tiny(override).skeleton


def test_a_command_without_the_axis_computes_steps_the_plain_way():
    """A method such as variant/sign sets an option of the execution, which experiments.curvature does not have."""
    for config in ({}, {"execution": {"step_in_backward": True}}):
        assert planning.execution(OmegaConf.create(config)) == planning.PLAIN


@pytest.mark.parametrize(("given", "steps"), [("epochs=3", 12), ("epochs=0.5", 2), ("epochs=0.01", 1), ("steps=6", 6)])
def test_a_run_has_both_steps_and_epochs(given, steps, tiny):
    planned = tiny("steps=null", given)  # 8 examples in batches of 2
    assert planned.config.steps == planned.setting.steps == planned.identity["steps"] == steps
    assert planned.identity["epochs"] == (steps / 4 if given == "steps=6" else float(given.partition("=")[2]))
    assert planned.config.schedule.num_training_steps == steps
    again = planning.plan(planned.config, planned.config.choices)
    assert (again.config.steps, again.key) == (steps, planned.key), "a record's configuration gives the same run"


def test_without_steps_and_epochs_a_run_has_the_usual_steps(tiny):
    assert tiny("steps=null").config.steps == planning.STEPS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["epochs=3", "steps=7"], r"epochs=3 are 12 steps, and steps=7 is given too; drop one of them \(steps=null"),
        (["epochs=0", "steps=null"], "epochs=0 is not possible"),
        (["epochs=all", "steps=null"], "epochs='all' is not possible"),
        (["steps=0"], "steps=0 is not possible"),
    ],
)
def test_steps_and_epochs_that_cannot_be_are_refused(given, message, tiny):
    with pytest.raises(ValueError, match=message):
        tiny(*given)


@pytest.mark.integration
def test_a_run_over_epochs_takes_their_steps(tiny):
    record = execute(Run(tiny("steps=null", "epochs=1.5", "evaluation=loss")))
    assert record.status == "finished", record.error
    assert len(record.measurements["steps"]["loss"]) == record.config["steps"] == 6
    assert record.config["epochs"] == 1.5

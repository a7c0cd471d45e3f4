"""The training loop, studies, replay and every refusal, on a tiny Llama."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf, open_dict

from experiments import configuration
from experiments.data import IGNORED, Example, batches, collate
from experiments.errors import UserError
from experiments.studies import estimate, runner, show, study
from experiments.training import planning, running
from experiments.training.loop import Training
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import Evaluation, answer_loss
from records import load

ROOT = Path(__file__).resolve().parent.parent.parent
METHODS = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
TINY = ["steps=4", "batch_size=2", "data.train_size=8", "data.heldout_size=6", "data.max_tokens=256", "device=cpu"]


@pytest.fixture
def tiny(checkpoint, tmp_path):
    """tiny(*overrides) -> (config, choices) of a run on the tiny Llama, with records in a folder of its own."""

    def compose(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            places = [f"records_dir={tmp_path}", f"checkpoint.folder={tmp_path}/checkpoints"]
            fixed = ["model=pretrained", f"model.path={checkpoint}", *places, *TINY]
            return study.compose([*fixed, *overrides])

    return compose


def trained(tiny, *overrides):
    running._evaluations.clear()  # so that the evaluation before training is really computed
    planned = planning.plan(*tiny(*overrides))
    record = execute(Run(planned))
    assert record.status == "finished", record.error
    return planned, record


def metrics(record):
    """Everything measured except seconds."""
    text = json.dumps(record.measurements, sort_keys=True)
    return re.sub(r'"seconds": (\[[^]]*\]|[0-9.e+-]+)', "", text)


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_leaves_a_record(method, dtype, tiny):
    planned, record = trained(tiny, f"method={method}", f"dtype={dtype}", "steps=6")
    measured = record.measurements
    assert len(measured["steps"]["loss"]) == 6
    assert measured["before"]["items"] == measured["after"]["items"] == 6
    assert measured["after"]["heldout_loss"] != measured["before"]["heldout_loss"]
    assert measured["measured_bytes"] == measured["predicted_bytes"]
    found = load(configuration.folder(planned.config) / "single" / f"{planned.name}.json")
    assert found == record
    assert record.config["choices"]["method"] == method
    assert record.provenance["versions"]["torch"].startswith("2.")


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(method, tiny):
    _, first = trained(tiny, f"method={method}")
    _, again = trained(tiny, f"method={method}")
    _, other = trained(tiny, f"method={method}", "seed=1")
    assert metrics(first) == metrics(again)
    assert metrics(first) != metrics(other)


NEEDED = {  # values that have no default
    "partition=by_regex": ["partition.patterns=['model.layers.0.*']"],
    "order=weighted": ["order.weights=[1,2]"],
    "order=fixed": ["order.visits=[0,[0,1]]"],
}
CELLS = [f"{axis}={path.stem}" for axis in planning.AXES for path in sorted((ROOT / "conf" / axis).glob("*.yaml"))]


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("cell", CELLS)
def test_every_partition_order_and_rule_trains(cell, tiny):
    _, record = trained(tiny, "method=badam", cell, *NEEDED.get(cell, []))
    assert record.measurements["measured_bytes"]["state"] == record.measurements["predicted_bytes"]["state"]
    assert record.measurements["after"]["heldout_loss"] != record.measurements["before"]["heldout_loss"]


def test_data_order_does_not_depend_on_the_block_order(tiny):
    _, reshuffled = trained(tiny, "method=badam", "order=random_reshuffle")
    _, descending = trained(tiny, "method=badam", "order=descending")
    first = [record.measurements["steps"]["loss"][0] for record in (reshuffled, descending)]
    assert first[0] == first[1]


def test_frozen_parts_stay_bitwise(tiny):
    planned = planning.plan(*tiny("method=badam"))
    model, tokenizer = planned.workload.model.load(torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainable = configuration.build(planned.config.method)(model)
    dataset = planned.workload.data.load(tokenizer)
    schedule = configuration.build(planned.config.schedule)(trainable.optimizer)
    pad = tokenizer.pad_token_id
    training = Training(
        trainable,
        schedule,
        lambda start: batches(dataset.train, 2, pad, 0, start),
        lambda model, batch, _: answer_loss(model, batch),
        max_grad_norm=1.0,
    )
    for _ in range(4):
        training.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {name for name in before if ".layers." in name}


def test_lora_starts_as_the_untrained_model(tiny):
    _, lora = trained(tiny, "method=lora", "steps=1", "method.lr=0")
    before, after = lora.measurements["before"], lora.measurements["after"]
    assert after["heldout_loss"] == pytest.approx(before["heldout_loss"], rel=1e-6)


@pytest.mark.parametrize("norm", ["1.0", "null"])
def test_lomo_trains_as_sgd_and_knows_the_gradient_norm_only_when_it_clips(norm, tiny):
    (_, lomo), (_, sgd) = (trained(tiny, f"method={name}", f"max_grad_norm={norm}") for name in ("lomo", "sgd"))
    ours, plain = lomo.measurements["steps"], sgd.measurements["steps"]
    assert ours["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert ours.get("grad_norm") == (None if norm == "null" else pytest.approx(plain["grad_norm"], rel=1e-4))
    assert lomo.measurements["measured_bytes"]["gradients"] < sgd.measurements["measured_bytes"]["gradients"]


def test_answer_loss_is_the_plain_loss(checkpoint):
    model, _ = configuration.build({"_target_": "experiments.models.Pretrained", "path": str(checkpoint)}).load(
        torch.float64
    )
    examples = [Example([5, 6, 7], [8, 1], bool), Example([5, 6, 7, 9, 4], [3, 3, 1], bool)]
    batch = collate(examples, pad=1)
    logits = model(input_ids=batch.tokens).logits[:, :-1]
    labels = batch.labels[:, 1:]
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(answer_loss(model, batch), plain, rtol=1e-12, atol=0)


def test_batches_are_seeded_permutations():
    examples = [Example([i], [1], bool) for i in range(5)]
    drawn, again = (
        [batch.tokens[:, 0].tolist() for batch in itertools.islice(batches(examples, 2, 0, seed=1), 4)]
        for _ in range(2)
    )
    assert drawn == again
    for epoch in (drawn[:2], drawn[2:]):
        assert len({i for pair in epoch for i in pair}) == 4


@pytest.mark.parametrize("start", range(7))
def test_a_stream_goes_on_from_any_batch(start):
    examples = [Example([i], [1], bool) for i in range(5)]
    whole = [batch.tokens[:, 0].tolist() for batch in itertools.islice(batches(examples, 2, 0, seed=1), 10)]
    later = itertools.islice(batches(examples, 2, 0, seed=1, start=start), 10 - start)
    assert [batch.tokens[:, 0].tolist() for batch in later] == whole[start:]


def test_the_evaluation_before_training_is_of_its_own_data(tiny):
    running._evaluations.clear()
    first = execute(Run(planning.plan(*tiny("data.system=Add."))))
    second = execute(Run(planning.plan(*tiny("data.system=Subtract."))))
    assert first.measurements["before"]["heldout_loss"] != second.measurements["before"]["heldout_loss"]


def test_dropout_is_seeded_by_the_run(checkpoint, tiny, tmp_path):
    folder = tmp_path / "with_dropout"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    _, first = trained(tiny, f"model.path={folder}", "method=sgd")
    torch.rand(1)  # the global generator's state is none of the run's business
    _, again = trained(tiny, f"model.path={folder}", "method=sgd")
    _, plain = trained(tiny, "method=sgd")
    assert metrics(first) == metrics(again)
    assert first.measurements["steps"]["loss"] != plain.measurements["steps"]["loss"]


# --- finished, failed, studies, replay ---


def test_finished_means_config_code_and_data(tiny, monkeypatch):
    trained(tiny, "method=badam")
    assert Run(planning.plan(*tiny("method=badam"))).finished
    assert not Run(planning.plan(*tiny("method=badam", "seed=1"))).finished
    assert not Run(planning.plan(*tiny("method=badam", "data.train_seed=99"))).finished
    monkeypatch.setattr("experiments.sources.code_hash", lambda modules: "other code")
    assert not Run(planning.plan(*tiny("method=badam"))).finished


def test_how_to_run_is_not_what_is_run(tiny, tmp_path):
    assert planning.plan(*tiny("force=true")).key == planning.plan(*tiny(f"records_dir={tmp_path}/other")).key


def test_a_failing_run_is_a_record(tiny):
    planned = planning.plan(*tiny("method=sgd", "method.lr=1e30", "max_grad_norm=null", "steps=6"))
    record = execute(Run(planned))
    assert record.status == "failed"
    assert re.match(
        r"FloatingPointError: the (loss|gradient norm) is (nan|inf) at step \d; try a smaller method.lr", record.error
    )
    assert record.measurements["steps"], "what was measured before the failure is kept"
    assert Run(planned).finished is None


@pytest.fixture
def small_study(tiny, checkpoint, tmp_path):
    """small_study(methods) -> entries of a study over methods on the tiny Llama."""

    def make(methods, *extra):
        fixed = ["model=pretrained", f"model.path={checkpoint}", *TINY]
        config = OmegaConf.create({"name": "small", "axes": {"method": methods, "seed": [0]}, "overrides": fixed})
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return study.runs(config, extra, [f"records_dir={tmp_path}", f"checkpoint.folder={tmp_path}/checkpoints"])

    return make


def test_a_study_skips_what_is_finished_and_goes_on_after_a_failure(small_study, monkeypatch, capsys):
    listed = small_study(["badam", "sgd", "lora"])
    assert [entry.name for entry in listed] == ["badam-seed0", "sgd-seed0", "lora-seed0"]
    assert all(estimate.seconds(entry) > 0 for entry in listed)
    measure = running.Running.measure

    def broken(self, found, interruption):
        if self.planned.name.startswith("sgd"):
            raise OSError("disk full")
        measure(self, found, interruption)

    monkeypatch.setattr(running.Running, "measure", broken)
    records = runner.execute(listed, "small", retry=True)
    assert [record.status for record in records] == ["finished", "failed", "finished"]
    assert "sgd-seed0: FAILED, OSError: disk full" in capsys.readouterr().out
    monkeypatch.setattr(running.Running, "measure", measure)
    listed = small_study(["badam", "sgd", "lora"])
    assert [entry.state for entry in listed] == ["finished", "failed", "finished"]
    assert "left: 1 runs" in show.table(listed)
    assert [record.status for record in runner.execute(listed, "small", retry=True)] == ["finished"] * 3


def test_overrides_make_another_study_and_cannot_touch_its_axes(small_study):
    config = OmegaConf.create({"name": "small"})
    assert study.study_name(config, []) == "small"
    assert re.fullmatch(r"small-[0-9a-f]{8}", study.study_name(config, ["steps=5"]))
    with pytest.raises(UserError, match="study=small sweeps over seed itself; drop seed=3"):
        small_study(["badam"], "seed=3")


def test_replay_compares_every_metric(tiny, capsys):
    from experiments import replay

    planned, _ = trained(tiny, "method=badam")
    path = configuration.folder(planned.config) / "single" / f"{planned.name}.json"
    assert replay.replay(path, rtol=0.0) == []
    content = json.loads(path.read_text())
    for key in replay.FORMER:
        del content["config"][key]
    path.write_text(json.dumps(content))
    assert replay.replay(path, rtol=0.0) == []
    content["measurements"]["after"]["heldout_loss"] *= 1 + 1e-9
    content["measurements"]["steps"]["loss"][2] += 0.5
    content["measurements"]["steps"]["lr"].pop()
    path.write_text(json.dumps(content))
    found = replay.replay(path, rtol=1e-6)
    assert len(found) == 2
    assert found[0].startswith("steps.loss[2]: ")
    assert found[1] == "steps.lr[3]: only in the replay"
    content["config"]["device"] = "cuda"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="only CPU records can be replayed"):
        replay.replay(path, rtol=0.0)


# --- refusals ---

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
        _ = planning.plan(*tiny(override)).skeleton


def test_examples_are_never_truncated(tiny):
    planned = planning.plan(*tiny("data.max_tokens=40"))
    record = execute(Run(planned))
    assert re.search(r"a question of \d+ tokens exceeds data.max_tokens=40", record.error)


@pytest.mark.parametrize("axis", planning.AXES)
def test_an_axis_that_the_method_lacks_is_refused_by_name(axis, tiny):
    name = sorted(path.stem for path in (ROOT / "conf" / axis).glob("*.yaml"))[0]
    with pytest.raises(Exception, match=f"Could not override '{axis}'"):
        tiny("method=adamw", f"{axis}={name}")
    with open_dict(tiny("method=adamw")[0]) as config:
        config[axis] = {"_target_": "bcd.Cyclic"}
        with pytest.raises(UserError, match=f"method=adamw has no axis '{axis}'"):
            planning.plan(config, {"method": "adamw", "model": "pretrained", "data": "reasoning_gym", axis: name})


def test_outside_layers_need_a_partition(tiny):
    with pytest.raises(UserError, match="method=adamw has no partition, so outside_layers means nothing"):
        planning.plan(*tiny("method=adamw", "+outside_layers.embedding=train"))


def test_a_run_that_ends_in_nothing_finite_is_a_failed_record(tiny, monkeypatch):
    real = Evaluation.__call__

    def broken(self, model, tokenizer, examples, label):
        found = real(self, model, tokenizer, examples, label)
        return found | {"heldout_loss": float("nan")} if label == "evaluate after" else found

    monkeypatch.setattr(Evaluation, "__call__", broken)
    record = execute(Run(planning.plan(*tiny("method=sgd"))))
    assert record.error.startswith("FloatingPointError: the held-out loss after training is nan")
    assert len(record.measurements["steps"]["loss"]) == 4


def test_records_of_an_earlier_form_of_a_study_are_removed(small_study, capsys, tmp_path):
    listed = small_study(["sgd", "lora"])
    runner.execute(listed, "small")
    runner.remove_strangers(listed[:1], tmp_path / "small")
    assert "lora-seed0.json: no run of the study any more, removed" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["sgd-seed0.json"]


def command(*overrides):
    return subprocess.run(
        [sys.executable, "-m", "experiments.train", *overrides], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["method=badam", "method.inner_steps=0"], 2, "error: inner_steps=0 is not possible"),
        (["method=adam"], 2, "error: method=adam is not one of "),
        (["method=adamw", "order=cyclic"], 2, "error: there is no option 'order' here, with the method"),
        (["method.inner_step=3"], 2, "error: there is no option 'method.inner_step'"),
        (["studies=[quick,nothing]"], 2, "error: study=nothing is not one of equal_time, "),
        (["dry=true"], 2, "give study=NAME too"),
        (["study=quick", "dry=banana"], 2, "error: dry='banana' is not one of True, False"),
        (
            ["model=pretrained", "model.path=outputs/exports/no/such"],
            2,
            "export=outputs/exports writes such",
        ),
        (["model=pretrained"], 2, "Missing mandatory value: model.path"),
    ],
)
def test_the_command_stops_with_one_message_and_no_traceback(overrides, code, message):
    done = command(*overrides)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    if "method=adam" in message:
        assert "badam" in done.stderr, "the message says what exists"


def test_an_interrupted_command_says_how_to_go_on(tiny, monkeypatch, capsys):
    from experiments import train

    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run_single", interrupted)
    with pytest.raises(SystemExit) as stopped:
        train.main.__wrapped__(tiny("method=badam")[0])
    assert stopped.value.code == 130
    assert "what is finished is kept" in capsys.readouterr().err


def test_a_sweep_from_the_shell(checkpoint, tmp_path):
    fixed = ["model=pretrained", f"model.path={checkpoint}", f"records_dir={tmp_path}", *TINY, "steps=2"]
    done = command("-m", *fixed, "order=cyclic,descending", f"hydra.sweep.dir={tmp_path}/hydra")
    assert done.returncode == 0, done.stderr
    found = [load(path) for path in (tmp_path / "single").glob("*.json")]
    assert {record.config["choices"]["order"] for record in found} == {"cyclic", "descending"}


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


# --- the embedded model ---


def test_a_missing_model_package_is_named_with_the_command_that_brings_it():
    source = configuration.build(
        {
            "_target_": "experiments.models.GGUFPackage",
            "package": "no_such_package",
            "distribution": "no-such-package==1.0",
            "architecture": {},
        }
    )
    with pytest.raises(UserError, match=r"no_such_package .* is not installed .*run `make setup`, or `pip install"):
        source.fingerprint()


@pytest.mark.model
def test_the_embedded_model_is_what_its_configuration_says():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config, choices = study.compose(["method=badam"])
    planned = planning.plan(config, choices)
    model, tokenizer = planned.workload.model.load(torch.float32)
    names = {name: p.shape for name, p in model.named_parameters()}
    assert names == {name: p.shape for name, p in planned.workload.model.skeleton(torch.float32).named_parameters()}
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    dataset = planned.workload.data.load(tokenizer)
    assert max(len(e.prompt) + len(e.answer) for e in dataset.train + dataset.heldout) <= config.data.max_tokens
    trained, held = ({tuple(e.prompt) for e in split} for split in (dataset.train, dataset.heldout))
    assert not trained & held
    # It is a trained model: the loss of plain text is far below that of guessing, log(vocabulary) = 10.8.
    tokens = tokenizer("The capital of France is Paris.", return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(input_ids=tokens, labels=tokens).loss < 4


# --- execution ---

EXECUTIONS = sorted(path.stem for path in (ROOT / "conf" / "execution").glob("*.yaml"))


@pytest.mark.parametrize("method", ["badam", "lora", "adamw"])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_execution_trains_to_the_same_losses(execution, method, tiny):
    """The plain one is the default; the others differ by rounding, products in 8 bits by a coarser one."""
    overrides = [f"method={method}", f"execution={execution}", "max_grad_norm=null"]
    if method != "badam":
        overrides.append("execution.step_in_backward=false")
    if execution in ("cheap", "packed", "all", "fp8", "fused"):
        overrides += ["execution.backend=aot_eager", "execution.autocast=null"]
    if (execution, method) == ("fused", "lora"):
        with pytest.raises(ValueError, match="has no MLP in its layers"):  # its maps have adapters
            trained(tiny, *overrides)
        return
    _, plain = trained(tiny, f"method={method}", "max_grad_norm=null")
    _, record = trained(tiny, *overrides)
    losses, expected = (r.measurements["steps"]["loss"] for r in (record, plain))
    eight = execution == "fp8" and method != "adamw"  # everything trains there
    assert losses == pytest.approx(expected, rel=0.05 if eight else 1e-4)
    assert (losses != pytest.approx(expected, rel=1e-4)) == eight
    if execution == "plain":
        assert metrics(record) == metrics(plain)
    inside = execution in ("small", "all") and method == "badam"
    assert ("grad_norm" in record.measurements["steps"]) == (not inside)


def test_a_step_in_backward_refuses_clipping_and_other_optimizers(tiny):
    with pytest.raises(UserError, match=r"max_grad_norm=1\.0 is not possible with execution.step_in_backward"):
        planning.plan(*tiny("execution=small"))
    planned = planning.plan(*tiny("execution=small", "max_grad_norm=null", "method=adamw"))
    with pytest.raises(ValueError, match="optimizer=AdamW is not possible"):
        _ = planned.skeleton

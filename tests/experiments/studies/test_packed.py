"""Cheap and packed runs: nothing loaded twice, several studies at once, processes that live on, and the same bits."""

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from torch._dynamo.utils import counters

from bcd.execution import Execution, keep_graphs
from experiments import alone, configuration
from experiments.data import batches
from experiments.errors import UserError
from experiments.randomness import DATA_ORDER, stream_seed
from experiments.studies import runner, show, study, worker
from experiments.training import planning, running
from experiments.training.loading import Loading, copied
from experiments.training.run import Run
from experiments.training.running import execute, start
from records import load

ROOT = Path(__file__).resolve().parents[3]
TINY = ["steps=6", "batch_size=2", "data.train_size=8", "data.heldout_size=4", "data.max_tokens=256", "device=cpu"]
METHODS = ["badam", "lora", "adamw", "schedule_free", "bsgd"]


def below(folder, checkpoint):
    """Overrides that put a run on the tiny Llama, with everything it writes below the folder."""
    folders = [f"records_dir={folder}/records", f"checkpoint.folder={folder}/checkpoints"]
    return ["model=pretrained", f"model.path={checkpoint}", *folders]


def planned_at(places, *overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return planning.plan(*study.compose([*places, *TINY, *overrides]))


def entries_at(places, name, axes, *overrides):
    fixed = [item for item in places if item.startswith("model")]
    config = OmegaConf.create({"name": name, "axes": axes, "overrides": [*fixed, *TINY, *overrides]})
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return study.runs(config, [], [item for item in places if not item.startswith("model")])


@pytest.fixture
def places(checkpoint, tmp_path):
    return below(tmp_path, checkpoint)


@pytest.fixture
def tiny(places):
    """tiny(*overrides) -> the plan of a run on the tiny Llama."""
    return partial(planned_at, places)


@pytest.fixture
def entries(places):
    """entries(name, axes, *overrides) -> the runs of a study on the tiny Llama."""
    return partial(entries_at, places)


@pytest.fixture(scope="module")
def alone_of(checkpoint, tmp_path_factory):
    """alone_of(method) -> record of the method's run on the tiny Llama with nothing shared, executed once."""
    places = below(tmp_path_factory.mktemp("alone"), checkpoint)

    @cache
    def of(method):
        kept = dict(running._evaluations)
        running._evaluations.clear()
        record = execute(Run(planned_at(places, f"method={method}"), "alone"))
        running._evaluations.clear()
        running._evaluations.update(kept)
        assert record.status == "finished", record.error
        return record

    return of


def measured(record):
    """Everything measured except seconds."""
    assert record.status == "finished", record.error
    return re.sub(r'"seconds": (\[[^]]*\]|[0-9.e+-]+)', "", json.dumps(record.measurements, sort_keys=True))


# --- the same bits ---


@pytest.mark.usefixtures("global_generator_untouched")
def test_runs_of_one_process_are_bitwise_those_of_a_process_each(entries, alone_of):
    listed = entries("small", {"method": METHODS})
    running._evaluations.clear()
    runner.execute(listed, "small")
    for entry in listed:
        alone = alone_of(entry.cell["method"])
        assert measured(entry.record) == measured(alone), entry.name


SCARCE = """
from experiments.workloads.language import HeldOutLoss

class Scarce(HeldOutLoss):
    def __call__(self, *given):
        with open("{folder}/tries", "a") as file:
            file.write("x")
        if len(open("{folder}/tries").read()) < 2:
            raise RuntimeError("out of memory, as a library says it")
        return super().__call__(*given)
"""


@pytest.fixture(scope="module")
def two_processes(checkpoint, tmp_path_factory):
    """(records, text): five runs, one whose process dies and one that finds no memory at first, in two processes."""
    folder = tmp_path_factory.mktemp("two")
    places, said = below(folder, checkpoint), io.StringIO()
    (folder / "deadly.py").write_text("def deadly(**_):\n    import os\n    return lambda *_: os.abort()\n")
    (folder / "scarce.py").write_text(SCARCE.format(folder=folder))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.syspath_prepend(folder)
        deadly = entries_at(places, "small", {"method": ["sgd"], "seed": [7]}, "evaluation._target_=deadly.deadly")
        scarce = entries_at(
            places, "small", {"method": ["sgd"], "seed": [3]}, "evaluation=loss", "evaluation._target_=scarce.Scarce"
        )
        others = entries_at(places, "small", {"method": METHODS})
        records = runner.execute([*deadly, *scarce, *others], "small", workers=2)
    return records, said.getvalue()


def test_two_processes_share_five_runs_and_give_the_same_bits(two_processes, alone_of):
    records, _ = two_processes
    shared = [record for record in records if record.name in METHODS]
    assert [record.name for record in shared] == METHODS
    for record in shared:
        assert measured(record) == measured(alone_of(record.name))


def test_a_kept_model_is_copied_with_what_is_tied_and_shares_nothing(tiny):
    planned, loading = tiny("method=adamw"), Loading(keep=True)
    first, tokenizer = loading.model(planned)
    before = {name: p.detach().clone() for name, p in first.named_parameters()}
    assert first.get_input_embeddings().weight is first.get_output_embeddings().weight
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    second, _ = loading.model(planned)
    assert all(torch.equal(p, before[name]) for name, p in second.named_parameters())
    assert second.training
    assert loading.data(planned, tokenizer) is loading.data(planned, tokenizer)
    assert copied(second, torch.device("cpu")).config is not second.config


def test_the_second_run_of_a_method_compiles_nothing(tiny):
    torch.compiler.reset()
    given = ["method=badam", "execution=packed", "execution.backend=aot_eager", "method.inner_steps=1"]
    planned = tiny(*given, "steps=3")  # a visit of each of the two layers, and back
    with keep_graphs():
        execute(Run(planned, "first"))
        before = counters["stats"]["unique_graphs"]
        assert before > 0
        record = execute(Run(planned, "second"))
        assert record.status == "finished", record.error
        assert counters["stats"]["unique_graphs"] == before
    execute(Run(tiny(*given, "steps=1"), "third"))
    assert counters["stats"]["unique_graphs"] > before


# --- the loss along the way ---


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("method", METHODS)
def test_evaluating_along_the_way_changes_nothing(method, tiny, alone_of):
    plain = alone_of(method)
    record = execute(Run(tiny(f"method={method}", "evaluate_every=2"), "curve"))
    curve = record.measurements["curve"]
    assert [point["step"] for point in curve] == [0, 2, 4, 6]
    assert curve[-1]["tokens"] == record.measurements["data"]["tokens"]
    assert curve[0]["heldout_loss"] == record.measurements["before"]["heldout_loss"]
    assert curve[-1]["heldout_loss"] == record.measurements["after"]["heldout_loss"]
    assert len({point["heldout_loss"] for point in curve}) == 4
    assert plain.measurements["curve"] == []
    record.measurements["curve"] = []
    assert measured(record) == measured(plain)


def test_a_curve_survives_an_interruption(tiny, monkeypatch):
    planned = tiny("method=badam", "evaluate_every=2")
    whole = execute(Run(planned, "whole"))
    real, seen = running.Training.step, []

    def step(self):
        real(self)
        seen.append(self.steps)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(running.Training, "step", step)
    with pytest.raises(running.Interrupted):
        execute(Run(planned, "cut"))
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 4
    assert measured(resumed) == measured(whole)


def test_a_curve_has_its_ends_once_when_the_test_part_was_interrupted(tiny, monkeypatch):
    planned = tiny("method=sgd", "evaluate_every=2", "data.test=true", "data.test_size=4")
    whole = execute(Run(planned, "whole"))
    source = type(planned.workload.data)
    real = source.load_test

    def interrupted(self, tokenizer):
        monkeypatch.setattr(source, "load_test", real)
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, tokenizer)

    monkeypatch.setattr(source, "load_test", interrupted)
    with pytest.raises(running.Interrupted):
        execute(Run(planned, "cut"))
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 6
    assert measured(resumed) == measured(whole)


def test_tokens_of_a_curve_are_those_trained_on(tiny):
    planned = tiny("method=sgd", "evaluate_every=1")
    record = execute(Run(planned))
    _, tokenizer = planned.workload.model.load(torch.float32)
    dataset = planned.workload.data.load(tokenizer)
    lengths = {tuple(e.prompt + e.answer): e.length for e in dataset.train}
    seed = stream_seed(planned.config.seed, DATA_ORDER)
    total = 0
    stream = itertools.islice(batches(dataset.train, 2, tokenizer.pad_token_id, seed), 6)
    for batch, point in zip(stream, record.measurements["curve"][1:], strict=True):
        for row in batch.tokens.tolist():
            total += next(n for text, n in lengths.items() if tuple(row[:n]) == text)
        assert point["tokens"] == total


@pytest.mark.parametrize("chunk", ["3", "null"])
@pytest.mark.parametrize("method", ["sgd", "lora"])
def test_the_loss_alone_is_that_of_the_whole_evaluation(chunk, method, tiny, alone_of):
    whole = alone_of(method)
    options = ["evaluation=loss", "evaluation.batch_size=3", f"evaluation.chunk={chunk}"]
    record = execute(Run(tiny(f"method={method}", *options), "loss"))
    assert set(record.measurements["after"]) == {"heldout_loss", "items"}
    for moment in ("before", "after"):
        expected = whole.measurements[moment]["heldout_loss"]
        assert record.measurements[moment]["heldout_loss"] == pytest.approx(expected, rel=1e-5)
    assert "held-out loss" in show.summary(record)


# --- autocast ---


def test_autocast_rounds_products_and_leaves_weights_gradients_and_state(tiny, alone_of):
    planned = tiny("method=adamw", "execution.autocast=bfloat16")
    model, tokenizer = planned.workload.model.load(torch.float32)
    task = planned.workload.task(tokenizer, planned.workload.data.load(tokenizer), planned.setting)
    training = start(planned, model, task)
    kinds = set()
    model.model.layers[0].mlp.register_forward_hook(lambda *args: kinds.add(args[-1].dtype))
    training.step()
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    state = training.trainable.optimizer.state.values()
    assert {v.dtype for each in state for v in each.values()} == {torch.float32}
    plain = alone_of("adamw").measurements
    rounded = execute(Run(planned, "rounded")).measurements
    assert rounded["steps"]["loss"] != plain["steps"]["loss"]
    assert rounded["steps"]["loss"] == pytest.approx(plain["steps"]["loss"], rel=1e-2)
    assert rounded["before"] != plain["before"], "the untrained model is evaluated in the same way"


def test_autocast_has_one_dtype():
    with pytest.raises(ValueError, match="autocast='float16' is not possible"):
        Execution(autocast="float16")  # pyright: ignore[reportArgumentType]


# --- planning ---


def test_composing_once_gives_what_hydra_gives(entries):
    axes = {"method": ["badam", "lora"], "method.lr": "learning_rates", "seed": [0, 3], "max_grad_norm": [None, 0.5]}
    listed = entries("grid", axes)
    assert len(listed) == 40
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for entry in listed[::7]:
            fixed = [f"{key}={value}" for key, value in OmegaConf.to_container(entry.plan.config.model).items()]
            path = next(item for item in fixed if item.startswith("path="))
            given = ["model=pretrained", f"model.{path}", *TINY, *study.as_overrides(entry.cell)]
            again = planning.plan(*study.compose([*given, f"records_dir={entry.plan.config.records_dir}"]))
            assert again.identity == entry.plan.identity
            assert again.key == entry.plan.key
            assert again.expected == entry.plan.expected


def test_two_runs_never_share_a_name(entries):
    with pytest.raises(UserError, match="study=twice has two runs named badam-seed0"):
        entries("twice", {"method": ["badam", "badam"], "seed": [0]})
    with pytest.raises(UserError, match="study=print has two runs named a_b-sgd"):
        entries("print", {"data.system": ["a b", "a_b"], "method": ["sgd"]})


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
    from experiments.train import extra_overrides, passed_on

    override = [f"data.source.local={tmp_path}/a", "local_data=b"]
    assert extra_overrides(override) == []
    assert passed_on(override) == override


# --- several studies, processes that die ---


def test_a_run_that_two_studies_have_is_executed_once(entries, capsys, monkeypatch):
    first = entries("first", {"method": ["sgd", "adamw"]})
    second = entries("second", {"seed": [0, 1], "method": ["sgd"]})
    real, executed = running.execute, []

    def counted(run, **options):
        executed.append(run.place)
        return real(run, **options)

    monkeypatch.setattr(worker, "execute", counted)
    records = runner.execute([*first, *second], "first, second")
    assert executed == [("first", "sgd"), ("first", "adamw"), ("second", "seed1-sgd")]
    assert [(r.study, r.name) for r in records] == [
        ("first", "sgd"),
        ("first", "adamw"),
        ("second", "seed0-sgd"),
        ("second", "seed1-sgd"),
    ]
    assert measured(records[0]) == measured(records[2])
    (later,) = runner.execute(entries("third", {"seed": [1], "method": ["sgd"]}), "third")
    assert "seed1-sgd: finished before in the study second, taken over" in capsys.readouterr().out
    assert later.study == "third"
    assert len(executed) == 3
    assert measured(later) == measured(records[3])


@pytest.mark.parametrize("failed", ["a", "z"])
def test_a_run_that_failed_here_is_taken_over_from_where_it_finished(failed, entries, monkeypatch):
    other = {"a": "z", "z": "a"}[failed]
    measure = running.Running.measure

    def broken(self, found, interruption):
        raise OSError("no luck")

    monkeypatch.setattr(running.Running, "measure", broken)
    assert runner.execute(entries(failed, {"method": ["sgd"]}), failed)[0].status == "failed"
    monkeypatch.setattr(running.Running, "measure", measure)
    assert runner.execute(entries(other, {"method": ["sgd"]}), other)[0].status == "finished"
    monkeypatch.setattr(worker, "execute", None)
    (record,) = runner.execute(entries(failed, {"method": ["sgd"]}), failed)
    assert (record.study, record.status) == (failed, "finished")


def test_a_process_that_dies_is_replaced_and_its_run_is_left(two_processes):
    records, said = two_processes
    assert [record.name for record in records] == ["sgd-seed3", *METHODS]
    assert all(record.status == "finished" for record in records)
    assert "sgd-seed7: its process ended with -6" in said


def test_long_and_short_runs_take_turns(entries):
    listed = entries("sizes", {"steps": [1, 2, 3, 4, 5, 6, 7]}, "method=sgd")
    order = [entry.plan.config.steps for entry in runner.interleaved(listed, 2)]
    assert order == [7, 6, 2, 1, 5, 4, 3]
    assert sorted(e.plan.config.steps for e in runner.interleaved(listed, 1)) == [1, 2, 3, 4, 5, 6, 7]


def test_a_process_keeps_to_the_forms_that_it_has_compiled(entries):
    listed = entries("forms", {"method": ["sgd", "adamw"], "method.lr": [0.1, 0.01], "seed": [0, 1]})
    sgd, adamw = listed[0].plan.form, listed[4].plan.form
    first = runner.rounds(listed)
    assert [[entry.cell["method"] for entry in part] for part in first] == [["sgd", "adamw"]] * 4
    assert sorted(entry.name for part in first for entry in part) == sorted(e.plan.name for e in listed)
    waiting = [entry for part in first for entry in part]
    assert [runner.next_for(forms, waiting) for forms in ({sgd}, {adamw}, {"x"}, ())] == [0, 1, 0, 0]
    later = entries("later", {"method": ["lora"]})
    assert runner.next_for({adamw}, [*later, *waiting]) == 0, "the study in turn comes first"


def test_the_runs_of_one_command_compile_once(entries, monkeypatch):
    torch.compiler.reset()
    real, counts = running.execute, []

    def counted(*given, **options):
        record = real(*given, **options)
        counts.append(counters["stats"]["unique_graphs"])
        return record

    monkeypatch.setattr(worker, "execute", counted)
    options = ["execution=packed", "execution.backend=aot_eager", "method.inner_steps=1"]
    records = runner.execute(entries("small", {"seed": [0, 1]}, *options), "small")
    assert [record.status for record in records] == ["finished"] * 2
    assert counts[0] == counts[1] > 0


def test_a_run_for_which_a_library_finds_no_memory_is_tried_once_more(entries, capsys, monkeypatch, tmp_path):
    error = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"
    code = f"""
import torch
from experiments.workloads.language import HeldOutLoss

class Scarce(HeldOutLoss):
    def __call__(self, *given):
        with open("{tmp_path}/tries", "a") as file:
            file.write("x")
        if len(open("{tmp_path}/tries").read()) < 2:
            raise RuntimeError("{error}")
        return super().__call__(*given)
"""
    (tmp_path / "scarce.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    scarce = entries("small", {"method": ["sgd"]}, "evaluation=loss", "evaluation._target_=scarce.Scarce")
    (record,) = runner.execute(scarce, "small", workers=2)
    assert record.status == "finished"
    said = capsys.readouterr().out
    assert said.index(f"sgd: FAILED, RuntimeError: {error}") < said.index("sgd: held-out loss")


def test_a_run_without_memory_is_tried_once_more(two_processes):
    records, said = two_processes
    assert next(record.status for record in records if record.name == "sgd-seed3") == "finished"
    assert said.index("sgd-seed3: FAILED, RuntimeError: out of memory") < said.index("sgd-seed3: held-out loss")


def test_a_signal_ends_all_processes_with_checkpoints(checkpoint, tmp_path):
    definition = {"name": "long", "axes": {"seed": [0, 1, 2]}, "overrides": [*TINY, "steps=100000", "method=badam"]}
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "long.yaml").write_text(yaml.safe_dump(definition))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.train", "study=long", "workers=2", "checkpoint.every=5"),
            *("model=pretrained", f"model.path={checkpoint}", f"hydra.searchpath=[file://{tmp_path}/conf]"),
            *(f"records_dir={tmp_path}/records", f"checkpoint.folder={tmp_path}/checkpoints"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(600):
            if len({path.parent for path in (tmp_path / "checkpoints").rglob("step-*.json")}) == 2:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, said
    assert "interrupted by SIGTERM" in said
    found = [load(path) for path in (tmp_path / "records").rglob("*.json")]
    assert [record.status for record in found] == ["interrupted"] * 2
    assert all(record.measurements["steps"]["loss"] for record in found)


def test_the_cost_of_a_step_is_measured_once_for_each_method(entries):
    listed = entries("grid", {"method": ["sgd", "badam"], "seed": [0, 1], "method.lr": [0.1, 0.01]})
    chosen = alone.configurations(listed)
    assert [entry.cell["method"] for entry in chosen] == ["sgd", "badam"]
    seconds, peak = alone.measure(chosen[1].plan, Loading(), steps=4, timed=2)
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert peak is None, "a CPU keeps no account"
    found = alone.record(chosen[1], alone.joined(None, seconds, peak))
    assert (found.kind, found.study, found.name) == ("profile", "steps_alone", "pretrained-reasoning_gym-badam")
    assert found.measurements["seconds_per_step"] == pytest.approx(sum(seconds) / 2)


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


def test_a_disturbed_step_counts_little_where_there_are_rounds():
    first = alone.joined(None, [1.0, 2.0], 5)
    assert first == {"seconds_per_step": 1.5, "rounds": [[1.0, 2.0]], "peak_allocated": 5}
    third = alone.joined(alone.joined(first, [1.0, 20.0], 7), [9.0, 4.0], 6)
    assert third["rounds"] == [[1.0, 2.0], [1.0, 20.0], [9.0, 4.0]]
    assert third["seconds_per_step"] == 2.5, "the mean of 1 and 4, the medians of each step"
    assert third["peak_allocated"] == 7


def test_what_costs_the_same_has_one_name_in_every_study_and_is_measured_once(entries, capsys, monkeypatch):
    first = entries("first", {"method": ["sgd", "badam"], "seed": [0]})
    second = entries(
        "second", {"data": ["reasoning_gym"], "method": ["badam", "adamw"], "method.lr": [0.1]}, "data.test=true"
    )
    third = entries("third", {"order": ["ascending"]}, "method=badam")
    real, measured = alone.measure, []

    def broken(planned, loading):
        measured.append(planned.name)
        if planned.config.choices.method == "sgd":
            raise RuntimeError("no luck")
        return real(planned, loading, steps=2, timed=1)

    monkeypatch.setattr(alone, "measure", broken)
    found = alone.execute([*first, *second, *third])
    names = [f"pretrained-reasoning_gym-{name}" for name in ("sgd", "badam", "adamw", "ascending")]
    assert [record.name for record in found] == names
    assert [record.status for record in found] == ["failed", *["finished"] * 3]
    assert "pretrained-reasoning_gym-sgd: FAILED, RuntimeError: no luck" in capsys.readouterr().out
    measured.clear()
    assert [record.name for record in alone.execute([*second, *first])] == [names[1], names[2], names[0]]
    assert measured == ["sgd-seed0"], "what is finished is not measured again, whichever study asks"
    measured.clear()
    capsys.readouterr()
    found = alone.execute(second, rounds=3)
    assert measured == ["reasoning_gym-badam-lr0.1", "reasoning_gym-adamw-lr0.1"] * 2, "in turns, until all have three"
    assert [len(record.measurements["rounds"]) for record in found] == [3, 3]
    assert capsys.readouterr().out.count("ms a step (") == 4
    assert alone.execute(second) == found
    assert capsys.readouterr().out.count(", recorded before\n") == 2
    monkeypatch.setattr(alone, "measure", lambda *_: 1 / 0)
    failed = alone.execute(second, rounds=4)
    assert [record.error for record in failed] == ["ZeroDivisionError: division by zero"] * 2
    monkeypatch.setattr(alone, "measure", broken)
    measured.clear()
    assert alone.execute(second, rounds=3) == found, "a failure takes no round away"
    assert measured == []
    monkeypatch.setattr(planning, "device_name", lambda kind: "another card")
    assert [len(record.measurements["rounds"]) for record in alone.execute(second)] == [1, 1]
    assert [len(record.measurements["rounds"]) for record in alone.execute(second, force=True)] == [1, 1]
    assert len(measured) == 4

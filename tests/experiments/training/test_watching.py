"""Who watches a run: what is told, when, and that neither a missing nor a failing watcher costs the run."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch

from experiments import train
from experiments.errors import UserError
from experiments.interruption import Interrupted
from experiments.training import watching
from experiments.training.observer import Observer, Step
from experiments.training.run import Run
from experiments.training.running import execute
from tests.experiments.conftest import measured, terminate

DONE = Step(3, {"loss": 1.5, "lr": 0.1, "seconds": 0.5}, {"tokens": 300}, ("layers.1",))


class Heard(Observer):
    def __init__(self):
        self.events = []

    def start(self, steps, done, seen):
        self.events.append(("start", steps, done, dict(seen)))

    def step(self, step):
        self.events.append(("step", step))

    def evaluated(self, done, metrics):
        self.events.append(("evaluated", done, metrics))

    def end(self, record):
        self.events.append(("end", record.status))

    def named(self, name):
        return [event[1] for event in self.events if event[0] == name]


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.integration
def test_an_observer_hears_what_the_record_holds_and_changes_nothing(tiny):
    heard = Heard()
    plan = tiny("method=badam", "evaluate_every=3")
    alone = execute(Run(plan, "alone"))
    record = execute(Run(plan, "watched"), observer=heard)
    assert measured(record) == measured(alone)
    assert [event[0] for event in heard.events] == [
        *("start", "evaluated", "step", "step", "step", "evaluated", "step", "step", "step", "evaluated", "end"),
    ]
    steps = heard.named("step")
    assert [step.number for step in steps] == list(range(1, 7))
    assert [float(f"{step.metrics['loss']:.6g}") for step in steps] == record.measurements["steps"]["loss"]
    assert steps[-1].seen == {"tokens": record.measurements["data"]["tokens"]}
    assert {len(step.active) for step in steps} == {1}
    assert len({step.active for step in steps}) == 2, "K = 2 steps each of two layers, in six steps"
    assert heard.named("evaluated") == [0, 3, 6]
    assert heard.events[-1] == ("end", "finished")


@pytest.mark.integration
def test_the_live_file_grows_goes_on_after_an_interruption_and_begins_anew(tiny, at_step):
    run = Run(tiny("method=sgd"))
    path = watching.live_file(run)
    seen = []
    at_step(3, lambda _: seen.extend(lines(path)) or terminate())
    with pytest.raises(Interrupted):
        execute(run, observer=watching.watching(run))
    assert [line["step"] for line in seen if line["event"] == "step"] == [1, 2], (
        "while the run lives: the third step is told after it"
    )
    assert lines(path)[-1] | {"time": 0} == {"event": "end", "status": "interrupted", "error": "", "time": 0}
    record = execute(run, observer=watching.watching(run))
    losses = [float(f"{line['loss']:.6g}") for line in lines(path) if line["event"] == "step"]
    assert losses == record.measurements["steps"]["loss"]
    assert [line["step"] for line in lines(path) if line["event"] == "start"] == [0, 3]
    execute(run, restart=True, observer=watching.watching(run))
    assert [line["step"] for line in lines(path) if line["event"] == "start"] == [0]


@pytest.mark.integration
def test_a_failing_observer_is_told_of_once_and_the_run_goes_on(tiny, capsys):
    class Broken(Observer):
        def step(self, step):
            raise OSError("no space left")

    heard = Heard()
    record = execute(Run(tiny("method=sgd")), observer=watching.Observers([Broken(), heard]))
    assert record.status == "finished"
    assert len(heard.named("step")) == 6
    assert capsys.readouterr().err.count("Broken watches no more (OSError: no space left); the run goes on") == 1


def test_the_terminal_says_loss_rate_and_active_block(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    terminal = watching.Terminal("a-run", torch.device("cpu"))
    terminal.start(3, 2, {"tokens": 100})
    terminal.evaluated(2, {"heldout_loss": 2.0})
    terminal.step(DONE)
    terminal.end(None)
    text = capsys.readouterr().err
    assert "train a-run" in text
    assert "loss 1.5, held-out 2, 400 tokens/s, layers.1" in text
    assert terminal.text(Step(4, {"loss": None, "seconds": 1.0}, {}, ("a", "b", "c"))).startswith("loss skipped")
    assert "a and 2 more" in terminal.text(Step(4, {"loss": None, "seconds": 1.0}, {}, ("a", "b", "c")))


def test_a_rate_leaves_out_what_a_rollback_takes_back():
    rate = watching.Rate()
    rate.start({"tokens": 0})
    for number, tokens in ((1, 100), (2, 300), (1, 100), (2, 300)):
        rate.step(Step(number, {"seconds": 1.0}, {"tokens": tokens}, ()))
    assert rate.value == pytest.approx(500 / 3)


@pytest.mark.parametrize("package", ["wandb", "trackio"])
@pytest.mark.integration
def test_a_tracker_gets_the_numbers_under_the_run_s_name(tiny, monkeypatch, package):
    told, opened = [], {}
    handle = types.SimpleNamespace(
        log=lambda values, step: told.append((step, values)), finish=lambda: told.append("finish")
    )
    monkeypatch.setitem(
        sys.modules, package, types.SimpleNamespace(init=lambda **named: opened.update(named) or handle)
    )
    run = Run(tiny("method=badam", f"track={package}"), "a-study")
    record = execute(run, observer=watching.watching(run))
    assert (opened["project"], opened["name"], opened["config"]) == ("a-study", run.name, run.plan.identity)
    assert [step for step, *_ in told[:-1]] == [0, 1, 2, 3, 4, 5, 6, 6]
    losses = [float(f"{values['train/loss']:.6g}") for _, values in told[:-1] if "train/loss" in values]
    assert losses == record.measurements["steps"]["loss"]
    assert told[-2][1]["heldout/loss"] == record.measurements["after"]["heldout_loss"]
    assert told[-1] == "finish"


@pytest.mark.integration
def test_tensorboard_gets_the_same_numbers(tiny, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((Path(folder), purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    run = Run(tiny("method=sgd", "track=tensorboard"))
    execute(run, observer=watching.watching(run))
    assert written[0] == (run.path.with_suffix(".tensorboard"), None)
    assert [step for name, _, step in written[1:-1] if name == "train/loss"] == [1, 2, 3, 4, 5, 6]
    assert written[-1] == "closed"


@pytest.mark.parametrize("track", watching.TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_line_before_any_work(monkeypatch, track):
    monkeypatch.setattr(watching.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=f"^track={track} needs the package {track}: pip install {track}$"):
        watching.require_track(track)


def test_an_unknown_tracker_is_refused_by_the_command(command):
    done = command(train.main, "track=mlflow")
    assert done.returncode == 2
    assert "track='mlflow'" in done.stderr
    assert "tensorboard" in done.stderr


def test_who_watches_is_no_part_of_a_run_s_key(tiny_plan):
    assert tiny_plan("track=wandb").key == tiny_plan().key
    from experiments import sources

    assert "experiments.training.watching" not in sources.closure(["experiments.training.running"])

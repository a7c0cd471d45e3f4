"""Replay: a record is run again and every metric compared."""

import json
import sys

import pytest

from experiments import replay
from experiments.errors import UserError
from experiments.training.run import Run
from experiments.training.running import execute


def test_replay_compares_every_metric(tiny, capsys):
    run = Run(tiny("method=badam"))
    execute(run)
    path = run.path
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
    assert found[1] == "steps.lr[5]: only in the replay"
    content["config"]["device"] = "cuda"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="only CPU records can be replayed"):
        replay.replay(path, rtol=0.0)


def test_the_command_tells_what_differs(tiny, monkeypatch, capsys):
    run = Run(tiny("method=sgd"))
    execute(run)
    monkeypatch.setattr(sys, "argv", ["replay", str(run.path)])
    replay.main()
    assert "metrics equal (rtol 0)" in capsys.readouterr().out
    content = json.loads(run.path.read_text())
    content["measurements"]["after"]["heldout_loss"] += 1
    run.path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.startswith("after.heldout_loss: ")
    monkeypatch.setattr(sys, "argv", ["replay", f"{run.path}.gone"])
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert ended.value.code == 2

"""The entry point end to end: report, record, exit codes and messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import records
from theory import verify
from theory.bounds import a1, a1_sweep

TINY = [
    "bound.gamma=[0.5,1.5]",
    "bound.inner_steps=[2]",
    "bound.orders=[random_reshuffle]",
    "bound.epochs=2",
    "bound.example.epochs=3",
    "problem.num_blocks=[1,2]",
    "problem.block_sizes=[[1,2]]",
    "problem.coupling=[1.0]",
]


def command(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "theory.verify", *overrides], cwd=records.ROOT, capture_output=True, text=True
    )


def config(folder: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        return compose("verify", [*TINY, f"records_dir={folder}", *overrides])


def test_command_writes_a_record_and_reports(tmp_path: Path) -> None:
    done = command(*TINY, f"records_dir={tmp_path}", f"hydra.run.dir={tmp_path}/hydra")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("HOLDS: ")
    assert done.stdout.count(" REJECTED") == 5
    # Overrides of the sweep must not replace the record of the sweep itself.
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("theory"))
    assert folder.name != "theory"
    (record,) = records.load_study(folder.name, kind="verify", folder=tmp_path)
    assert record.name == "a1-quadratic-quick"
    assert record.config["bound"]["epochs"] == 2
    assert record.provenance["device_type"] == "cpu"
    found = record.measurements
    assert found["instances"]["num_blocks"] == [1, 1, 2, 2]
    assert len(found["showcase"]["bound"]) == len(found["showcase"]["measured"]) == 4
    assert len(found["showcase"]["ratios"]["A0"]) == found["showcase"]["lines"]["A0"]["checks"]
    assert all(line["instances"] == 4 for name, line in found["lines"].items() if name not in ("A0'", "A0''"))


def test_a_finished_record_is_read_not_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.run(config(tmp_path), "theory", "tiny") == 0
    first = capsys.readouterr().out
    path = tmp_path / "theory" / "tiny.json"
    content = json.loads(path.read_text())
    content["measurements"]["lines"]["A0"]["checks"] += 1000000
    path.write_text(json.dumps(content))
    assert verify.run(config(tmp_path), "theory", "tiny") == 0
    again = capsys.readouterr().out
    assert again.startswith("finished before")
    assert again.splitlines()[2] == first.splitlines()[2]
    assert "1000" in again.splitlines()[3]
    assert verify.run(config(tmp_path, "force=true"), "theory", "tiny") == 0
    assert capsys.readouterr().out == first
    assert verify.run(config(tmp_path, "bound.epochs=3"), "theory", "tiny") == 0
    assert capsys.readouterr().out.startswith("wrote")


def test_a_violation_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = a1.kappa
    monkeypatch.setattr(a1, "kappa", lambda gamma, steps: 4 * true(gamma, steps))
    assert verify.run(config(tmp_path), "theory", "tiny") == 1
    assert "first violation: num_blocks=1, block_sizes=[1], " in (out := capsys.readouterr().out)
    assert "FAILS: " in out
    assert verify.run(config(tmp_path), "theory", "tiny") == 1, "a record of a failed check still fails"


def test_a_control_that_is_not_rejected_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = list(a1_sweep.controls())
    same = a1_sweep.Control("nothing changed", "A0", 1.0, 0, 1.0, 0)
    monkeypatch.setattr(a1_sweep, "controls", lambda: iter([*true, same]))
    assert verify.run(config(tmp_path), "theory", "tiny") == 1
    assert "NOT REJECTED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bound=unknown", "Could not find 'bound/unknown'"),
        ("bound.gamma=[3]", "error: gamma=3 is not possible: Theorem A1 needs a number in (0, 2)\n"),
        ("problem.num_blocks=[0]", "error: num_blocks=0 is not possible: it must be an integer of at least 1\n"),
        ("problem.blocks=1", "Could not override 'problem.blocks'"),
    ],
)
def test_bad_input_gives_one_message(override: str, message: str, tmp_path: Path) -> None:
    done = command(override, f"hydra.run.dir={tmp_path}")
    assert done.returncode != 0
    assert done.stderr.startswith(message) or message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""

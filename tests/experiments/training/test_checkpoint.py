"""Checkpoints: whole or not at all, checked, refused by name; faults are real where the system offers them."""

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from experiments.training.checkpoint import KEPT, CheckpointError, Checkpoints, require_room

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def kept(tmp_path):
    return Checkpoints(tmp_path / "run", key="a" * 64)


def state(number):
    return {"weights": torch.full((1000,), float(number)), "names": ["x"], "step": number}


def test_what_was_saved_is_loaded(kept):
    assert kept.load() is None
    for number in range(1, KEPT + 3):
        kept.save(number, state(number))
    assert kept.steps() == [KEPT + 1, KEPT + 2]
    step, found, refused = kept.load()
    assert (step, refused, found["names"]) == (KEPT + 2, [], ["x"])
    torch.testing.assert_close(found["weights"], state(step)["weights"], rtol=0, atol=0)
    kept.remove()
    assert kept.load() is None


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    elif how == "missing":
        path.unlink()
    elif how == "foreign":
        seal = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps(seal | {"key": "b" * 64}))
    elif how == "unsealed":
        path.with_suffix(".json").write_text('{"key": 3')


WORDS = {
    "truncated": r"damaged \(SHA-256 differs, \d+ of \d+ bytes\)",
    "flipped": r"damaged \(SHA-256 differs, other bytes of the same number\)",
    "missing": "No such file",
    "foreign": r"another configuration, code, model or data \(key bbbbbbbbbbbb, this run has aaaaaaaaaaaa\)",
    "unsealed": r"its \.json cannot be read",
}


@pytest.mark.parametrize("how", WORDS)
def test_a_damaged_or_foreign_checkpoint_is_refused_and_the_last_good_one_used(kept, how):
    kept.save(1, state(1))
    path = kept.save(2, state(2))
    damage(path, how)
    step, found, refused = kept.load()
    assert (step, found["step"]) == (1, 1)
    (line,) = refused
    assert str(path) in line
    with pytest.raises(CheckpointError, match=WORDS[how]):
        kept.read(2)
    damage(kept.folder / "step-00000001.pt", how)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be used: remove it to start again"):
        kept.load()


@contextmanager
def largest_file(size):
    """No file of this process may grow beyond `size` bytes: the system's own way to refuse a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fault", ["full disk", "file limit"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(kept, fault):
    good = kept.save(1, state(1))
    if fault == "full disk":
        (kept.folder / "step-00000002.partial").symlink_to("/dev/full")
        with pytest.raises(CheckpointError, match=f"No space left on device.*the last good one is {good}"):
            kept.save(2, state(2))
    else:
        with largest_file(2000), pytest.raises(CheckpointError, match=f"File too large.*the last good one is {good}"):
            kept.save(2, state(2))
    assert kept.load()[0] == 1
    assert not list(kept.folder.glob("*.partial"))


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written.*there is none before it"):
        Checkpoints(tmp_path / "file" / "run", "key").save(1, state(1))
    with pytest.raises(CheckpointError, match=r"cannot be written to .*; choose another folder"):
        require_room(tmp_path / "file" / "run", 0)


def test_too_little_room_is_told_before(tmp_path):
    with pytest.raises(CheckpointError, match=r"GB free, and the checkpoints of this run need 1000000000\.00 GB"):
        require_room(tmp_path, 10**18)
    require_room(tmp_path, 1)


def test_runs_that_look_at_the_same_folder_at_once_do_not_disturb_each_other(tmp_path, monkeypatch):
    real = Path.write_bytes

    def while_another_looks(self, data):
        written = real(self, data)
        monkeypatch.setattr(Path, "write_bytes", real)
        require_room(self.parent, 0)
        return written

    monkeypatch.setattr(Path, "write_bytes", while_another_looks)
    require_room(tmp_path, 0)
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from experiments.training.checkpoint import Checkpoints
kept, at = Checkpoints(Path(sys.argv[1]), "a" * 64), int(sys.argv[2])
kept.save(1, {"step": 1, "x": torch.ones(100_000)})
calls = 0
def counted(real):
    def call(*arguments):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call
os.fsync, os.rename, os.replace, os.unlink = map(counted, (os.fsync, os.rename, os.replace, os.unlink))
kept.save(2, {"step": 2, "x": torch.ones(100_000)})
print(calls)
"""


def killed(folder, at):
    return subprocess.run(
        [sys.executable, "-c", KILLED, folder, str(at)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_killed_at_any_moment_of_a_write_one_whole_checkpoint_stays(tmp_path):
    calls = int(killed(tmp_path / "all", 0).stdout)
    assert calls >= 4, "two syncs and two renames, or the test watches the wrong calls"
    for at in range(1, calls + 1):
        folder = tmp_path / str(at)
        assert killed(folder, at).returncode == -signal.SIGKILL
        step, found, refused = Checkpoints(folder, "a" * 64).load()
        assert found["step"] == step
        assert refused == []
        assert step in (1, 2)
        Checkpoints(folder, "a" * 64).save(2, state(2))
        assert Checkpoints(folder, "a" * 64).load()[0] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        require_room(tmp_path / "run", 0)


@pytest.mark.parametrize("name", ["step-00000002 (conflicted copy).json", "step-x.json", "step-.json", "step-2.json"])
def test_a_stray_file_is_passed_over(name, tmp_path):
    checkpoints = Checkpoints(tmp_path, "k")
    checkpoints.save(2, {"a": 1})
    (tmp_path / name).write_text("{}")
    assert checkpoints.steps() == [2]
    step, state, refused = checkpoints.load()
    assert (step, state, refused) == (2, {"a": 1}, [])

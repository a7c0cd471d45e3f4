"""Where a record comes from."""

import subprocess

import pytest

from records import provenance


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A root of its own with one package and git, and the stamp beside it."""
    (tmp_path / "bcd").mkdir()
    (tmp_path / "bcd" / "a.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text(".provenance.json\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "STAMP", tmp_path / ".provenance.json")
    real = provenance.source_hash
    monkeypatch.setattr(provenance, "source_hash", lambda: real(("bcd",), tmp_path))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_revision_knows_the_commit_and_whether_it_is_dirty(clone):
    clean = provenance.revision()
    assert len(clean["commit"]) == 40
    assert not clean["dirty"]
    (clone / "bcd" / "a.py").write_text("x = 2\n")
    assert provenance.revision() == clean | {"dirty": True}


def test_without_git_the_stamp_counts_and_only_for_the_same_sources(clone):
    stamped = provenance.revision()
    provenance.stamp()
    (clone / ".git").rename(clone / "gone")
    assert provenance.revision() == stamped
    (clone / "bcd" / "a.py").write_text("x = 2\n")
    with pytest.raises(ValueError, match="was made from other sources"):
        provenance.revision()
    (clone / ".provenance.json").unlink()
    assert provenance.revision() == {"commit": "unknown", "dirty": True}


def test_source_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text("1")
    first = provenance.source_hash(("p",), tmp_path)
    (tmp_path / "p" / "a.py").rename(tmp_path / "p" / "b.py")
    second = provenance.source_hash(("p",), tmp_path)
    (tmp_path / "p" / "b.py").write_text("2")
    assert len({first, second, provenance.source_hash(("p",), tmp_path)}) == 3


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_the_environment_of_a_hook_names_no_other_repository(name, tmp_path, monkeypatch):
    here = provenance.revision()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setenv(name, str(tmp_path / ".git"))
    assert provenance.revision() == here

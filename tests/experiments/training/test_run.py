"""A run knows its record, its state and its checkpoints, in one place."""

import os
import pickle
from dataclasses import replace

import pytest

from experiments.training.checkpoint import BusyError
from experiments.training.run import Run
from records import Record


@pytest.fixture
def run(tiny_plan, tmp_path):
    return Run(tiny_plan("method=badam", f"records_dir={tmp_path}", f"checkpoint.folder={tmp_path}/ck"), "small")


def record_of(run, **changes):
    record = Record("train", run.study, run.name, run.plan.key, "finished", {}, {"seconds": 2.0}, {})
    return replace(record, **changes)


def test_the_record_is_that_of_this_very_run(run):
    assert (run.record, run.state, run.finished) == (None, "to do", None)
    run.write(record_of(run, status="failed", error="no luck"))
    assert run.state == "failed"
    assert run.finished is None
    run.write(record_of(run))
    os.utime(run.path, ns=(1, 1))  # files of one size that follow each other at once
    assert run.state == "finished"
    assert run.finished == record_of(run)
    run.write(record_of(run, key="of another configuration"))
    assert (run.record, run.state) == (None, "to do")


def test_a_copy_for_another_process_reads_the_record_anew(run):
    run.write(record_of(run))
    assert run.finished is not None
    copy = pickle.loads(pickle.dumps(run))
    assert (copy.place, copy.path, copy.finished) == (run.place, run.path, run.finished)


def test_one_at_a_time_works_on_a_run(run):
    assert not run.busy
    with run.locked():
        assert run.busy
        with pytest.raises(BusyError), run.locked():
            pass
    assert not run.busy


def test_places_follow_from_study_and_name(run, tmp_path, tiny_plan):
    assert run.path == tmp_path / "small" / f"{run.name}.json"
    assert run.checkpoints.folder == tmp_path / "ck" / "small" / f"{run.name}-{run.plan.key[:12]}"
    assert run.export is None
    exported = Run(tiny_plan("method=badam", f"export={tmp_path}/models"), "small")
    assert exported.export == tmp_path / "models" / "small" / exported.name

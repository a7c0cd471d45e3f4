"""What is to be typed next after a run that failed, and that it mends the cause."""

import shlex

import pytest

from experiments import train
from experiments.evaluate import __main__ as evaluate
from experiments.training import advice
from records import Record
from tests.experiments.conftest import TINY, below


@pytest.fixture
def places(tmp_path, checkpoint):
    return below(tmp_path, checkpoint)


@pytest.mark.integration
def test_the_command_after_a_loss_that_is_not_finite_has_a_smaller_lr_and_runs(command, places):
    given = [*places, *TINY, "method=badam", "max_grad_norm=null"]
    done = command(train.main, *given, "method.lr=3e30")
    assert done.returncode == 1
    *_, told, line = done.stderr.rstrip().splitlines()
    assert told == "next, with a value that may mend it:"
    program, *words = shlex.split(line)
    assert words[:2] == ["-m", "experiments.train"]
    assert program == "python"
    assert words[-1] == "method.lr=1e+30"
    assert words[2:-1] == given
    again = command(train.main, *given, "method.lr=1e-3")
    assert again.returncode == 0
    assert "next" not in again.stderr


@pytest.mark.integration
def test_a_study_names_its_failed_runs(command, places, monkeypatch):
    def failed(listed, *_):
        records = [
            Record("train", run.study, run.name, "0", "failed", {}, {}, {}, error="RuntimeError: broken")
            for run in listed[:2]
        ]
        return listed, records

    monkeypatch.setattr(train, "execute_listed", failed)
    done = command(train.main, "study=quick", *places, "workers=2")
    assert done.returncode == 1, done.stderr
    told = done.stderr.rstrip().splitlines()
    assert told[-4] == "next, once the cause is mended, a failed run again:"
    assert told[-3].startswith("  python -m experiments.train study=quick ")
    assert " workers=2 retry=true only=" in told[-3]
    assert told[-2] == "or all 2:"
    assert told[-1].endswith(" workers=2 retry=true")


def test_memory_that_is_too_small_leads_to_what_the_error_predicts(tiny_plan):
    plan = tiny_plan("batch_size=4")
    error = (
        "OutOfMemoryError: no; 4 examples at once are too many here: accumulation=2 (batch_size=4 in parts of 2) is"
    )
    assert advice.other_values(plan, error) == ["accumulation=2"]
    assert advice.other_values(plan, "OutOfMemoryError: none fits") == ["execution=cheap", "execution.recompute=0"]
    cheap = tiny_plan("execution=cheap")
    assert advice.other_values(cheap, "OutOfMemoryError: none fits") == ["dtype=bfloat16"]
    assert advice.other_values(tiny_plan("max_grad_norm=null"), "OutOfMemoryError: x") == ["execution=small"]


def test_an_error_that_no_option_mends_leads_to_none(tiny_plan):
    assert advice.other_values(tiny_plan(), "RuntimeError: something else") == []


@pytest.mark.integration
def test_an_evaluation_that_failed_goes_on_with_the_same_command(command, checkpoint, tmp_path, monkeypatch):
    from experiments.evaluate.heldout import HeldOut

    def broken(*_):
        raise RuntimeError("no space left")

    monkeypatch.setattr(HeldOut, "__call__", broken)
    given = [f"path={checkpoint}", "parts=[heldout]", "device=cpu", f"records_dir={tmp_path}", "data.heldout_size=4"]
    done = command(evaluate.main, *given)
    assert done.returncode == 1, done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == f"  python -m experiments.evaluate {shlex.join(given)}"

"""Evaluations of saved models: parts, comparisons, refusals, and the command."""

import os
import signal

import pytest

from experiments import configuration
from experiments.data import collate
from experiments.errors import UserError
from experiments.evaluate import evaluation
from experiments.evaluate.__main__ import main
from experiments.evaluate.downstream import Downstream
from experiments.evaluate.significance import NOT_TESTABLE
from experiments.interruption import Interrupted
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import Evaluation, answer_loss
from records import load
from tests.experiments.evaluate.conftest import SIZES, downstream


def test_a_trained_export_evaluates_to_the_recorded_heldout_loss(tiny, planned, tmp_path):
    sizes = ["evaluation.max_new_tokens=8", *SIZES]
    trained = execute(Run(tiny("method=badam", f"export={tmp_path}/exports", *sizes)))
    assert trained.status == "finished", trained.error
    before = planned("parts=[heldout]", "name=before")
    with pytest.raises(UserError, match="evaluate that model first"):
        planned("parts=[heldout]", "before=before")
    ((first, none),) = evaluation.execute(before)
    assert none is None
    after = planned(f"path={trained.measurements['export']}", "parts=[heldout]", "before=before")
    ((second, compared),) = evaluation.execute(after)
    for record, key in ((first, "before"), (second, "after")):
        assert record.status == "finished", record.error
        assert record.measurements["loss"]["value"] == trained.measurements[key]["heldout_loss"]
        assert record.measurements["exact_match"]["share"] == trained.measurements[key]["exact_match"]
    assert compared.kind == "compare"
    loss = compared.measurements["loss"]
    change = trained.measurements["after"]["heldout_loss"] - trained.measurements["before"]["heldout_loss"]
    assert loss["difference"] == pytest.approx(change, rel=1e-3)
    assert compared.measurements["exact_match"]["verdict"] == NOT_TESTABLE


def test_losses_of_the_answers_add_up(subject):
    source = configuration.build(
        {"_target_": "experiments.data.reasoning_gym.ReasoningGym", "tasks": {"lcm": {"max_value": 30}}}
        | {"train_size": 2, "heldout_size": 7, "train_seed": 0, "heldout_seed": 1000, "system": "", "max_tokens": 300}
    )
    examples = source.load(subject.tokenizer).heldout
    scores = Evaluation(batch_size=3, max_new_tokens=4).scores(subject.model, subject.tokenizer, examples, "test")
    assert sum(scores.losses) / sum(scores.tokens) == pytest.approx(scores.loss, rel=1e-6)
    for i, example in enumerate(examples):
        alone = answer_loss(subject.model, collate([example], subject.tokenizer.pad_token_id), "sum").item()
        assert scores.losses[i] == pytest.approx(alone, rel=1e-5)
        assert scores.tokens[i] == len(example.answer)


def test_a_finished_part_is_not_run_again_and_another_subset_is(planned, monkeypatch):
    chosen = ["parts=[downstream]", "downstream.tasks=[arc_easy,piqa]"]
    ((first, _),) = evaluation.execute(planned(*chosen))
    assert first.status == "finished", first.error
    monkeypatch.setattr(Downstream, "_measure", lambda *_: pytest.fail("measured again"))
    ((again, _),) = evaluation.execute(planned(*chosen))
    assert again == first
    for other in (planned(*chosen, "downstream.items=3"), planned(*chosen, "downstream.system=Think.")):
        assert other.parts[0].key not in (first.key, "")
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            list(evaluation.execute(other))


def test_an_interrupted_evaluation_goes_on_with_the_next_task(planned, monkeypatch, tmp_path):
    chosen = ["parts=[downstream]", "downstream.tasks=[arc_easy,piqa,boolq]"]
    ((whole, _),) = evaluation.execute(planned(*chosen, "name=whole"))
    (tmp_path / "records" / "evaluate" / "whole-downstream.json").unlink()
    real, done, stops = Downstream._measure, [], []

    def measure(self, language_model, task):
        if done == ["arc_easy"] and not stops:
            stops.append(task)
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(task)
        return real(self, language_model, task)

    monkeypatch.setattr(Downstream, "_measure", measure)
    with pytest.raises(Interrupted) as stopped:
        list(evaluation.execute(planned(*chosen)))
    assert stopped.value.code == 75
    (record,) = (load(path) for path in (tmp_path / "records" / "evaluate").glob("*.json"))
    assert record.status == "interrupted"
    assert done == ["arc_easy"]
    ((resumed, _),) = evaluation.execute(planned(*chosen))
    assert done == ["arc_easy", "piqa", "boolq"], "the first task was not measured again"
    same = ({key: value for key, value in r.measurements.items() if key != "seconds"} for r in (resumed, whole))
    assert next(same) == next(same)
    assert not list((tmp_path / "kept").glob("*")), "what was kept for going on is removed"


def test_what_cannot_be_evaluated_is_told_before_any_weight_is_loaded(planned, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/evaluate cannot be written to"):
        planned("parts=[downstream]", "downstream.tasks=[piqa]", f"records_dir={tmp_path}/file")
    planned("parts=[downstream]", "downstream.tasks=[piqa]", f"records_dir={tmp_path}/file", "dry=true")
    with pytest.raises(
        UserError, match=r"downstream\.tasks=gsm8k is not possible: give a list, for example \[gsm8k\]"
    ):
        downstream(data, "gsm8k")


def test_records_go_where_recorded_as_says(planned):
    ((record, _),) = evaluation.execute(planned("parts=[downstream]", "downstream.tasks=[piqa]", "recorded_as=mine"))
    assert record.study == "mine"


def test_models_evaluated_differently_are_not_compared(planned):
    chosen = ["parts=[downstream]", "downstream.tasks=[arc_easy,piqa]"]
    list(evaluation.execute(planned(*chosen, "name=a")))
    with pytest.raises(UserError, match=r"was evaluated with other values of items, system"):
        planned(*chosen, "name=b", "before=a", "downstream.items=3", "downstream.system=Think.")
    sizes = ["downstream.batch_size=2", "downstream.generation_batch_size=3"]
    fewer = planned("parts=[downstream]", "downstream.tasks=[piqa]", *sizes, "name=b", "before=a")
    ((_, compared),) = evaluation.execute(fewer)
    assert compared.name == "b-downstream-against-a"
    assert list(compared.measurements) == ["piqa"]
    assert compared.measurements["piqa"]["kind"] == "same items"
    assert compared.measurements["piqa"]["difference"] == 0
    assert compared.measurements["piqa"]["verdict"] == NOT_TESTABLE


def test_dry_lists_the_parts_and_what_they_cost_before(planned):
    chosen = ["parts=[heldout,downstream]", "downstream.tasks=[arc_easy,piqa]"]
    assert evaluation.table(planned(*chosen, "name=a")).splitlines() == [
        "a-heldout: to do; 6 examples; time not known",
        "a-downstream: to do; 7 arc_easy, 7 piqa; time not known",
    ]
    list(evaluation.execute(planned("parts=[heldout]", "name=a")))
    first, second = evaluation.table(planned(*chosen, "name=b")).splitlines()
    assert first.startswith("b-heldout: to do; 6 examples; time ")
    assert first.endswith(" s (a-heldout)")
    assert second.endswith("time not known")
    assert evaluation.table(planned("parts=[heldout]", "name=a")).startswith("a-heldout: finished")


LONG = "reasoning_gym.data.max_tokens=256"  # a byte is a token here


def test_reasoning_gym_is_evaluated_whatever_the_data(planned):
    ((record, _),) = evaluation.execute(planned("parts=[reasoning_gym]", "reasoning_gym.data.heldout_size=9", LONG))
    assert record.measurements["exact_match"]["items"] == 9
    assert planned("parts=[reasoning_gym]", LONG).parts[0].part.size() == {"examples": 500}


def test_a_failing_part_is_a_record_and_stops_no_other(planned, monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(Downstream, "_measure", fail)
    records = [record for record, _ in evaluation.execute(planned("parts=[downstream,heldout]"))]
    assert [record.status for record in records] == ["failed", "finished"]
    assert records[0].error.endswith("svamp (RuntimeError: broken)")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["path=null"], r"path=\.\.\. is missing"),
        (["model=smollm2_135m"], "are two models"),
        (["path=/no/such/folder"], "is no folder with a config.json"),
        (["parts=[heldout,speed]"], "parts has 'speed'"),
        (["dtype=float8"], "dtype='float8'"),
        (["downstream.tasks=[chess]"], r"downstream.tasks has 'chess'; there are aqua_rat, "),
        (["downstream.items=0"], "downstream.items=0 is not possible"),
        (["downstream.folder=/no/such"], "downstream.folder=/no/such is no folder"),
        (["before=nobody"], "before=nobody: there is no"),
        (["parts=[mt_bench]"], "mt_bench.questions=FILE is missing"),
    ],
)
def test_impossible_values_are_refused_before_any_weight_is_loaded(overrides, message, planned, monkeypatch):
    from experiments import models

    monkeypatch.setattr(models, "_load_folder", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match=message):
        planned(*overrides)


# --- the command ---


def test_the_command(checkpoint, data, tmp_path, command):
    places = [f"path={checkpoint}", f"records_dir={tmp_path}/records", f"downstream.folder={data}", *SIZES]
    done = command(main, *places, "downstream.tasks=[arc_easy]", "parts=[heldout,downstream]", "name=tiny")
    assert done.returncode == 0, done.stderr
    assert "tiny-downstream:\n  arc_easy: 0." in done.stdout
    assert "guessing gives 0.286" in done.stdout  # two of seven have the same letter right
    for part in ("heldout", "downstream"):
        record = load(tmp_path / "records" / "evaluate" / f"tiny-{part}.json")
        assert (record.kind, record.status) == ("evaluate", "finished")
        assert record.provenance["versions"]["lm-eval"] == "0.4.13"


def test_a_refusal_is_one_line_and_exit_code_2(checkpoint, command):
    refused = command(main, f"path={checkpoint}", "downstream.tasks=[chess]")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("error: downstream.tasks has 'chess'; there are aqua_rat, ")

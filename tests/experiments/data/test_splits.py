"""The three parts: disjoint, fixed, and the test part read once, by reported runs, after training."""

import re

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from experiments import configuration
from experiments.data.splits import TUNING_SEEDS, place, split
from experiments.errors import UserError
from experiments.studies import study
from experiments.training.loop import Training
from experiments.training.run import Run
from experiments.training.running import execute
from tests.experiments.conftest import ROOT, TINY
from tests.experiments.data.conftest import ROWS, TESTS, on, write


def test_parts_are_disjoint_fixed_and_do_not_depend_on_the_order_of_rows():
    questions = [f"question {i}" for i in range(2000)] * 2
    found = split(questions, str, 0.1, 0.2, seed=0)
    train, validation, test = map(set, found)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train | validation | test) == 2000
    assert len(validation) == pytest.approx(200, abs=45)  # more than three standard deviations
    assert len(test) == pytest.approx(400, abs=60)
    assert split(questions[::-1], str, 0.1, 0.2, seed=0) == found
    assert split(questions, str, 0.1, 0.2, seed=1) != found
    fewer = split(questions[:1000], str, 0.1, 0.2, seed=0)
    assert all(set(part) <= set(whole) for part, whole in zip(fewer, found, strict=True)), "new rows move no old one"


def test_places_are_those_of_every_machine_and_version():
    # sha256sum of "0/" and the sha256sum of "what is 1 plus 1?": e13b..., over 2^64
    assert place("What is 1 plus 1?", 0) == 0.8798102626261985
    assert place(" what is  1 PLUS 1?\n", 0) == place("What is 1 plus 1?", 0), "spelling makes no other question"
    assert place("What is 1 plus 1?", 1) != place("What is 1 plus 1?", 0)


def test_train_and_validation_of_a_run(tiny_gsm8k):
    data = tiny_gsm8k().workload.data
    parts = data._parts()
    assert parts.test is None
    assert {t.prompt for t in parts.train} | {t.prompt for t in parts.heldout} <= {r["question"] for r in ROWS}
    assert not {t.prompt for t in parts.train} & {t.prompt for t in parts.heldout}
    assert data.heldout_size == 4
    smaller = tiny_gsm8k("data.train_size=12").workload.data._parts()
    assert smaller.train == parts.train[:12]
    shared = tiny_gsm8k("data.test_share=0.2").workload.data._parts()
    assert not {t.prompt for t in shared.test} & {t.prompt for t in shared.train + shared.heldout}


# --- the test part ---


def test_without_the_final_test_nobody_opens_the_test_split(tiny_gsm8k, files):
    (files / "gsm8k.test.jsonl").write_text("no JSON at all")
    record = execute(Run(tiny_gsm8k()))
    assert record.status == "finished", record.error
    assert "test" not in record.measurements
    (files / "gsm8k.test.jsonl").unlink()
    assert execute(Run(tiny_gsm8k("seed=1"))).status == "finished"


def test_a_test_split_with_a_fault_costs_no_training(tiny_gsm8k, files, monkeypatch):
    (files / "gsm8k.test.jsonl").write_text("no JSON at all")
    record = execute(Run(tiny_gsm8k("data.test=true")))
    assert record.status == "failed"
    assert re.fullmatch(r"UserError: .*gsm8k\.test\.jsonl, line 1: no valid JSON \(.*\)", record.error)
    assert "after" in record.measurements
    write(files / "gsm8k.test.jsonl", TESTS)
    monkeypatch.setattr(Training, "step", lambda self: pytest.fail("trained again"))
    record = execute(Run(tiny_gsm8k("data.test=true")))
    assert record.status == "finished", record.error
    assert record.provenance["resumed_after_step"] == 4
    assert record.measurements["test"]["items"] == len(TESTS)
    assert len(record.provenance["test_rows"]) == 64
    again = Run(tiny_gsm8k("data.test=true")).finished
    assert again is not None, "a finished run is not run again, so the test is read once"


@pytest.mark.parametrize("evaluation", ["loss", "exact_match"])
def test_what_became_of_every_test_answer_is_recorded(evaluation, tiny_gsm8k):
    test = execute(Run(tiny_gsm8k("data.test=true", f"evaluation={evaluation}"))).measurements["test"]
    if evaluation == "exact_match":
        assert sum(test["right"]) / len(TESTS) == test["exact_match"]
    assert len(test["losses"]) == len(test["tokens"]) == len(TESTS)
    assert sum(test["losses"]) / sum(test["tokens"]) == pytest.approx(test["heldout_loss"], rel=1e-5)


def test_the_final_test_of_generated_questions_is_disjoint(tiny_gsm8k):
    from transformers import AutoTokenizer

    options = ["data=reasoning_gym", "data.train_size=40", "data.heldout_size=12", "data.max_tokens=256"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        data = configuration.build(study.compose([*options, "data.test=true", "data.test_size=30"])[0].data)
    tokenizer = AutoTokenizer.from_pretrained(tiny_gsm8k().workload.model.folder())
    dataset, test = data.load(tokenizer), data.load_test(tokenizer)
    assert len(test) == 30
    seen = {tuple(example.prompt) for example in dataset.train + dataset.heldout}
    assert not seen & {tuple(example.prompt) for example in test}


def test_seeds_for_tuning_never_see_the_test(tiny_gsm8k):
    assert tiny_gsm8k(f"seed={TUNING_SEEDS}").config.seed == TUNING_SEEDS
    assert tiny_gsm8k(f"seed={TUNING_SEEDS - 1}", "data.test=true").workload.data.test
    with pytest.raises(UserError, match=r"seed=1000 with data\.test=true is not possible"):
        tiny_gsm8k(f"seed={TUNING_SEEDS}", "data.test=true")


@pytest.mark.parametrize(
    ("seed", "extra", "message"),
    [
        (1000, [], None),
        (3, [], "seed=3 is not possible"),
        (1000, ["data.test=true"], "data.test=true is not possible"),
    ],
)
def test_a_study_for_tuning_has_seeds_of_its_own_and_no_test(seed, extra, message, places, files):
    axes = {"method": ["badam"], "seed": [seed]}
    made = {"name": "t", "tuning": True, "axes": axes, "overrides": [*places, *TINY, *on(files)]}
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        if message is None:
            assert len(study.runs(OmegaConf.create(made), extra, [])) == 1
        else:
            with pytest.raises(UserError, match=message):
                study.runs(OmegaConf.create(made), extra, [])

"""Data from files and the hub: schemas, the three parts, scoring, and every fault in one line."""

import itertools
import json
import lzma
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from experiments import configuration
from experiments.data import source
from experiments.data.answers import boxed, normal, number, same_boxed, same_number
from experiments.data.schemas import GSM8K, MATH, Alpaca, Instruction, Text
from experiments.data.source import SUFFIXES, Source
from experiments.data.splits import TUNING_SEEDS, identity, place, split
from experiments.errors import UserError
from experiments.interruption import Interrupted
from experiments.studies import study
from experiments.training import planning
from experiments.training.loop import Training
from experiments.training.run import Run
from experiments.training.running import execute

ROOT = Path(__file__).resolve().parents[3]
COPIES = ROOT.parent / "shared" / "data"
ROWS = [
    {"question": f"What is {a} plus {b}?", "answer": f"It is {a} + {b} = <<{a}+{b}={a + b}>>{a + b}.\n#### {a + b}"}
    for a in range(6)
    for b in range(8)
]
TESTS = [{"question": f"What is {a} times 3?", "answer": f"#### {3 * a}"} for a in range(5)]


def write(path, rows):
    """The rows in the format that the name ends in."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".jsonl"):
        path.write_text(lines)
    elif path.suffix == ".xz":
        path.write_bytes(lzma.compress(lines.encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        parquet.write_table(arrow.Table.from_pylist(rows), path)


@pytest.fixture
def files(tmp_path):
    """Folder with a small train and test split under the schema of GSM8K."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "gsm8k.train.jsonl", ROWS)
    write(folder / "gsm8k.test.jsonl", TESTS)
    return folder


@pytest.fixture
def tiny(checkpoint, tmp_path, files):
    """tiny(*overrides) -> the plan of a run on the tiny Llama with the small files."""

    def compose(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return planning.plan(*study.compose([*fixed(checkpoint, tmp_path, files), *overrides]))

    return compose


def fixed(checkpoint, folder, files):
    places = [f"records_dir={folder}/records", f"checkpoint.folder={folder}/checkpoints", "device=cpu"]
    data = ["data=gsm8k", f"data.source.local={files}", "data.heldout_size=4", "data.validation_share=0.2"]
    return ["model=pretrained", f"model.path={checkpoint}", "steps=4", "batch_size=4", *places, *data]


# --- where rows come from ---


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows(suffix, tmp_path):
    write(tmp_path / f"sums.train{suffix}", ROWS)
    for local in (tmp_path, tmp_path / f"sums.train{suffix}"):
        found = Source(hub="nobody/sums", file="sums", local=str(local)).rows("train", ("question", "answer"))
        assert found == ROWS


def test_the_hub_is_asked_by_name_through_datasets(tmp_path):
    """A folder is what the library takes for a hub name without a network; two configurations give all rows."""
    for name, rows in (("one", ROWS[:3]), ("two", ROWS[3:])):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.jsonl", rows)
    card = [f"  - config_name: {name}\n    data_files: {name}/train.jsonl\n" for name in ("one", "two")]
    (tmp_path / "README.md").write_text("---\nconfigs:\n" + "".join(card) + "---\n")
    code = (
        "from experiments.data.source import Source; import sys;"
        "print(len(Source(hub=sys.argv[1], file='x', configs=['one', 'two']).rows('train', ('question', 'answer'))))"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{len(ROWS)}\n", done.stderr


def test_a_hub_that_cannot_be_had_is_told_with_the_way_out(tmp_path):
    code = (
        "from experiments.data.source import Source; Source(hub='nobody/nothing-at-all', file='x').rows('train', ())"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    told = done.stderr.strip().splitlines()[-1]
    assert re.search(
        r"UserError: nobody/nothing-at-all, split train, cannot be had from the hub \(.+\); .*local_data=FOLDER",
        told,
    )


def test_a_missing_library_is_told_with_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match="by the package datasets, which is missing: pip install datasets, or give a folder"
    ):
        Source(hub="openai/gsm8k", file="gsm8k").rows("train", ())


def test_local_files_are_never_replaced_by_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_hub_rows", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match=r"has no gsm8k\.train\{\.jsonl,.* or null for openai/gsm8k"):
        Source(hub="openai/gsm8k", file="gsm8k", local=str(tmp_path)).rows("train", ())
    write(tmp_path / "gsm8k.train.jsonl", ROWS)
    write(tmp_path / "gsm8k.train.json", ROWS)
    with pytest.raises(UserError, match=r"has both gsm8k\.train\.jsonl and gsm8k\.train\.json"):
        Source(hub="openai/gsm8k", file="gsm8k", local=str(tmp_path)).rows("train", ())
    with pytest.raises(UserError, match="is one file, so it has no test split"):
        Source(hub="openai/gsm8k", file="gsm8k", local=str(tmp_path / "gsm8k.train.json")).rows("test", ())


FAULTS = {
    "bad.jsonl": (b'{"question": "a", "answer": "b"}\n{"question": \n', "line 2: no valid JSON"),
    "bad.json": (b'[\n{"question": "a"},\n]', "line 3: no valid JSON"),
    "object.json": (b'{"question": "a"}', "is no list of rows"),
    "list.jsonl": (b"[1, 2]\n", "row 1: not an object with fields"),
    "empty.jsonl": (b"", "has no rows"),
    "latin.jsonl": ('{"question": "é"}'.encode("latin-1"), "cannot be read: 'utf-8' codec"),
    "cut.jsonl.xz": (lzma.compress(b'{"question": "a", "answer": "b"}\n' * 99)[:-20], "cannot be read: "),
    "no.jsonl.xz": (b"no such format", "cannot be read: Input format not supported"),
    "no.parquet": (b"no such format", "cannot be read: "),
    "name.csv": (b"question,answer\n", "the name ends in none of .jsonl"),
    "field.jsonl": (
        b'{"question": "a", "answer": "b"}\n{"question": "a", "reply": "b"}\n',
        r"row 2: the field 'answer' is missing \(it has question, reply\)",
    ),
    "number.jsonl": (b'{"question": "a", "answer": 3}\n', "row 1: the field 'answer' is 3, no text"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_a_file_are_one_line_with_its_name(name, tmp_path):
    content, message = FAULTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as told:
        Source(hub="x/y", file="x", local=str(tmp_path / name)).rows("train", ("question", "answer"))
    assert name in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    write(tmp_path / "x.train.jsonl", ROWS)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"x\.train\.jsonl cannot be read: Permission denied"):
        Source(hub="x/y", file="x", local=str(tmp_path)).rows("train", ())


def test_a_changed_file_is_read_again(tmp_path):
    where = Source(hub="x/y", file="x", local=str(tmp_path))
    write(tmp_path / "x.train.jsonl", ROWS)
    assert len(where.rows("train", ())) == len(ROWS)
    write(tmp_path / "x.train.jsonl", ROWS[:5])
    assert len(where.rows("train", ())) == 5


@pytest.mark.parametrize("fault", ["missing", "schema"])
def test_the_command_ends_with_2_and_one_line(fault, checkpoint, tmp_path, files):
    if fault == "missing":
        (files / "gsm8k.train.jsonl").unlink()
    else:
        write(files / "gsm8k.train.jsonl", [{"problem": "a", "solution": "b"}])
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", *fixed(checkpoint, tmp_path, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: .*(has no gsm8k\.train|the field 'question' is missing).*\n", done.stderr)


# --- parts ---


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


def test_train_and_validation_of_a_run(tiny):
    data = tiny().workload.data
    parts = data._parts()
    assert parts.test is None
    assert {t.prompt for t in parts.train} | {t.prompt for t in parts.heldout} <= {r["question"] for r in ROWS}
    assert not {t.prompt for t in parts.train} & {t.prompt for t in parts.heldout}
    assert data.heldout_size == 4
    smaller = tiny("data.train_size=12").workload.data._parts()
    assert smaller.train == parts.train[:12]
    shared = tiny("data.test_share=0.2").workload.data._parts()
    assert not {t.prompt for t in shared.test} & {t.prompt for t in shared.train + shared.heldout}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.validation_share=0", "data.validation_share=0 is not possible"),
        ("data.validation_share=1.0", "data.validation_share=1.0 is not possible"),
        ("data.test_share=x", "data.test_share='x' is not possible"),
        ("data.test_share=0.9", "leave nothing to train on"),
        ("data.train_size=1000", r"data.train_size=1000 is not possible: there are \d+ examples"),
        ("data.heldout_size=0", "data.heldout_size=0 is not possible"),
        ("data.max_tokens=0", "data.max_tokens=0 is not possible"),
        ("data.bucket=x", "data.bucket='x' is not possible"),
        ("data.test=1", "data.test=1 is not one of True, False"),
        ("data.exclude=/nowhere", "data.exclude=/nowhere cannot be read: No such file"),
        ("batch_size=100", "batch_size=100 exceeds data.train_size="),
    ],
)
def test_impossible_values_are_refused(override, message, tiny):
    with pytest.raises(ValueError, match=message):
        tiny(override)


def test_too_long_examples_are_left_out_and_counted_but_not_of_the_test(tiny, files):
    from transformers import AutoTokenizer

    long = {"question": "What is " + "1 plus " * 40 + "1?", "answer": "#### 41"}
    planned = tiny("data.max_tokens=190")
    tokenizer = AutoTokenizer.from_pretrained(planned.workload.model.folder())
    whole = planned.workload.data.load(tokenizer)
    assert whole.about["too_long"] == 0
    for name, rows in (("train", ROWS), ("test", TESTS)):
        write(files / f"gsm8k.{name}.jsonl", [*rows, long])
    again = tiny("data.max_tokens=190").workload.data
    dataset = again.load(tokenizer)
    assert dataset.about["too_long"] == 1
    assert len(dataset.train) + len(dataset.heldout) == len(whole.train) + len(whole.heldout) + (
        again.heldout_size != 4
    )
    assert len(again.load_test(tokenizer)) == len(TESTS) + 1
    with pytest.raises(UserError, match=r"all \d+ train examples are longer than data.max_tokens=20"):
        tiny("data.max_tokens=20").workload.data.load(tokenizer)


def test_rows_without_a_prompt_or_an_answer_are_left_out_and_counted(tiny, files):
    before = tiny().workload.data._parts()
    empty = [{"question": " ", "answer": "#### 1"}, {"question": "What is 1?", "answer": "\n"}]
    write(files / "gsm8k.train.jsonl", [*ROWS, *empty])
    after = tiny().workload.data._parts()
    assert after.empty == 2
    assert (after.train, after.heldout) == (before.train, before.heldout)


def test_only_answers_are_learned_in_the_chat_template(tiny):
    from transformers import AutoTokenizer

    planned = tiny()
    tokenizer = AutoTokenizer.from_pretrained(planned.workload.model.folder())
    example, text = planned.workload.data.load(tokenizer).train[0], planned.workload.data._parts().train[0]
    assert tokenizer.decode(example.prompt) == (f"<|im_start|>user\n{text.prompt}<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(example.answer) == f"{text.answer}<|im_end|>"
    assert example.score(text.answer)
    assert not example.score("It is 1000")
    system = tiny("data.system=Add.").workload.data.load(tokenizer).train[0]
    assert tokenizer.decode(system.prompt).startswith("<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n")


# --- the test part is read once, by reported runs, after training ---


def test_without_the_final_test_nobody_opens_the_test_split(tiny, files):
    (files / "gsm8k.test.jsonl").write_text("no JSON at all")
    record = execute(Run(tiny()))
    assert record.status == "finished", record.error
    assert "test" not in record.measurements
    (files / "gsm8k.test.jsonl").unlink()
    assert execute(Run(tiny("seed=1"))).status == "finished"


def test_a_test_split_with_a_fault_costs_no_training(tiny, files, monkeypatch):
    (files / "gsm8k.test.jsonl").write_text("no JSON at all")
    record = execute(Run(tiny("data.test=true")))
    assert record.status == "failed"
    assert re.fullmatch(r"UserError: .*gsm8k\.test\.jsonl, line 1: no valid JSON \(.*\)", record.error)
    assert "after" in record.measurements
    write(files / "gsm8k.test.jsonl", TESTS)
    monkeypatch.setattr(Training, "step", lambda self: pytest.fail("trained again"))
    record = execute(Run(tiny("data.test=true")))
    assert record.status == "finished", record.error
    assert record.provenance["resumed_after_step"] == 4
    assert record.measurements["test"]["items"] == len(TESTS)
    assert len(record.provenance["test_rows"]) == 64
    again = Run(tiny("data.test=true")).finished
    assert again is not None, "a finished run is not run again, so the test is read once"


def test_the_final_test_of_generated_questions_is_disjoint(tiny):
    from transformers import AutoTokenizer

    options = ["data=reasoning_gym", "data.train_size=40", "data.heldout_size=12", "data.max_tokens=256"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        data = configuration.build(study.compose([*options, "data.test=true", "data.test_size=30"])[0].data)
    tokenizer = AutoTokenizer.from_pretrained(tiny().workload.model.folder())
    dataset, test = data.load(tokenizer), data.load_test(tokenizer)
    assert len(test) == 30
    seen = {tuple(example.prompt) for example in dataset.train + dataset.heldout}
    assert not seen & {tuple(example.prompt) for example in test}


def test_seeds_for_tuning_never_see_the_test(tiny):
    assert tiny(f"seed={TUNING_SEEDS}").config.seed == TUNING_SEEDS
    assert tiny(f"seed={TUNING_SEEDS - 1}", "data.test=true").workload.data.test
    with pytest.raises(UserError, match=r"seed=1000 with data\.test=true is not possible"):
        tiny(f"seed={TUNING_SEEDS}", "data.test=true")


@pytest.mark.parametrize(
    ("seed", "extra", "message"),
    [
        (1000, [], None),
        (3, [], "seed=3 is not possible"),
        (1000, ["data.test=true"], "data.test=true is not possible"),
    ],
)
def test_a_study_for_tuning_has_seeds_of_its_own_and_no_test(seed, extra, message, checkpoint, tmp_path, files):
    axes = {"method": ["badam"], "seed": [seed]}
    made = {"name": "t", "tuning": True, "axes": axes, "overrides": fixed(checkpoint, tmp_path, files)}
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        if message is None:
            assert len(study.runs(OmegaConf.create(made), extra, [])) == 1
        else:
            with pytest.raises(UserError, match=message):
                study.runs(OmegaConf.create(made), extra, [])


def test_a_run_on_buckets_goes_on_to_the_same_bits(tiny, monkeypatch):
    planned = tiny("method=badam", "data.bucket=3", "accumulation=2", "steps=12")
    whole = execute(Run(planned, "whole"))
    real = Training.step

    def step(self):
        real(self)
        if self.steps == 9:  # in the second epoch
            monkeypatch.setattr(Training, "step", real)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "step", step)
    with pytest.raises(Interrupted):
        execute(Run(planned, "cut"))
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 9
    losses = (record.measurements["steps"]["loss"] for record in (whole, resumed))
    assert next(losses) == next(losses)
    assert whole.measurements["after"] == resumed.measurements["after"]
    assert whole.measurements["data"] == resumed.measurements["data"]


def test_the_padding_is_told_and_recorded(tiny, capfd):
    record = execute(Run(tiny()))
    data = record.measurements["data"]
    assert re.search(
        r"\d+ train examples, 4 heldout examples, 0 too long, 0 empty, 0 excluded; "
        rf"{data['tokens']} tokens in 4 steps, {data['padding_waste']:.1%} padding besides \(data.bucket=32\)",
        capfd.readouterr().err,
    )


def test_excluded_questions_are_not_trained_on(tiny, tmp_path):
    before = tiny().workload.data._parts().train
    listed = tmp_path / "excluded.txt"
    listed.write_text("".join(identity(text.prompt) + "\n" for text in before[:3]))
    data = tiny(f"data.exclude={listed}").workload.data
    assert data._parts().train == before[3:]
    assert data.fingerprint() != tiny().workload.data.fingerprint()
    listed.write_text(identity("of another set") + "\n")
    with pytest.raises(UserError, match="names no example of"):
        tiny(f"data.exclude={listed}")
    listed.write_text("not a hash\n")
    with pytest.raises(UserError, match=r"is no list that experiments\.overlap wrote"):
        tiny(f"data.exclude={listed}")


# --- schemas and scores ---


def test_schemas():
    rows = {"instruction": " Add. ", "input": "1, 2", "output": "3\n"}
    assert Alpaca().text(rows) == Text("Add.\n\n1, 2", "3")
    assert Alpaca().text(rows | {"input": ""}) == Text("Add.", "3")
    assert Instruction().text(rows) == Text("Add.", "3")
    assert GSM8K().text(ROWS[9]).answer == "It is 1 + 1 = 2.\n#### 2"
    assert "<<1+1=2>>" in GSM8K(annotations=True).text(ROWS[9]).answer
    assert MATH().text({"problem": "p", "solution": r"so \boxed{1}"}) == Text("p", r"so \boxed{1}")
    assert Alpaca().right(" yes ", "yes")
    assert not Alpaca().right("no", "yes")
    assert Instruction().right("The answer is 12.0", "so it is 12")
    assert not Instruction().right("no", "yes")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 72", 72),
        ("#### 1,234", 1234),
        ("She makes $18.", 18),
        ("so 18.50 dollars", 18.5),
        ("it is .5", 0.5),
        ("minus: -3", -3),
        ("x = 8-3", 3),
        ("8 - 3", 3),
        ("5 apples, then 6 apples", 6),
        ("none", None),
    ],
)
def test_last_numbers(text, value):
    assert number(text) == value


def test_same_number():
    assert same_number("The answer is 1,000.00", "#### 1000")
    assert not same_number("", "#### 5")
    assert not same_number("none", "none")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac12", r"\dfrac{1}{2}"),
        (r"\frac{1}{2}", "1/2"),
        ("0.5", "1/2"),
        (r"-\frac{1}{2}", "-0.5"),
        ("1,000", "1000"),
        (r"x = 5", "5"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"30^\circ", "30"),
        (r"50\%", "50"),
        (r"\$5", "5"),
        (r"\text{(C)}", "(C)"),
        (r"\sqrt2", r"\sqrt{2}"),
        (r"\frac{3}4", r"\frac{3}{4}"),
        ("10.", "10"),
    ],
)
def test_one_normal_form(one, other):
    assert normal(one) == normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("(1,234)", "1234"), ("1,2", "12"), (r"\frac{1}{2}", "2"), ("x", "y"), ("1/0", "0"), (r"\sqrt{2}", "2")],
)
def test_different_answers_stay_different(one, other):
    assert normal(one) != normal(other)


def test_boxes():
    assert boxed(r"\boxed{\frac{1}{2}} and \boxed{ {x} }.") == " {x} "
    assert boxed(r"\boxed 5.") == "5"
    assert boxed(r"\fbox{3}") == "3"
    assert boxed("none") is None
    assert boxed(r"\boxed{never ends") is None
    assert same_boxed(r"I get \boxed{0.25}", r"thus \boxed{\frac14}")
    assert not same_boxed("0.25", r"thus \boxed{\frac14}"), "an answer that boxes nothing is wrong"
    assert not same_boxed(r"\boxed{1}", "no box")


# --- the local copies of the real sets ---

needs_copies = pytest.mark.skipif(not COPIES.is_dir(), reason="no local copies of the data sets in ../shared/data")


@needs_copies
@pytest.mark.parametrize(
    ("name", "local", "rows"),
    [("gsm8k", "", 7473), ("math", "", 7500), ("alpaca", "alpaca_cleaned.train.jsonl.xz", 51941)],
)
def test_real_sets_fit_their_schema_and_score_their_own_answers(name, local, rows):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config, _ = study.compose([f"data={name}", f"data.source.local={COPIES / local}", "data.heldout_size=null"])
    data = configuration.build(config.data)
    parts = data._parts()
    texts = [*parts.train, *parts.heldout, *(parts.test or [])]
    assert len(texts) == rows
    assert all(text.prompt and text.answer for text in texts)
    assert all(data.schema.right(text.answer, text.answer) for text in texts)
    pairs = itertools.pairwise(parts.train)
    wrong = [data.schema.right(one.answer, other.answer) for one, other in pairs]
    assert sum(wrong) < len(wrong) / 10, "the score tells answers apart"
    prompts = [{identity(text.prompt) for text in part} for part in (parts.train, parts.heldout, parts.test or [])]
    assert not prompts[0] & prompts[1]
    assert not prompts[2] & (prompts[0] | prompts[1])

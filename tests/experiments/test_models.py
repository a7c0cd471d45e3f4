"""Models: from random weights, from any folder in the Llama 3 format, and from one study to the next."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml
from hydra import initialize_config_dir

from experiments import configuration, models, train
from experiments.data import IGNORED, Example, collate
from experiments.errors import UserError
from experiments.models import GGUFPackage, Pretrained, RandomLlama
from experiments.studies import study
from experiments.training import planning
from experiments.training.run import Run
from experiments.training.running import execute
from records import ROOT, load
from tests.experiments.conftest import TINY

ARCHITECTURE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


# --- the embedded model ---


def test_a_missing_model_package_is_named_with_the_command_that_brings_it():
    source = configuration.build(
        {
            "_target_": "experiments.models.GGUFPackage",
            "package": "no_such_package",
            "distribution": "no-such-package==1.0",
            "architecture": {},
        }
    )
    with pytest.raises(UserError, match=r"no_such_package .* is not installed .*run `make setup`, or `pip install"):
        source.fingerprint()


@pytest.mark.slow
@pytest.mark.model
def test_the_embedded_model_is_what_its_configuration_says():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config, choices = study.compose(["method=badam"])
    planned = planning.plan(config, choices)
    model, tokenizer = planned.workload.model.load(torch.float32)
    names = {name: p.shape for name, p in model.named_parameters()}
    assert names == {name: p.shape for name, p in planned.workload.model.skeleton(torch.float32).named_parameters()}
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    dataset = planned.workload.data.load(tokenizer)
    assert max(len(e.prompt) + len(e.answer) for e in dataset.train + dataset.heldout) <= config.data.max_tokens
    trained, held = ({tuple(e.prompt) for e in split} for split in (dataset.train, dataset.heldout))
    assert not trained & held
    # It is a trained model: the loss of plain text is far below that of guessing, log(vocabulary) = 10.8.
    tokens = tokenizer("The capital of France is Paris.", return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(input_ids=tokens, labels=tokens).loss < 4


def test_those_that_load_together_convert_once(tmp_path, monkeypatch):
    converted = []

    def convert(self, folder):
        converted.append(folder)
        time.sleep(0.3)
        folder.mkdir()

    monkeypatch.setattr(models, "CONVERTED", tmp_path / "models")
    monkeypatch.setattr(models, "_load_folder", lambda folder, dtype: (folder.is_dir(), None))
    monkeypatch.setattr(GGUFPackage, "fingerprint", lambda self: "a" * 64)
    monkeypatch.setattr(GGUFPackage, "_convert", convert)
    source = GGUFPackage("none", "none", {})
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(source.load, [torch.float32] * 4))
    assert loaded == [(True, None)] * 4
    assert converted == [tmp_path / "models" / ("a" * 16)]


# --- random weights ---


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.usefixtures("global_generator_untouched")
def test_random_weights_depend_on_their_seed_only(checkpoint):
    tokenizer = Pretrained(str(checkpoint))
    sources = [RandomLlama(ARCHITECTURE, tokenizer, seed) for seed in (0, 0, 1)]
    (first, ids), (again, _), (other, _) = (source.load(torch.float32) for source in sources)
    assert same(first, again)
    assert not same(first, other)
    assert sources[0].fingerprint() == sources[1].fingerprint() != sources[2].fingerprint()
    shapes = {name: p.shape for name, p in first.named_parameters()}
    assert shapes == {name: p.shape for name, p in sources[0].skeleton(torch.float32).named_parameters()}
    assert len(ids) <= first.config.vocab_size
    assert first.config.eos_token_id == ids.eos_token_id
    assert sources[0].load(torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused(checkpoint):
    source = RandomLlama(ARCHITECTURE | {"vocab_size": 100}, Pretrained(str(checkpoint)), 0)
    with pytest.raises(UserError, match="vocab_size=100 is not possible: the tokenizer has 258 ids"):
        source.load(torch.float32)


# --- the loss on whole texts ---


def test_whole_examples_have_a_label_on_every_token():
    batch = collate([Example([5, 6, 7], [8, 1], bool, whole=True), Example([5, 6], [1], bool)], pad=1)
    assert batch.labels.tolist() == [[5, 6, 7, 8, 1], [IGNORED, IGNORED, 1, IGNORED, IGNORED]]
    assert batch.terms == 5


def test_the_option_reaches_the_examples(checkpoint, tmp_path):
    rows = [{"question": f"What is {i}?", "answer": f"#### {i}"} for i in range(40)]
    (tmp_path / "gsm8k.train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, tokenizer = Pretrained(str(checkpoint)).load(torch.float32)
    found = {}
    for choice in ("answers", "all"):
        overrides = ["data=gsm8k", f"data.source.local={tmp_path}", "data.heldout_size=2", f"data.loss_on={choice}"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            data = configuration.build(study.compose(overrides)[0].data).load(tokenizer)
        found[choice] = collate(data.train[:4], 1).terms, sum(example.length for example in data.train[:4])
    (answers, tokens), (every, _) = found["answers"], found["all"]
    assert answers < every == tokens - 4, "all but the first of each"
    with (
        initialize_config_dir(str(ROOT / "conf"), version_base="1.3"),
        pytest.raises(ValueError, match=r"data\.loss_on='prompts' is not one of answers, all"),
    ):
        configuration.build(study.compose(["data=gsm8k", "data.loss_on=prompts"])[0].data)


# --- from the command line ---


def test_a_small_checkpoint_in_the_format_of_llama_3_stands_in_for_it(tmp_path, checkpoint, command):
    """Untied head, grouped heads and rotary base as in Llama 3; saved by transformers; without a yaml of its own."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    given = yaml.safe_load((ROOT / "conf/model/llama3_8b.yaml").read_text())["architecture"]
    small = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**given | small | heads)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "llama")
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(tmp_path / "llama")
    places = [f"records_dir={tmp_path}/records", f"checkpoint.folder={tmp_path}/checkpoints"]
    done = command(
        train.main, "model=llama3_8b", f"model.path={tmp_path}/llama", "method=badam", "dtype=bfloat16", *places, *TINY
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "records" / "single").glob("*.json")
    record = load(path)
    assert record.config["choices"]["model"] == "llama3_8b"
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    assert record.measurements["trained_parameters"] == 2 * layer


def test_one_study_exports_what_the_next_one_loads(checkpoint, tmp_path):
    """The two commands of study=scratch and study=scale, with a small tokenizer and few steps."""
    scratch = yaml.safe_load((ROOT / "conf/study/scratch.yaml").read_text())
    scale = yaml.safe_load((ROOT / "conf/model/llama_small_trained.yaml").read_text())
    pattern = scale["path"].partition("/scratch/")[2]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config, chosen = study.compose(
            [
                *("model=llama_small", "model.architecture.num_hidden_layers=4", "method=adamw", *TINY),
                *("model@model.tokenizer=pretrained", f"model.tokenizer.path={checkpoint}"),
                *("model.architecture.vocab_size=258", "model.architecture.hidden_size=32", f"export={tmp_path}"),
                *(f"records_dir={tmp_path}/records", f"checkpoint.folder={tmp_path}/checkpoints"),
            ]
        )
    key = "model.architecture.num_hidden_layers"
    assert 4 in scratch["axes"][key]
    name = study.label({key: 4, "seed": 0})
    assert name == pattern.replace("${.architecture.num_hidden_layers}", "4")
    record = execute(Run(planning.plan(config, chosen, name), "scratch"))
    assert record.status == "finished", record.error
    assert record.measurements["export"] == str(tmp_path / "scratch" / name)
    model, _ = Pretrained(record.measurements["export"], {"num_hidden_layers": 8}).load(torch.float32)
    assert model.config.num_hidden_layers == 4

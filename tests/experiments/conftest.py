"""What the tests of experiments/ share: a tiny Llama checkpoint made here, and plans, studies and runs on it."""

import json
import os
import re
import signal
import subprocess
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TINY = ["steps=6", "batch_size=2", "data.train_size=8", "data.heldout_size=4", "data.max_tokens=256", "device=cpu"]
METHODS = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
KINDS = ("adamw", "badam", "lisa", "lomo", "lora", "muon")
"""A method of each kind: all weights, blocks, layers drawn at random, inside the backward pass, adapters, matrices."""


def measured(record):
    """Everything measured except seconds, places and spectra."""
    assert record.status == "finished", record.error
    compared = {name: value for name, value in record.measurements.items() if name not in ("export", "spectrum")}
    return re.sub(r'"seconds": (\[[^]]*\]|[0-9.e+-]+)', "", json.dumps(compared, sort_keys=True))


def terminate(*_):
    os.kill(os.getpid(), signal.SIGTERM)


def below(folder, checkpoint):
    """Overrides that put a run on the tiny Llama, with everything it writes below the folder."""
    folders = [f"records_dir={folder}/records", f"checkpoint.folder={folder}/checkpoints"]
    return ["model=pretrained", f"model.path={checkpoint}", *folders]


def composed_at(places, *overrides):
    from hydra import initialize_config_dir

    from experiments.studies import study

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return study.compose([*places, *TINY, *overrides])


def planned_at(places, *overrides):
    from experiments.training import planning

    return planning.plan(*composed_at(places, *overrides))


def entries_at(places, name, axes, *overrides, extra=(), **keys):
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    from experiments.studies import study

    fixed = [item for item in places if item.startswith("model")]
    config = OmegaConf.create({"name": name, "axes": axes, "overrides": [*fixed, *TINY, *overrides]} | keys)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return study.runs(config, extra, [item for item in places if not item.startswith("model")])


@pytest.fixture(autouse=True)
def the_hub_answers(monkeypatch):
    """No test asks whether there is a network; what is loaded from the hub is replaced where a test loads it."""
    from experiments import hub

    monkeypatch.setattr(hub, "unreachable", lambda: "")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """Folder of a random Llama of two layers that `model=pretrained model.path=...` loads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama3(checkpoint, tmp_path_factory) -> Path:
    """Folder of a random model of Llama 3's architecture, small: its own head, grouped heads, its rotary base."""
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    config = AutoConfig.from_pretrained(
        checkpoint,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("llama3")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_plan(checkpoint):
    """tiny_plan(*overrides) -> the plan of a run on the tiny Llama; nothing is computed."""
    from hydra import initialize_config_dir

    from experiments.studies import study
    from experiments.training import planning

    fixed = ["model=pretrained", f"model.path={checkpoint}", "device=cpu", "data.train_size=8", "data.heldout_size=4"]

    def make(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return planning.plan(*study.compose([*fixed, *overrides]))

    return make


@pytest.fixture
def places(checkpoint, tmp_path):
    """Overrides that put a run on the tiny Llama, with everything it writes below the test's folder."""
    return below(tmp_path, checkpoint)


@pytest.fixture
def composed(places):
    """composed(*overrides) -> (config, choices) of a run on the tiny Llama."""
    return partial(composed_at, places)


@pytest.fixture
def tiny(places):
    """tiny(*overrides) -> the plan of a run on the tiny Llama."""
    return partial(planned_at, places)


@pytest.fixture
def entries(places):
    """entries(name, axes, *overrides, extra, **keys) -> the runs of a study on the tiny Llama."""
    return partial(entries_at, places)


@pytest.fixture(scope="session")
def trained(checkpoint, tmp_path_factory):
    """trained(method, *overrides) -> (plan, record) of its run on the tiny Llama, made once in a session.

    It shares nothing with other runs, exports its model and records spectra.
    """
    from experiments.training import running
    from experiments.training.run import Run

    @cache
    def of(method, *overrides):
        folder = tmp_path_factory.mktemp("trained")
        places = [*below(folder, checkpoint), f"export={folder}/exports", "spectrum=true"]
        plan = planned_at(places, f"method={method}", *overrides)
        before, evaluations = torch.random.get_rng_state(), dict(running._evaluations)
        running._evaluations.clear()  # so that the evaluation before training is really computed
        record = running.execute(Run(plan, "trained"))
        running._evaluations.clear()
        running._evaluations.update(evaluations)
        assert record.status == "finished", record.error
        assert torch.equal(before, torch.random.get_rng_state()), "the global random generator was used"
        return plan, record

    return of


@pytest.fixture
def at_step(monkeypatch):
    """at_step(n, act): act(training) is called once, in step n of the next run, after the weights have moved."""
    from experiments.training.loop import Training

    real = Training.step

    def arrange(number, act):
        def step(self):
            real(self)
            if self.steps == number:
                monkeypatch.setattr(Training, "step", real)
                act(self)

        monkeypatch.setattr(Training, "step", step)

    return arrange


@pytest.fixture
def command(capsys, monkeypatch):
    """command(main, *arguments) -> exit code, stdout and stderr of an entry point, which runs in this process."""
    import logging

    def run(main, *arguments):
        capsys.readouterr()
        code, handlers, level = 0, logging.root.handlers[:], logging.root.level
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
        finally:  # Hydra's handlers write to what capsys closes
            for handler in set(logging.root.handlers) - set(handlers):
                handler.close()
            logging.root.handlers[:], logging.root.level = handlers, level
        return subprocess.CompletedProcess(arguments, code or 0, *capsys.readouterr())

    monkeypatch.chdir(ROOT)
    return run

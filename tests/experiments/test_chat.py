"""Talking to a model: answers are transformers' own, turn by turn, and bad input is one line."""

import argparse
import shutil

import pytest
import torch

from experiments import chat
from experiments.chat import Conversation, generation, talk
from experiments.errors import UserError
from tests.commands import run_module

GREEDY = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture
def loaded(checkpoint):
    return chat.load(str(checkpoint), "float32", torch.device("cpu"))


def completed(model, tokenizer, text, **options):
    """What transformers gives for a prompt."""
    inputs = tokenizer(text, return_tensors="pt")
    found = model.generate(**inputs, **(GREEDY | options), pad_token_id=1)
    return tokenizer.decode(found[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.integration
def test_every_turn_is_answered_with_those_before_it(loaded, capsys):
    model, tokenizer = loaded
    conversation = Conversation(model, tokenizer, "Be brief.", GREEDY)
    first = conversation.answer("2 + 3")
    start = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 3<|im_end|>\n<|im_start|>assistant\n"
    assert first == completed(model, tokenizer, start)
    second = conversation.answer("and 4")
    more = f"{start}{first}<|im_end|>\n<|im_start|>user\nand 4<|im_end|>\n<|im_start|>assistant\n"
    assert second == completed(model, tokenizer, more)
    conversation.reset()
    assert conversation.answer("2 + 3") == first
    assert first.strip() in capsys.readouterr().out, "it was printed"


@pytest.mark.integration
def test_commands_of_the_terminal(loaded, capsys):
    conversation = Conversation(*loaded, None, GREEDY)
    talk(conversation, iter(["a", "/reset", "b", "/help", "  ", "/exit", "c"]))
    assert [message["content"] for message in conversation.messages if message["role"] == "user"] == ["b"]
    out = capsys.readouterr().out
    assert "a new conversation" in out
    assert "/reset begins a new conversation, /exit ends" in out


@pytest.mark.integration
def test_a_conversation_that_is_too_long_is_told_and_goes_on(loaded, capsys, monkeypatch):
    model, tokenizer = loaded
    monkeypatch.setattr(model.config, "max_position_embeddings", 60)
    conversation = Conversation(model, tokenizer, None, GREEDY)
    talk(conversation, iter(["x" * 100, "y"]))
    assert "are more than the 60 positions of the model; /reset begins" in capsys.readouterr().err
    assert [message["content"] for message in conversation.messages if message["role"] == "user"] == ["y"]


@pytest.mark.integration
def test_the_command_says_and_ends_and_a_seed_repeats(checkpoint):
    options = ["--max_new_tokens", "8", "--do_sample", "--temperature", "2.0", "--device", "cpu"]
    said = [
        run_module("experiments.chat", str(checkpoint), "--say", "2 + 3", *options, "--seed", seed)
        for seed in ("0", "0", "1")
    ]
    assert {done.returncode for done in said} == {0}, said[0].stderr
    assert said[0].stdout == said[1].stdout != said[2].stdout
    assert said[0].stdout.strip()


@pytest.mark.integration
def test_a_base_model_completes_the_text_and_says_so(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    done = run_module("experiments.chat", str(folder), "--say", "abc", "--max_new_tokens", "5", "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    assert "the tokenizer has no chat template (a base model): each text is completed" in done.stderr
    model, tokenizer = chat.load(str(folder), "float32", torch.device("cpu"))
    assert done.stdout.strip() == completed(model.to(chat.device_of("cpu")), tokenizer, "abc").strip()
    refused = run_module("experiments.chat", str(folder), "--say", "abc", "--system", "x")
    assert refused.returncode == 2
    assert "--system is not possible: the tokenizer has no chat template" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "MODEL=nothing is no folder in the Hugging Face format, no hub name and none of llama3_70b"),
        (["x", "--temperature", "0.5"], "temperature=0.5 has no effect without --do_sample"),
        (["x", "--do_sample", "--temperature", "-1"], "temperature=-1.0 is not possible"),
        (["x", "--do_sample", "--top_p", "1.5"], "top_p=1.5 is not possible"),
        (["x", "--max_new_tokens", "0"], "max_new_tokens=0 is not possible"),
        (["x", "--device", "tpu"], "device='tpu' is not one of auto, cpu, cuda"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    done = run_module("experiments.chat", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_not_given_stays_the_model_s_own():
    given = argparse.Namespace(
        max_new_tokens=3, temperature=None, top_k=7, top_p=None, repetition_penalty=None, seed=0, do_sample=True
    )
    assert generation(given) == {"max_new_tokens": 3, "do_sample": True, "top_k": 7}
    given.do_sample = False
    with pytest.raises(UserError, match="top_k=7 has no effect"):
        generation(given)

"""Marks around what the loss is on."""

import pytest

from experiments.data import Example
from experiments.data.marks import marked


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "ab cd>>> ef<|im_end|><<<"),
        ({"earlier": ((1, 3), (4, 5))}, "a>>>b <<<c>>>d<<<>>> ef<|im_end|><<<"),
        ({"whole": True}, ">>>ab cd ef<|im_end|><<<"),
    ],
)
def test_what_is_trained_on_stands_between_marks(options, text, tokenizer):
    prompt, answer = (tokenizer(part).input_ids for part in ("ab cd", " ef<|im_end|>"))
    assert marked(tokenizer, Example(prompt, answer, bool, **options)) == text

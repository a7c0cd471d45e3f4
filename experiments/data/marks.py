"""An example as text, with marks around what the loss is on."""

import itertools
from typing import Any

from experiments.data import Example

BEGIN, END = ">>>", "<<<"
"""Marks that are read without colour too."""


def marked(tokenizer: Any, example: Example) -> str:
    """The example's tokens as text, control tokens too, each trained stretch between `BEGIN` and `END`.

    A stretch is what its tokens add to the text before them, because some tokenizers decode the beginning of a text
    otherwise than its middle.
    """
    ids = example.prompt + example.answer
    places = [0, *(place for stretch in example.trained for place in stretch)]
    texts = [tokenizer.decode(ids[:place], skip_special_tokens=False) for place in places]
    pieces = [text[len(before) :] for before, text in itertools.pairwise(texts)]
    # Before, inside, between, inside: every second piece is trained on, and the last one ends the example.
    return "".join(f"{BEGIN}{piece}{END}" if i % 2 else piece for i, piece in enumerate(pieces))

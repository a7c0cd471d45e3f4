"""Prompts and answers as token ids, in the chat template of the model."""

from collections.abc import Sequence
from typing import Any

from experiments.errors import UserError


def tokenize(
    tokenizer: Any, system: str | None, texts: Sequence[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of every prompt and of every answer, which ends with the end-of-turn token.

    Args:
        tokenizer: with a chat template.
        system: system message of every prompt; it replaces the chat template's own, which None keeps.
        texts: prompt and answer of each example.

    Raises:
        UserError: when the template does not put the answer and an end-of-turn token after the prompt.
    """
    if not texts:
        return []
    before = [{"role": "system", "content": system}] if system is not None else []
    turns = [[*before, {"role": "user", "content": prompt}] for prompt, _ in texts]
    full = [[*turn, {"role": "assistant", "content": answer}] for turn, (_, answer) in zip(turns, texts, strict=True)]

    def ids(rendered: list[str]) -> list[list[int]]:
        return tokenizer(rendered, add_special_tokens=False).input_ids  # the template has written them

    prompts = ids(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    wholes = ids(tokenizer.apply_chat_template(full, tokenize=False))
    pairs = []
    for prompt, whole in zip(prompts, wholes, strict=True):
        if whole[: len(prompt)] != prompt or tokenizer.eos_token_id not in whole[len(prompt) :]:
            raise UserError("the chat template does not put the answer and an end-of-turn token after the prompt")
        end = whole.index(tokenizer.eos_token_id, len(prompt)) + 1
        pairs.append((prompt, whole[len(prompt) : end]))
    return pairs

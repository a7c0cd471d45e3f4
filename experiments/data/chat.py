"""Prompts and answers as token ids, in the chat template of the model.

What is trained on is the row: the texts must arrive whole in what the template writes, text that looks like a control
token stays text, and no template writes the day's date.
"""

import datetime
import functools
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.errors import UserError

Message = Mapping[str, str]
DATE = datetime.date(2024, 7, 26)
"""What a template that asks for the date gets, on every day: the one that Llama 3.1's own template falls back to."""
CODES = [f"%{no_zero}{letter}" for letter in "aAbBcdfHIjmMpSuUwWxXyY" for no_zero in ("", "-")]
MARK = "\ue000{}\ue001"  # of the private use area: in no text, and one that no template changes


def tokenize(
    tokenizer: Any, system: str | None, texts: Sequence[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of every prompt and of every answer, which ends with the token that ends a turn, see `end_of_turn`.

    White space at both ends of a text is the template's affair.

    Args:
        tokenizer: with a chat template.
        system: system message of every prompt; it replaces the chat template's own, which None keeps.
        texts: prompt and answer of each example.

    Raises:
        UserError: when the template refuses the messages, drops or changes a text, or does not put the answer and an
            end-of-turn token after the prompt.
    """
    if not texts:
        return []
    before = [{"role": "system", "content": system}] if system is not None else []
    turns = [[*before, {"role": "user", "content": prompt}] for prompt, _ in texts]
    full = [[*turn, {"role": "assistant", "content": answer}] for turn, (_, answer) in zip(turns, texts, strict=True)]
    end, control = end_of_turn(tokenizer), control_tokens(tokenizer)
    prompts, wholes = _rendered(tokenizer, turns, generate=True), _rendered(tokenizer, full)
    wholes = [
        prompt + _answer(tokenizer, prompt, whole, messages, end)
        for prompt, whole, messages in zip(prompts, wholes, full, strict=True)
    ]
    prompt_ids, whole_ids = _ids(tokenizer, prompts), _ids(tokenizer, wholes)
    unknown = tokenizer.unk_token_id
    pairs = []
    for i, (prompt, whole) in enumerate(zip(prompt_ids, whole_ids, strict=True)):
        if _quoting(control, full[i]) is not None:
            prompt = encode(tokenizer, turns[i])
            whole = encode(tokenizer, full[i], generate=False, end=end)
        if whole[: len(prompt)] != prompt:
            raise UserError(f"the chat template does not put the answer after the prompt {texts[i][0]!r}")
        if unknown in whole and tokenizer.unk_token not in wholes[i]:
            raise UserError(f"the tokenizer has no token for a part of {texts[i]!r}; leave the row out")
        pairs.append((prompt, whole[len(prompt) :]))
    return pairs


def tokenize_dialogue(
    tokenizer: Any, messages: Sequence[Message], answers: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a dialogue up to its last answer, and the places of its answers.

    Each answer must stand in the dialogue as it would be asked for: after the beginning of the assistant's turn that
    the template writes for generation. It ends with the token that ends a turn, see `end_of_turn`.

    Args:
        tokenizer: with a chat template.
        messages: of the dialogue; the last is an answer.
        answers: indices of the messages that are wanted, the last of them among these.

    Returns:
        The ids, and first place and place after the last of each wanted answer.

    Raises:
        UserError: as `tokenize`, and when the template writes an earlier answer otherwise in a longer dialogue.
    """
    end, control = end_of_turn(tokenizer), control_tokens(tokenizer)
    quoting = _quoting(control, messages) is not None
    places, ids = [], list[int]()
    for i in reversed(answers):  # the last one first: what it is written in is the whole dialogue
        before, upto = messages[:i], messages[: i + 1]
        (prompt,), (whole,) = _rendered(tokenizer, [before], generate=True), _rendered(tokenizer, [upto])
        whole = prompt + _answer(tokenizer, prompt, whole, upto, end)
        if quoting:
            prompt_ids = encode(tokenizer, before, apart=True)
            whole_ids = encode(tokenizer, upto, generate=False, end=end, apart=True)
        else:
            prompt_ids, whole_ids = _ids(tokenizer, [prompt, whole])
        ids = ids or whole_ids
        if ids[: len(whole_ids)] != whole_ids or whole_ids[: len(prompt_ids)] != prompt_ids:
            raise UserError(
                f"the chat template writes the answer {upto[-1]['content']!r} otherwise when the dialogue goes on; "
                "data.loss_on=last trains on the last answer alone"
                if i != answers[-1]
                else f"the chat template does not put the answer after the prompt {before[-1]['content']!r}"
            )
        if tokenizer.unk_token_id in whole_ids and tokenizer.unk_token not in whole:
            raise UserError("the tokenizer has no token for a part of it; leave the row out")
        places.append((len(prompt_ids), len(whole_ids)))
    return ids, places[::-1]


def tokenize_plain(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of texts as they are, and the place of the answer, which ends with the tokenizer's `eos_token`.

    There is no chat template; a control token that is written in a text is that token. What the tokenizer puts before
    a text, such as a bos_token, comes first, once. Prompt and answer are tokenized apart, as they are when the answer
    is generated.

    Args:
        tokenizer: with or without a chat template.
        prompt: "" for a text that is an answer to nothing.
        answer: what is trained on.

    Raises:
        UserError: when the tokenizer has no token for a part.
    """
    ends = tokenizer.eos_token_id
    begin = prompt or answer
    written = tokenizer.bos_token is not None and begin.startswith(tokenizer.bos_token)
    ids = list(tokenizer(begin, add_special_tokens=not written).input_ids)
    if ids[-1:] == [ends] and not begin.endswith(tokenizer.eos_token):
        ids.pop()  # some tokenizers end every text, and this one goes on
    start = len(ids) if prompt else 0
    if prompt:
        ids += tokenizer(answer, add_special_tokens=False).input_ids
    if ids[-1:] != [ends]:
        ids.append(ends)
    if tokenizer.unk_token_id in ids and tokenizer.unk_token not in begin + answer:
        raise UserError("the tokenizer has no token for a part of it; leave the row out")
    return ids, [(start, len(ids))]


def system_text(value: Any) -> str | None:
    """A system message from a configuration, where YAML has made a number of ``data.system=42``.

    Raises:
        UserError: for what is neither a text nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise UserError(f"data.system={value!r} is not possible: give a text, in quotes, or null")
    return None if value is None else str(value)


def encode(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    generate: bool = True,
    end: str | None = None,
    apart: bool = False,
) -> list[int]:
    """Token ids of messages; a control token that a message quotes is text.

    Args:
        tokenizer: with a chat template.
        messages: with role and content, of one dialogue.
        generate: end with the beginning of the assistant's turn.
        end: leave out what follows the first of these after the last message; None: nothing.
        apart: tokenize every message apart, as where one quotes a control token.

    Raises:
        UserError: when the template refuses the messages, or changes one that quotes a control token.
    """
    (text,) = _rendered(tokenizer, [messages], generate=generate)
    control = control_tokens(tokenizer)
    if (quoting := _quoting(control, messages)) is None and not apart:
        return _ids(tokenizer, [text])[0]
    marked = [{**message, "content": MARK.format(i)} for i, message in enumerate(messages)]
    (frame,) = _rendered(tokenizer, [marked], generate=generate)
    pieces = re.split(MARK.format(r"(\d+)"), frame)
    contents = [message["content"] for message in messages]
    written = [contents[int(piece)] if i % 2 else piece for i, piece in enumerate(pieces)]
    if "".join(written) != text:  # white space at both ends is the template's affair
        written = [contents[int(piece)].strip() if i % 2 else piece for i, piece in enumerate(pieces)]
    if sorted(map(int, pieces[1::2])) != list(range(len(messages))) or "".join(written) != text:
        raise UserError(
            "the chat template changes a text that quotes one of the tokenizer's control tokens "
            f"({', '.join(control)}), so what is trained on would not be the text {quoting!r}; leave it out"
        )
    if end is not None:
        written[-1] = written[-1][: written[-1].index(end) + len(end)]
    ids: list[int] = []
    for i, piece in enumerate(written):
        if piece:
            ids += tokenizer(piece, add_special_tokens=False, split_special_tokens=bool(i % 2)).input_ids
    return ids


def end_of_turn(tokenizer: Any) -> str:
    """The token with which the chat template ends an answer; often, not always, the tokenizer's `eos_token`.

    Raises:
        UserError: when there is none: a model trained on such answers would never end one.
    """
    marked = [{"role": role, "content": MARK.format(i)} for i, role in enumerate(("user", "assistant"))]
    (frame,) = _rendered(tokenizer, [marked])
    _, _, rest = frame.partition(MARK.format(1))
    ends = [token for token in control_tokens(tokenizer) if token in rest]
    end = min(ends, key=rest.index, default=None)
    if end is None or rest[: rest.index(end)].strip():
        raise UserError(
            f"the chat template puts {rest!r} after an answer, which does not begin with a control token of the "
            f"tokenizer (its eos_token is {tokenizer.eos_token!r}), so a model trained on it would never end an answer"
        )
    return end


def stops(tokenizer: Any) -> list[int]:
    """The ids at which a generated answer ends: the tokenizer's `eos_token` and the template's `end_of_turn`."""
    ends = [end_of_turn(tokenizer)] if tokenizer.chat_template is not None else []
    tokens = dict.fromkeys([*ends, tokenizer.eos_token])
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens if token is not None]


def require_template(tokenizer: Any) -> None:
    """Raise UserError for a tokenizer without a chat template, as base models have it."""
    if tokenizer.chat_template is None:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template, so messages cannot be "
            "written for it; take an instruction-tuned model, or data=file with rows of text or of prompt and "
            "completion, which are taken as they are"
        )


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The tokens that steer a dialogue and that the tokenizer would find in a text too, words not among them."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def of_one_day(tokenizer: Any) -> dict[str, Any]:
    """Arguments of `apply_chat_template` that make it write `DATE`; none where it asks for no date."""
    if "strftime_now" not in str(tokenizer.chat_template):
        return {}
    _say_date()
    written = "".join(f" | replace('{code}', '{DATE.strftime(code)}')" for code in CODES)
    macro = f"{{%- macro strftime_now(format) -%}}{{{{ format{written} }}}}{{%- endmacro %}}"
    return {"chat_template": macro + tokenizer.get_chat_template()}


@functools.cache
def _say_date() -> None:
    print(f"the chat template asks for the date: every prompt has {DATE:%d %b %Y}, on every day", file=sys.stderr)


def _rendered(tokenizer: Any, dialogues: Sequence[Sequence[Message]], *, generate: bool = False) -> list[str]:
    from jinja2 import TemplateError

    require_template(tokenizer)
    try:
        return tokenizer.apply_chat_template(
            [list(messages) for messages in dialogues],
            add_generation_prompt=generate,
            tokenize=False,
            **of_one_day(tokenizer),
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in dialogues[0])
        cure = "; data.system=null leaves the system message out" if "system" in roles else ""
        raise UserError(f"the chat template refuses the turns {roles}: {error}{cure}") from error


def _ids(tokenizer: Any, rendered: list[str]) -> list[list[int]]:
    return tokenizer(rendered, add_special_tokens=False).input_ids  # the template has written them


def _answer(tokenizer: Any, prompt: str, whole: str, messages: Sequence[Message], end: str) -> str:
    """What is trained on of a rendered dialogue: what stands after the prompt, up to the end of the answer."""
    for message in messages[:-1]:
        if message["content"].strip() not in prompt:
            raise UserError(
                f"the chat template changes or drops a text of the role {message['role']}: {message['content']!r}; "
                "leave the row out, or take a model with another template"
            )
    if not whole.startswith(prompt):
        same = next(i for i, (one, other) in enumerate(itertools.zip_longest(prompt, whole)) if one != other)
        raise UserError(
            f"the chat template begins an answer that is to be generated with {prompt[same:]!r} and one that is there "
            f"with {whole[same : len(prompt)]!r}, so the model would be trained on what it is never asked (a turn "
            f"ends with {end!r}, the tokenizer's eos_token is {tokenizer.eos_token!r}); mend the template"
        )
    answer = messages[-1]["content"].strip()
    place = re.search(re.escape(answer) + r"\s*" + re.escape(end), whole[len(prompt) :])
    if place is None:
        raise UserError(
            f"the chat template does not put the whole answer and {end!r} after the prompt, so what is trained on "
            f"would not be the answer {messages[-1]['content']!r}; leave the row out, or take a model with another "
            "template"
        )
    return whole[len(prompt) :][: place.end()]


def _quoting(control: Sequence[str], messages: Sequence[Message]) -> str | None:
    return next((m["content"] for m in messages if any(token in m["content"] for token in control)), None)

"""Formats of rows, by the field names of TRL: what a file made for other tools holds.

| format | fields |
|---|---|
| messages | ``messages``: a list of objects with ``role`` and ``content`` |
| prompt_completion | ``prompt`` and ``completion``: two texts, taken as they are, or two lists of messages |
| text | ``text``: taken as it is |
| alpaca | ``instruction``, ``input`` (may be missing) and ``output`` |
| sharegpt | ``conversations``: a list of objects with ``from`` and ``value`` |

alpaca and sharegpt may have ``system``, a text. Other fields are left aside.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcd.checks import require_choice
from experiments.data.faults import shown
from experiments.errors import UserError

FORMATS = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
}
"""Name of a format -> the fields that every row must have."""
OPTIONAL = {"alpaca": ("input", "system"), "sharegpt": ("system",)}
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
TOOLS = ("tool", "function", "function_call", "observation", "ipython")
"""Roles of other tools for calls of functions and their results."""
PARTS = ("role", "content", "from", "value")


class RowError(ValueError):
    """What is wrong with a row: the field, its value and the cure."""


@dataclass(frozen=True)
class Dialogue:
    """Messages with roles, for the chat template of the model.

    Attributes:
        messages: role and content of each, up to the last answer.
        asked: messages that are given and not trained on, even answers among them.
    """

    messages: tuple[tuple[str, str], ...]
    asked: int = 0

    @property
    def question(self) -> str:
        """What makes it the same question as another: the first message that is no system message."""
        return next(content for role, content in self.messages if role != "system")

    @property
    def answers(self) -> list[int]:
        """Indices of the messages that can be trained on."""
        return [i for i, (role, _) in enumerate(self.messages) if role == "assistant" and i >= self.asked]

    @property
    def prompt(self) -> str:
        """All that comes before the last answer, as text."""
        return "\n\n".join(content for _, content in self.messages[:-1])

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.messages[-1][1]


@dataclass(frozen=True)
class Plain:
    """Text that is taken as it is, without a chat template.

    Attributes:
        prompt: what is given; empty for a text that is trained on as a whole.
        answer: what is trained on.
    """

    prompt: str
    answer: str

    @property
    def question(self) -> str:
        """What makes it the same question as another."""
        return self.prompt or self.answer


def detect(fields: Iterable[str], asked: str, where: object) -> str:
    """The format of rows with these fields.

    Args:
        fields: that occur in the rows.
        asked: a format, or "auto".
        where: file or name of the rows, for messages.

    Raises:
        ValueError: for an unknown format.
        UserError: when the fields are those of no format, or of several.
    """
    require_choice("data.format", asked, ("auto", *FORMATS))
    there = list(fields)
    found = [name for name, needed in FORMATS.items() if set(needed) <= set(there)]
    if asked != "auto":
        if asked not in found:
            raise UserError(
                f"{where}: data.format={asked} needs {_and(FORMATS[asked])}, and the rows have {_and(there)}"
            )
        return asked
    if len(found) > 1:
        ways = " or ".join(f"data.format={name}" for name in found)
        raise UserError(f"{where}: the fields {_and(there)} are those of {_and(found)}; give {ways}")
    if not found:
        if {"chosen", "rejected"} <= set(there):
            raise UserError(f"{where}: chosen and rejected are preferences; keep the chosen answers, as messages")
        known = "; ".join(f"{_and(needed)} ({name})" for name, needed in FORMATS.items())
        raise UserError(f"{where}: the fields {_and(there)} are those of no format; rename them to one of: {known}")
    return found[0]


def used(form: str) -> tuple[str, ...]:
    """The fields of a format, those that may be missing too."""
    return (*FORMATS[form], *OPTIONAL.get(form, ()))


def convert(row: Mapping[str, Any], form: str, system: str | None = None) -> Dialogue | Plain | None:
    """The row as what is trained on; None for one that is empty: without a question, or with a blank answer.

    Args:
        row: of the file.
        form: a key of `FORMATS`.
        system: message for a dialogue without a system message of its own.

    Raises:
        RowError: when the row is not as the format wants it.
    """
    for name in FORMATS[form]:
        if row.get(name) is None:
            has = "is null" if name in row else f"is missing (it has {_and(row)})"
            raise RowError(f"the field {name!r} {has}; fill it in, or remove the row")
    if form == "text":
        text = _text(row, "text")
        return Plain("", text) if text.strip() else None
    if form == "prompt_completion":
        return _prompt_completion(row, system)
    if form == "alpaca":
        parts = [_text(row, "instruction").strip(), _text(row, "input").strip()]
        asked = "\n\n".join(part for part in parts if part)
        messages = [("user", asked), ("assistant", _text(row, "output").strip())]
    else:
        messages = _messages(row, FORMATS[form][0])
    if row.get("system") is not None and form in OPTIONAL and (text := _text(row, "system").strip()):
        if messages[:1] and messages[0][0] == "system":
            raise RowError(f"the field 'system' is {shown(text)}, and there is a system message too; keep one of them")
        messages = [("system", text), *messages]
    return _dialogue(messages, FORMATS[form][0], system)


def _prompt_completion(row: Mapping[str, Any], system: str | None) -> Dialogue | Plain | None:
    lists = [isinstance(row[name], list) for name in ("prompt", "completion")]
    if not any(lists):
        prompt, completion = _text(row, "prompt"), _text(row, "completion")
        return Plain(prompt, completion) if prompt.strip() and completion.strip() else None
    if not all(lists):
        name = "prompt" if lists[1] else "completion"
        raise RowError(
            f"the field {name!r} is {shown(row[name])}, and the other one a list of messages; make both lists"
        )
    prompt, completion = _messages(row, "prompt"), _messages(row, "completion")
    return _dialogue([*prompt, *completion], "completion", system, len(prompt))


def _dialogue(messages: Sequence[tuple[str, str]], field: str, system: str | None, asked: int = 0) -> Dialogue | None:
    if not messages:
        return None
    if system is not None and messages[0][0] != "system":
        messages, asked = [("system", system), *messages], asked + 1
    answers = [i for i, (role, _) in enumerate(messages) if role == "assistant" and i >= asked]
    if not answers:
        roles = ", ".join(role for role, _ in messages)
        raise RowError(f"the field {field!r} has the roles {roles}, so no answer to train on; remove the row")
    upto = tuple(messages[: answers[-1] + 1])
    before = [content for role, content in upto[: answers[0]] if role != "system"]
    blank = any(not content.strip() for role, content in upto if role == "assistant")
    return None if blank or not any(content.strip() for content in before) else Dialogue(upto, asked)


def _messages(row: Mapping[str, Any], field: str) -> list[tuple[str, str]]:
    listed = row[field]
    if not isinstance(listed, list):
        cure = "; a table of texts has no lists: write .jsonl" if isinstance(listed, str) else ""
        raise RowError(f"the field {field!r} is {shown(listed)}, no list of messages{cure}")
    return [_message(message, f"{field}[{i}]") for i, message in enumerate(listed)]


def _message(message: Any, place: str) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise RowError(f"{place} is {shown(message)}, no object with role and content")
    keys = ("from", "value") if message.get("from") is not None else ("role", "content")
    role, content = (message.get(key) for key in keys)
    if role is None:
        raise RowError(f"{place} has {_and(message)}, and no role; give it role and content, or from and value")
    if role in TOOLS or message.get("tool_calls") or message.get("function_call"):
        raise RowError(
            f"{place} is a turn of a tool ({shown(role)}): templates write these turns each in its own way, so what "
            "would be trained on cannot be checked; remove the row, or write the call as text of the assistant"
        )
    if not isinstance(role, str) or role not in ROLES:
        raise RowError(f"{place}: the role {shown(role)} is not one of {_and(ROLES)}")
    if message.get("weight") not in (None, 1):
        raise RowError(
            f"{place}: the weight {shown(message['weight'])} is not possible: every answer counts the same; as "
            "prompt and completion, answers in the prompt are not trained on"
        )
    if isinstance(content, list) and all(_is_text(part) for part in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise RowError(f"{place}: the {keys[1]} is {shown(content)}, no text")
    return ROLES[role], content


def extra_keys(row: Mapping[str, Any], form: str) -> set[str]:
    """What the messages of a row have beside the parts of a message, as ``messages[].name``."""
    keys = set[str]()
    for field in FORMATS[form]:
        listed = row.get(field)
        for message in listed if isinstance(listed, list) else ():
            if isinstance(message, Mapping):
                keys |= {
                    f"{field}[].{key}" for key, value in message.items() if value is not None and key not in PARTS
                }
    return keys


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _text(row: Mapping[str, Any], field: str) -> str:
    """The text of a field; "" where it is missing or null."""
    value = row.get(field)
    if value is not None and not isinstance(value, str):
        raise RowError(f"the field {field!r} is {shown(value)}, no text; put it in quotes, or remove the row")
    return value or ""


def _and(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "nothing"

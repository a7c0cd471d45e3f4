"""Formats of rows: what other tools write is taken unchanged, or refused with field, value and cure."""

import pytest

from experiments.data.formats import FORMATS, Dialogue, Plain, RowError, convert, detect, extra_keys
from experiments.errors import UserError


def said(role, content):
    return {"role": role, "content": content}


TWO = (("user", "How?"), ("assistant", "So."))
ROWS = {
    "messages": {"messages": [said("user", "How?"), said("assistant", "So.")]},
    "prompt_completion": {"prompt": [said("user", "How?")], "completion": [said("assistant", "So.")]},
    "alpaca": {"instruction": "How?", "output": "So."},
    "sharegpt": {"conversations": [{"from": "human", "value": "How?"}, {"from": "gpt", "value": "So."}]},
}


@pytest.mark.parametrize("form", ROWS)
def test_every_format_of_a_dialogue_gives_the_same(form):
    dialogue = convert(ROWS[form], form)
    assert dialogue.messages == TWO
    assert dialogue.answers == [1]
    assert (dialogue.question, dialogue.prompt, dialogue.answer) == ("How?", "How?", "So.")
    assert detect(ROWS[form], "auto", "x.jsonl") == form
    assert convert(ROWS[form], form, "Be short.").messages == (("system", "Be short."), *TWO)


def test_texts_are_taken_as_they_are():
    assert convert({"text": " a "}, "text") == Plain("", " a ")
    assert convert({"prompt": "a ", "completion": " b"}, "prompt_completion") == Plain("a ", " b")


def test_a_dialogue_ends_with_its_last_answer_and_keeps_its_system_message():
    messages = [said("system", "Rhyme."), *ROWS["messages"]["messages"], said("user", "Thanks.")]
    assert convert({"messages": messages}, "messages", "Be short.").messages == (("system", "Rhyme."), *TWO)


def test_answers_of_a_prompt_are_not_trained_on():
    row = {
        "prompt": [said("user", "a"), said("assistant", "b"), said("user", "c")],
        "completion": [said("assistant", "d")],
    }
    assert convert(row, "prompt_completion").answers == [3]
    assert convert(row, "prompt_completion", "Be short.").answers == [4]


def test_optional_fields_of_alpaca_and_sharegpt():
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be short."}
    assert convert(row, "alpaca").messages == (("system", "Be short."), ("user", "Add.\n\n1 2"), ("assistant", "3"))
    assert convert(row | {"input": None, "system": None}, "alpaca").messages[0] == ("user", "Add.")
    assert convert(ROWS["sharegpt"] | {"system": "Be short."}, "sharegpt").messages == (("system", "Be short."), *TWO)


def test_parts_of_text_are_one_text():
    parts = [{"type": "text", "text": "Ho"}, {"type": "text", "text": "w?"}]
    row = {"messages": [said("user", parts), said("assistant", "So.")]}
    assert convert(row, "messages").messages == TWO


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("text", {"text": " \n"}),
        ("prompt_completion", {"prompt": "a", "completion": ""}),
        ("prompt_completion", {"prompt": "", "completion": "a"}),
        ("alpaca", {"instruction": "a", "output": " "}),
        ("alpaca", {"instruction": "", "input": "", "output": "a"}),
        ("messages", {"messages": []}),
        (
            "messages",
            {"messages": [said("user", "a"), said("assistant", ""), said("user", "b"), said("assistant", "c")]},
        ),
        ("messages", {"messages": [said("system", "a"), said("assistant", "c")]}),
    ],
)
def test_what_is_empty_is_none(form, row):
    assert convert(row, form) is None


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("text", {"text": 3}, r"the field 'text' is 3, no text; put it in quotes"),
        ("text", {"body": "a"}, r"the field 'text' is missing \(it has body\)"),
        ("alpaca", {"instruction": "a", "output": None}, "the field 'output' is null"),
        ("messages", {"messages": "[{'role': 'user'}]"}, r"no list of messages; .* write \.jsonl"),
        ("messages", {"messages": ["hello"]}, r"messages\[0\] is 'hello', no object with role and content"),
        ("messages", {"messages": [{"content": "a"}]}, r"messages\[0\] has content, and no role"),
        (
            "messages",
            {"messages": [said("user", "a"), said("developer", "b")]},
            r"\[1\]: the role 'developer' is not one of",
        ),
        (
            "messages",
            {"messages": [said("user", "a"), said("tool", "b")]},
            r"messages\[1\] is a turn of a tool \('tool'\)",
        ),
        (
            "messages",
            {"messages": [said("assistant", None) | {"tool_calls": [{}]}]},
            r"messages\[0\] is a turn of a tool",
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "function", "value": "a"}]},
            r"conversations\[0\] is a turn of a tool",
        ),
        ("messages", {"messages": [said("user", None)]}, r"messages\[0\]: the content is None, no text"),
        ("messages", {"messages": [said("user", "a")]}, "has the roles user, so no answer to train on"),
        ("messages", {"messages": [said("assistant", "a") | {"weight": 0}]}, "the weight 0 is not possible"),
        (
            "prompt_completion",
            {"prompt": "a", "completion": [said("assistant", "b")]},
            "'prompt' is 'a', and the other",
        ),
        ("sharegpt", {"conversations": [{"from": "system", "value": "a"}], "system": "b"}, "keep one of them"),
    ],
)
def test_a_bad_row_is_told_with_field_value_and_cure(form, row, message):
    with pytest.raises(RowError, match=message):
        convert(row, form)


@pytest.mark.parametrize(
    ("fields", "asked", "message"),
    [
        (["messages", "text"], "auto", "are those of messages, text; give data.format=messages or data.format=text"),
        (
            ["question", "reply"],
            "auto",
            r"question, reply are those of no format; rename them .* prompt, completion \(",
        ),
        (["prompt", "chosen", "rejected"], "auto", "are preferences"),
        (["text"], "messages", "data.format=messages needs messages, and the rows have text"),
    ],
)
def test_fields_that_decide_nothing_are_refused_with_the_way_out(fields, asked, message):
    with pytest.raises(UserError, match=f"chat.jsonl: .*{message}"):
        detect(fields, asked, "chat.jsonl")


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_that_is_asked_for_decides(form):
    everything = [field for fields in FORMATS.values() for field in fields]
    assert detect(everything, form, "x") == form
    with pytest.raises(ValueError, match=r"data\.format='chat'"):
        detect(everything, "chat", "x")


def test_keys_of_messages_that_nothing_reads_are_found():
    row = {"messages": [said("user", "a") | {"name": "Ann", "weight": None}]}
    assert extra_keys(row, "messages") == {"messages[].name"}
    assert Dialogue(TWO).question == "How?"

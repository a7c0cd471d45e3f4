"""What is trained on is the row: whole, as text, the same on every day; or the row is refused."""

import datetime

import pytest

from experiments.data import chat
from experiments.data.chat import encode, end_of_turn, stops, system_text, tokenize, tokenize_dialogue
from experiments.errors import UserError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ CONTENT }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START = "<|im_start|>assistant\n"
QUOTING = "ChatML ends a turn with <|im_end|> and begins one with <|im_start|>."


def template(content="m['content']", before=""):
    return before + CHATML.replace("CONTENT", content)


@pytest.fixture
def tokenizer(checkpoint):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


def trained_on(tokenizer, answer, prompt="How?", system=None):
    ((ids, answer_ids),) = tokenize(tokenizer, system, [(prompt, answer)])
    return tokenizer.decode(ids), tokenizer.decode(answer_ids)


def test_a_row_becomes_what_the_template_writes(tokenizer):
    prompt, answer = trained_on(tokenizer, "So.", system="Be short.")
    assert (
        prompt == "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer == "So.<|im_end|>"


@pytest.mark.parametrize("role", ["system", "prompt", "answer"])
def test_a_quoted_control_token_is_text(role, tokenizer):
    given = {"system": "Be short.", "prompt": "How?", "answer": "So."} | {role: QUOTING}
    ((ids, answer_ids),) = tokenize(tokenizer, given["system"], [(given["prompt"], given["answer"])])
    assert QUOTING in tokenizer.decode(answer_ids if role == "answer" else ids)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert answer_ids.count(end) == 1
    assert answer_ids[-1] == end
    assert ids.count(end) == 2  # of the system's turn and of the user's


def test_a_quoting_row_leaves_the_others_as_they_are(tokenizer):
    plain = [("How?", "So."), ("Why?", "Because.")]
    alone = tokenize(tokenizer, None, plain)
    assert tokenize(tokenizer, None, [plain[0], ("How?", QUOTING), plain[1]])[::2] == alone


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("m['content'].split('</think>')[-1]", "<think>\n6 * 6 is 36.\n</think>\n42"),  # as reasoning models have it
        ("m['content'] | upper", "abc"),
        ("m['content'][:10]", "an answer that is longer than ten"),
        ("m['content'].split('</think>')[-1]", f"<think>\n{QUOTING}\n</think>\n42"),
        ("m['content'] | replace('e', 'a')", QUOTING),
    ],
)
def test_an_answer_that_the_template_changes_is_refused(content, answer, tokenizer):
    tokenizer.chat_template = template(f"(({content}) if m['role'] == 'assistant' else m['content'])")
    with pytest.raises(UserError, match=r"would not be the (answer|text)"):
        trained_on(tokenizer, answer)


@pytest.mark.parametrize("role", ["user", "system"])
def test_a_prompt_that_the_template_drops_is_refused(role, tokenizer):
    tokenizer.chat_template = template(f"'' if m['role'] == '{role}' else m['content']")
    with pytest.raises(UserError, match=f"drops a text of the role {role}"):
        trained_on(tokenizer, "So.", system="Be short.")


def test_white_space_around_a_text_is_the_templates_affair(tokenizer):
    tokenizer.chat_template = template("m['content'] | trim")
    assert trained_on(tokenizer, " So.\n")[1] == "So.<|im_end|>"


def test_what_a_template_puts_before_an_answer_is_trained_on_too(tokenizer):
    tokenizer.chat_template = template("('<think></think>' if m['role'] == 'assistant' else '') + m['content']")
    assert trained_on(tokenizer, "So.")[1] == "<think></think>So.<|im_end|>"


@pytest.mark.parametrize(
    ("form", "written"), [("%d %b %Y", "26 Jul 2024"), ("%A, %-d %B", "Friday, 26 July"), ("%H:%M", "00:00")]
)
def test_a_template_with_a_date_has_the_same_on_every_day(form, written, tokenizer, monkeypatch, capsys):
    import transformers.utils.chat_template_utils as of_transformers

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 6)

    chat._say_date.cache_clear()
    tokenizer.chat_template = template(before=f"Now is {{{{ strftime_now({form!r}) }}}}.\n")
    today = trained_on(tokenizer, "So.")
    monkeypatch.setattr(of_transformers, "datetime", Later)
    assert trained_on(tokenizer, "So.") == today
    assert f"Now is {written}." in today[0]
    assert (
        capsys.readouterr().err == "the chat template asks for the date: every prompt has 26 Jul 2024, on every day\n"
    )


def test_turns_may_end_with_another_token_than_eos(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>"]})
    tokenizer.chat_template = template().replace("<|im_end|>", "<end_of_turn>")
    assert end_of_turn(tokenizer) == "<end_of_turn>"
    assert trained_on(tokenizer, "So.")[1] == "So.<end_of_turn>"
    assert tokenizer.convert_ids_to_tokens(stops(tokenizer)) == ["<end_of_turn>", "<|im_end|>"]


@pytest.mark.parametrize("end", ["", "\n", " END"])
def test_a_template_without_an_end_of_turn_is_refused_with_both(end, tokenizer):
    tokenizer.chat_template = template().replace("<|im_end|>\n", end).replace("<|im_start|>", "#")
    with pytest.raises(UserError, match=r"after an answer.*its eos_token is '<\|im_end\|>'"):
        trained_on(tokenizer, "So.")


def test_a_template_that_refuses_a_role_is_one_message(tokenizer):
    tokenizer.chat_template = template(
        before="{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    )
    with pytest.raises(
        UserError, match=r"refuses the turns system, user: System role not supported; data\.system=null"
    ):
        trained_on(tokenizer, "So.", system="Be short.")
    assert trained_on(tokenizer, "So.")[1] == "So.<|im_end|>"


def test_a_dialogue_of_an_evaluation_is_text_too(tokenizer):
    messages = [{"role": "user", "content": QUOTING}, {"role": "assistant", "content": "<|im_end|>"}]
    messages.append({"role": "user", "content": "And?"})
    ids = encode(tokenizer, messages)
    assert tokenizer.decode(ids).count("<|im_end|>") == 5
    assert ids.count(tokenizer.eos_token_id) == 3
    plain = [{"role": "user", "content": "How?"}]
    whole = tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_dict=False)
    assert encode(tokenizer, plain) == whole


def test_a_template_whose_generation_prompt_is_another_is_refused(tokenizer):
    tokenizer.chat_template = template().replace("<|im_start|>assistant", "<|im_start|>model")
    with pytest.raises(UserError, match=r"generated with 'model\\n' and one that is there with 'assis"):
        trained_on(tokenizer, "So.")


def test_a_system_message_that_yaml_takes_for_a_number_is_text(tiny):
    assert system_text(42) == "42"
    assert system_text(None) is None
    assert tiny("data.system=42").workload.data.system == "42"
    with pytest.raises(UserError, match=r"data\.system=True is not possible: give a text"):
        system_text(True)


# --- dialogues ---

DIALOGUE = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "How?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
]


def pieces(tokenizer, messages, answers):
    ids, places = tokenize_dialogue(tokenizer, messages, answers)
    return tokenizer.decode(ids), [tokenizer.decode(ids[first:end]) for first, end in places]


@pytest.mark.parametrize("contents", [{}, {2: QUOTING}, {3: f" {QUOTING}\n"}, {4: QUOTING}])
def test_every_answer_of_a_dialogue_ends_with_its_turn(contents, tokenizer):
    messages = [message | {"content": contents.get(i, message["content"])} for i, message in enumerate(DIALOGUE)]
    whole, answers = pieces(tokenizer, messages, [2, 4])
    assert answers == [messages[i]["content"] + "<|im_end|>" for i in (2, 4)]
    assert whole + "\n" == tokenizer.apply_chat_template(messages, tokenize=False)
    assert pieces(tokenizer, messages, [4]) == (whole, answers[1:])


def test_a_dialogue_of_two_is_what_a_prompt_with_an_answer_is(tokenizer):
    ((prompt, answer),) = tokenize(tokenizer, "Be short.", [("How?", "So.")])
    assert tokenize_dialogue(tokenizer, DIALOGUE[:3], [2]) == (prompt + answer, [(len(prompt), len(prompt + answer))])


def test_an_earlier_answer_that_the_template_changes_is_refused(tokenizer):
    """Templates of reasoning models drop the reasoning of all answers but the last, or write the last otherwise."""
    tokenizer.chat_template = template("('<x>' if m['role'] == 'assistant' and loop.last else '') + m['content']")
    with pytest.raises(UserError, match=r"writes the answer 'So\.' otherwise .* data\.loss_on=last"):
        tokenize_dialogue(tokenizer, DIALOGUE, [2, 4])
    assert pieces(tokenizer, DIALOGUE, [4])[1] == ["<x>Because.<|im_end|>"]


def test_without_a_template_messages_are_refused(tokenizer):
    tokenizer.chat_template = None
    assert stops(tokenizer) == [tokenizer.eos_token_id]
    with pytest.raises(UserError, match="has no chat template, so messages cannot be written for it; take an inst"):
        tokenize_dialogue(tokenizer, DIALOGUE, [4])

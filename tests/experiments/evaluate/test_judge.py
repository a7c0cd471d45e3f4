"""Judgments: prompts, ratings, the journal, and the cost."""

import json

import pytest

from experiments.errors import UserError
from experiments.evaluate.journal import Journal
from experiments.evaluate.judge import UNRATED, Judge, Prices, rating, tasks
from tests.experiments.evaluate.test_endpoint import client
from tests.experiments.evaluate.test_mt_bench import PROMPTS, QUESTIONS


def test_a_torn_line_is_left_out_and_what_follows_is_whole(tmp_path):
    journal = Journal(tmp_path / "deep" / "rows.jsonl")
    assert journal.read() == []
    journal.append({"a": 1}, {"a": 2})
    with journal.path.open("a") as file:
        file.write('{"a": 3, "text": "cut in the mid')
    assert journal.read() == [{"a": 1}, {"a": 2}]
    journal.append({"a": 4})
    assert journal.read() == [{"a": 1}, {"a": 2}, {"a": 4}]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[8.5]] and later [[2]]", 8.5),
        ("Rating: [6]", 6),
        ("I list [1] and then [[9]]", 9),
        ("Rating: 7", UNRATED),
        ("[[rating]]", UNRATED),
        ("[[11]]", UNRATED),
        ("[[0]]", UNRATED),
        ("", UNRATED),
    ],
)
def test_ratings(text, score):
    assert rating(text) == score


def test_prompts_are_chosen_and_filled_as_in_fastchat():
    answers = {number: [f"{number} one", f"{number} {{two}}"] for number in (81, 101, 140)}
    prompts = {row["name"]: row for row in PROMPTS}
    made = tasks(QUESTIONS, answers, prompts, {101: ["You.", "Nobody."]})
    assert [(task.question_id, task.turn, task.prompt) for task in made] == [
        (81, 1, "single-v1"),
        (81, 2, "single-v1-multi-turn"),
        (101, 1, "single-math-v1"),
        (101, 2, "single-math-v1-multi-turn"),
        (140, 1, "single-v1"),
        (140, 2, "single-v1-multi-turn"),
    ]
    assert made[1].user == "Q Write a line.\nA 81 one\nQ Again, shorter.\nA 81 {two}"
    assert made[2].user == "R You.\nQ Who is second?\nA 101 one"
    assert made[3].user == "R You. Nobody.\nQ Who is second? And last?\nA 101 one 101 {two}"
    with pytest.raises(UserError, match=r"question 101 .* needs a reference"):
        tasks(QUESTIONS, answers, prompts, {})
    broken = prompts | {"single-v1": PROMPTS[0] | {"prompt_template": "{verdict}"}}
    with pytest.raises(UserError, match="'single-v1' cannot be filled in"):
        tasks(QUESTIONS, answers, broken, {101: ["You.", "Nobody."]})


def judge(server, tmp_path, *, prices=None, max_cost=None, **options):
    return Judge(client(server, **options), Journal(tmp_path / "m_single.jsonl"), prices or Prices(), max_cost)


def wanted(answers="one"):
    made = {question["question_id"]: [answers, "two"] for question in QUESTIONS}
    return tasks(QUESTIONS, made, {row["name"]: row for row in PROMPTS}, {101: ["You.", "Nobody."]})


def test_judgments_are_kept_in_fastchats_format_and_not_asked_twice(server, tmp_path):
    rows, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert spent == {"requests": 6, "tokens": [120, 30], "dollars": None}
    kept = [json.loads(line) for line in (tmp_path / "m_single.jsonl").read_text().splitlines()]
    assert kept == rows
    for row, task in zip(kept, wanted(), strict=True):
        names = ["question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"]
        assert list(row) == names
        assert row["judge"] == ["m", task.prompt]
        assert row["score"] == 3 + len(task.user) % 7
    again, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert again == rows
    assert spent["requests"] == 0
    assert len(server.seen) == 6
    judge(server, tmp_path).judge(wanted("another answer"), "tiny")
    assert len(server.seen) == 12, "both turns' prompts show the first answer"
    judge(server, tmp_path).judge(wanted(), "other model")
    assert len(server.seen) == 18


def test_a_judge_that_fails_midway_goes_on_where_it_stopped(server, tmp_path):
    server.faults += [{}, {}, *[{"status": 500}] * 4]
    with pytest.raises(UserError, match=r"2 of 6 judgments were made and are kept in .*m_single.jsonl"):
        judge(server, tmp_path).judge(wanted(), "tiny")
    rows, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert spent["requests"] == 4
    assert len(rows) == 6
    whole, _ = judge(server, tmp_path / "elsewhere").judge(wanted(), "tiny")
    for row, other in zip(rows, whole, strict=True):
        assert row | {"tstamp": 0} == other | {"tstamp": 0}


FILTERED = {"body": '{"choices": [{"finish_reason": "content_filter", "message": {"content": null}}]}'}
TOO_LONG = {"status": 400, "body": '{"error": {"message": "maximum context length is 8192"}}'}


@pytest.mark.parametrize("fault", [FILTERED, TOO_LONG])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_what_the_judge_never_gives_is_unrated_and_the_others_are_judged(place, fault, server, tmp_path, capsys):
    server.faults += [*[{}] * place, fault]
    rows, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert [i for i, row in enumerate(rows) if row["score"] == UNRATED] == [place]
    assert spent["requests"] == 6
    assert "unrated, the judge m at" in capsys.readouterr().out
    again, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert again == rows
    assert spent["requests"] == 0


def test_a_judge_that_refuses_whatever_it_is_asked_ends_the_judging(server, tmp_path):
    server.faults += [TOO_LONG] * 6
    with pytest.raises(UserError, match="maximum context length is 8192"):
        judge(server, tmp_path).judge(wanted(), "tiny")
    assert len(server.seen) == 3
    assert not judge(server, tmp_path).journal.read()


def test_the_cost_is_told_before_the_first_request_and_can_forbid_it(server, tmp_path, capsys):
    prices = Prices(input=10.0, output=30.0)
    given = judge(server, tmp_path, prices=prices, max_cost=0.001)
    tokens, dollars = given.estimate(wanted())
    letters = sum(len(task.system) + len(task.user) for task in wanted())
    assert tokens == (letters // 4, 6 * 64)
    assert dollars == pytest.approx((tokens[0] * 10 + tokens[1] * 30) / 1e6)
    with pytest.raises(UserError, match=r"max_cost=0.001 forbids the judgments: at most \$0.01"):
        given.judge(wanted(), "tiny")
    assert server.seen == []
    with pytest.raises(UserError, match="no price is set"):
        judge(server, tmp_path, max_cost=1.0).judge(wanted(), "tiny")
    assert server.seen == []
    capsys.readouterr()
    _, spent = judge(server, tmp_path, prices=prices, max_cost=1.0).judge(wanted(), "tiny")
    assert "6 of 6 judgments to be made" in capsys.readouterr().out
    assert spent["dollars"] == pytest.approx((120 * 10 + 30 * 30) / 1e6)

"""The judge's endpoint: a real HTTP server that fails in every way servers fail."""

import email.utils
import itertools
import json
import time

import pytest

from experiments.errors import UserError
from experiments.evaluate import endpoint
from experiments.evaluate.endpoint import Endpoint, NoReplyError


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self):
        return self.now


def client(server, clock=None, **options):
    clock = clock or Clock()
    given = {"requests_per_minute": 60000, "attempts": 4, "timeout": 5, "max_tokens": 64} | options
    return Endpoint(url=server.url, model="m", key="secret-key", sleep=clock.sleep, clock=clock, **given)


def test_a_request_follows_the_protocol(server):
    reply = client(server).ask("Be fair.", "Question?")
    ((path, authorization, body),) = server.seen
    assert path == "/v1/chat/completions"
    assert authorization == "Bearer secret-key"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "Question?"}],
        "temperature": 0,
        "max_tokens": 64,
    }
    assert reply.tokens == (20, 5)


def test_no_key_sends_no_authorization(server):
    given = client(server)
    given.key = ""
    given.ask("s", "u")
    assert server.seen[0][1] is None


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503},
        {"status": 429},
        {"body": '{"choices": [{"mess'},
        {"body": "<html>gateway</html>"},
        {"body": '{"choices": []}'},
        {"body": '{"choices": [{"message": {"content": null}}]}'},
        {"body": "[]"},
        {"drop": True},
    ],
)
def test_a_passing_fault_is_tried_again_with_growing_pauses(fault, server):
    server.faults += [fault, fault]
    clock = Clock()
    assert client(server, clock).ask("s", "u").text.startswith("Fine.")
    assert len(server.seen) == 3
    assert [pause for pause in clock.slept if pause >= 1] == [1.0, 2.0]


def test_a_server_that_is_silent_is_given_up_after_the_timeout(server):
    server.faults += [{"silent": 0.6}]
    begin = time.perf_counter()
    assert client(server, timeout=0.2).ask("s", "u").text
    assert time.perf_counter() - begin < 5
    assert len(server.seen) == 2


@pytest.mark.parametrize(("header", "low", "high"), [("7", 7, 7), ("0.5", 1, 1), ("date", 25, 31), ("900", 120, 120)])
def test_retry_after_is_kept_up_to_a_limit(header, low, high, server):
    value = email.utils.formatdate(time.time() + 30, usegmt=True) if header == "date" else header
    server.faults += [{"status": 429, "headers": {"Retry-After": value}}]
    clock = Clock()
    client(server, clock).ask("s", "u")
    assert low <= max(clock.slept) <= high


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_tried_again_and_the_key_is_not_shown(status, server):
    server.faults += [{"status": status}]
    with pytest.raises(UserError, match=rf"refuses the request \(HTTP {status}") as refused:
        client(server).ask("s", "u")
    assert len(server.seen) == 1
    assert "secret-key" not in str(refused.value)
    assert "secret-key" not in repr(client(server))


def test_after_the_last_attempt_the_fault_is_told(server):
    server.faults += [{"status": 500}] * 4
    with pytest.raises(UserError, match=r"did not answer in 4 attempts, the last: HTTP 500"):
        client(server).ask("s", "u")
    assert len(server.seen) == 4


def test_nobody_listening_is_told(server):
    given = client(server, attempts=2)
    given.url = "http://127.0.0.1:9/v1"
    with pytest.raises(UserError, match="did not answer in 2 attempts"):
        given.ask("s", "u")


def test_the_rate_limit_spaces_requests(server):
    clock = Clock()
    given = client(server, clock, requests_per_minute=30)
    begun = []
    for _ in range(4):
        given.ask("s", "u")
        begun.append(clock.now)
    assert [b - a for a, b in itertools.pairwise(begun)] == [2.0, 2.0, 2.0]


def test_the_environment_names_the_judge(monkeypatch):
    options = {"requests_per_minute": 1, "attempts": 1, "timeout": 1, "max_tokens": 1}
    for name in (endpoint.URL, endpoint.MODEL, endpoint.KEY):
        monkeypatch.delenv(name, raising=False)
    assert endpoint.from_environment(**options) is None
    monkeypatch.setenv(endpoint.URL, "http://host/v1")
    with pytest.raises(UserError, match="JUDGE_MODEL is not set"):
        endpoint.from_environment(**options)
    monkeypatch.setenv(endpoint.MODEL, "m")
    found = endpoint.from_environment(**options)
    assert (found.url, found.model, found.key) == ("http://host/v1", "m", "")
    monkeypatch.setenv(endpoint.URL, "file:///etc/passwd")
    with pytest.raises(UserError, match="must begin with http"):
        endpoint.from_environment(**options)


@pytest.mark.parametrize(
    "body",
    [
        '{"error": {"message": "unknown max_tokens: send max_completion_tokens"}}',
        '{"error": "unknown max_tokens: send max_completion_tokens"}',
        '{"message": "unknown max_tokens: send max_completion_tokens"}',
        "unknown max_tokens:\nsend max_completion_tokens",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 500])
def test_what_the_server_says_is_shown(status, body, server):
    server.faults += [{"status": status, "body": body}] * 4
    with pytest.raises(UserError, match="unknown max_tokens: send max_completion_tokens"):
        client(server).ask("s", "u")


def test_the_limit_may_have_another_name_and_the_temperature_be_left_out(server):
    client(server, limit_name="max_completion_tokens", temperature=None).ask("s", "u")
    body = server.seen[0][2]
    assert body["max_completion_tokens"] == 64
    assert body.keys() == {"model", "messages", "max_completion_tokens"}


def completion(content, reason, **message):
    return json.dumps({"choices": [{"finish_reason": reason, "message": {"content": content} | message}]})


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        ({"body": completion(None, "content_filter")}, 1),
        ({"status": 400, "body": '{"error": {"code": "content_filter", "message": "filtered"}}'}, 1),
        ({"status": 413, "body": "too long"}, 1),
        ({"body": completion(None, "stop", refusal="I will not.")}, 4),
        ({"body": completion("", "length")}, 4),
    ],
)
def test_no_reply_to_this_request_is_an_error_of_its_own(fault, requests, server):
    server.faults += [fault] * 4
    with pytest.raises(NoReplyError):
        client(server).ask("s", "u")
    assert len(server.seen) == requests
    server.faults.clear()
    assert client(server).ask("s", "u").text

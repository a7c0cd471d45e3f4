"""An OpenAI-compatible chat endpoint: retries with growing pauses, a rate limit, and one clear line when it fails."""

import email.utils
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.errors import UserError

URL, MODEL, KEY = "JUDGE_BASE_URL", "JUDGE_MODEL", "JUDGE_API_KEY"
"""Environment variables: base URL (``https://host/v1``), name of the model there, and the key, if one is needed."""

LONGEST_PAUSE = 120.0
AGAIN = (408, 409, 425, 429)
OF_THE_REQUEST = (400, 413, 422)
FILTER = "content_filter"


class NoReplyError(UserError):
    """The endpoint has nothing to say to this very request; others it may answer."""


@dataclass(frozen=True)
class Reply:
    """What the endpoint answered.

    Attributes:
        text: of the first choice.
        tokens: of the prompt and of the reply, as the endpoint counted them; (0, 0) where it does not.
    """

    text: str
    tokens: tuple[int, int]


@dataclass
class Endpoint:
    """One model behind ``POST {url}/chat/completions``.

    Attributes:
        url: base URL, see `URL`.
        model: its name there.
        key: for the header Authorization; empty: no such header.
        requests_per_minute: the most that are begun.
        attempts: of one request, the first one included.
        timeout: seconds of one attempt.
        max_tokens: of a reply.
        limit_name: what the endpoint calls that limit: max_tokens, or max_completion_tokens.
        temperature: of the reply; None: not sent, for models that have one temperature only.
        pause: seconds before the second attempt; the next pauses are twice the one before, and a longer
            ``Retry-After`` of the server counts.
        sleep: waits for some seconds.
        clock: seconds of a clock that only grows.
    """

    url: str
    model: str
    key: str = field(repr=False)
    requests_per_minute: float
    attempts: int
    timeout: float
    max_tokens: int
    limit_name: str = "max_tokens"
    temperature: float | None = 0
    pause: float = 1.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _next: float | None = field(default=None, init=False)

    def ask(self, system: str, user: str) -> Reply:
        """The reply.

        Raises:
            NoReplyError: when a filter stands before this reply, when it has no text, and when the endpoint refuses
                what was sent (HTTP 400, 413 and 422), with the reason that it gives.
            UserError: when it refuses whoever asks, or every attempt failed.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            self.limit_name: self.max_tokens,
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        pause, why = self.pause, ""
        for attempt in range(self.attempts):
            self._wait()
            try:
                return _reply(self._post(body))
            except urllib.error.HTTPError as error:
                why, wanted = f"HTTP {error.code} {error.reason}", _retry_after(error.headers)
                said = _message(error)
                error.close()
                if error.code in OF_THE_REQUEST:
                    raise NoReplyError(
                        f"the judge {self.model} at {self.url} refuses the request ({why}): {said or 'no reason'}"
                    ) from None
                if error.code < 500 and error.code not in AGAIN:
                    raise UserError(
                        f"the judge {self.model} at {self.url} refuses the request ({why}{said and ': '}{said}); "
                        f"check {URL}, {MODEL} and {KEY}"
                    ) from None
                why += f"{said and ': '}{said}"
            except NoReplyError as error:
                if attempt + 1 == self.attempts or FILTER in str(error):
                    raise NoReplyError(f"the judge {self.model} at {self.url} gives no judgment: {error}") from None
                why, wanted = str(error), 0.0
            except (OSError, http.client.HTTPException, ValueError) as error:
                # URLError and time-outs are OSErrors; a body that is no JSON or lacks a choice is a ValueError.
                why, wanted = str(error) or type(error).__name__, 0.0
            if attempt + 1 < self.attempts:
                self.sleep(min(LONGEST_PAUSE, max(pause, wanted)))
                pause *= 2
        raise UserError(
            f"the judge {self.model} at {self.url} did not answer in {self.attempts} attempts, the last: {why}"
        )

    def _wait(self) -> None:
        now = self.clock()
        if self._next is not None and self._next > now:
            self.sleep(self._next - now)
            now = max(self.clock(), self._next)
        self._next = now + 60 / self.requests_per_minute

    def _post(self, body: Mapping[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            return response.read()


def from_environment(**options: Any) -> Endpoint | None:
    """The endpoint that the environment names, None where it names none.

    Args:
        **options: the other fields of `Endpoint`.

    Raises:
        UserError: when only a part of it is set, or for a URL that is not http or https.
    """
    url, model, key = (os.environ.get(name, "") for name in (URL, MODEL, KEY))
    if not url and not model:
        return None
    if not url or not model:
        raise UserError(f"{URL} and {MODEL} belong together; {URL if not url else MODEL} is not set")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{URL}={url} is not possible: it must begin with http:// or https://")
    return Endpoint(url=url, model=model, key=key, **options)


def _reply(body: bytes) -> Reply:
    try:
        content = json.loads(body)
        choices: Sequence[Any] = content["choices"]
        message = choices[0]["message"]
        text, refusal = message["content"], message.get("refusal")
        reason = choices[0].get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"the reply is no chat completion ({type(error).__name__})") from error
    if text is None or (isinstance(text, str) and not text.strip()):
        raise NoReplyError(f"finish_reason={reason}" + (f", refusal: {refusal}" if refusal else ""))
    if not isinstance(text, str):
        raise ValueError("the reply is no chat completion (its content is no text)")
    usage = content.get("usage") or {}
    return Reply(text, (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)))


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says of its refusal, in one line of at most 500 characters."""
    try:
        text = error.read().decode("utf-8", "replace")
    except OSError:
        return ""
    try:
        content = json.loads(text)
        inner = content.get("error", content) if isinstance(content, dict) else content
        text = str(inner.get("message") or inner) if isinstance(inner, dict) else str(inner)
    except ValueError:
        pass  # some servers answer in plain text
    return " ".join(text.split())[:500]


def _retry_after(headers: Any) -> float:
    """Seconds that the header Retry-After asks for, given as a number or as a date; 0 without it."""
    value = (headers.get("Retry-After") or "").strip()
    if value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0

"""Equality of mathematical expressions by the library math-verify, in a process that is ended when it takes too long.

A model may ramble ``10^{999999999}`` or a binomial coefficient of a billion; arithmetic in C heeds no signal, so only
the end of its process ends it. The process starts with the first question, in about two seconds, and serves all.
"""

import atexit
import json
import select
import subprocess
import sys
from typing import Any

SECONDS = 5.0
"""What takes longer is not equal."""
START_SECONDS = 120.0
BYTES = 4 * 2**30  # address space of the process: a number may need more memory than time


class Verifier:
    """Asks the process, and starts it again after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self.end)

    def __call__(self, truth: str, answer: str) -> bool:
        """Whether math-verify takes the results of both texts for equal.

        Args:
            truth: text with the right result, in a box or as its last expression.
            answer: text with the result that is judged.

        Raises:
            RuntimeError: when the process cannot be started, for example because math-verify is missing.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([truth, answer]) + "\n")
            process.stdin.flush()
            line = self._line(process, SECONDS)
        except BrokenPipeError:
            line = ""
        if line not in ("true", "false"):
            self.end()
        return line == "true"

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", f"import runpy; runpy.run_path({__file__!r})['serve']()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the command
        )
        self._process = process
        if self._line(process, START_SECONDS) != "ready":
            self.end()
            raise RuntimeError(
                "math-verify, which compares mathematical results, does not start; try: "
                f"{sys.executable} -c 'import math_verify'"
            )
        return process

    @staticmethod
    def _line(process: subprocess.Popen[str], seconds: float) -> str:
        """The next line of the process, empty when there is none in time."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        return process.stdout.readline().strip() if ready else ""

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()


def serve() -> None:
    """Answer every line of stdin, ``[truth, answer]``, with true or false."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    import math_verify

    def parsed(text: str) -> Any:
        return math_verify.parse(text, raise_on_error=False, parsing_timeout=None)  # pyright: ignore[reportArgumentType]

    print("ready", flush=True)
    for line in sys.stdin:
        truth, answer = map(parsed, json.loads(line))
        equal = truth and answer and math_verify.verify(truth, answer, raise_on_error=False, timeout_seconds=None)
        print("true" if equal else "false", flush=True)


equal = Verifier()

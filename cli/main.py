"""`bcd WORD ...`: one word for each command of the clone.

    bcd train method=badam      is      python -m experiments.train method=badam

`make setup` puts the script `bcd` beside the interpreter, see `cli.script`; it works in any folder.
"""

import difflib
import runpy
import sys
from collections.abc import Sequence
from typing import NamedTuple

PROGRAM = "bcd"


class Face(NamedTuple):
    """What a word stands for.

    Attributes:
        module: that `python -m` runs.
        purpose: in a line.
    """

    module: str
    purpose: str


FACES = {
    "fit": Face("experiments.fit", "what fits a card: method, options, batch and length, and the command that trains"),
    "train": Face("experiments.train", "trains a model, or makes the runs of a study"),
    "chat": Face("experiments.chat", "talks to a model in the terminal"),
    "evaluate": Face("experiments.evaluate", "evaluates a saved model, and compares it with another"),
    "compare": Face("experiments.compare", "differences of two records or studies, paired, with intervals"),
    "profile": Face("experiments.profile", "time and memory of a training step, predicted or measured"),
    "verify": Face("theory.verify", "checks the convergence bounds line by line"),
}


def text() -> str:
    """What `bcd` alone says."""
    width = max(map(len, FACES))
    lines = [f"  {PROGRAM} {word:{width}}   {face.purpose}" for word, face in FACES.items()]
    return "\n".join(["bcd WORD [option=value ...]; bcd WORD --help explains each:", *lines])


def unknown(word: str) -> str:
    """The line for a word that there is not, with the nearest one."""
    nearest = difflib.get_close_matches(word, FACES, n=1)
    guess = f"; did you mean {PROGRAM} {nearest[0]}?" if nearest else ""
    return f"error: {PROGRAM} {word} is not one of {', '.join(FACES)}{guess}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, with the others as its own.

    Args:
        arguments: None: those of the process.

    Raises:
        SystemExit: with the command's exit code; with 2 for an unknown word.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(text())
        return
    word, *others = words
    if word not in FACES:
        print(unknown(word), file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"{PROGRAM} {word}", *others]
    runpy.run_module(FACES[word].module, run_name="__main__")


def typed(module: str) -> str:
    """How the command that is running was called: the beginning of what can be typed next.

    Args:
        module: that `python -m` runs.

    >>> typed("experiments.train")
    'python -m experiments.train'
    """
    called = sys.argv[0]
    is_face = any(called == f"{PROGRAM} {word}" and face.module == module for word, face in FACES.items())
    return called if is_face else f"python -m {module}"

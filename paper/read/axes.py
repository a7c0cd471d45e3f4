"""The studies that vary one option of BAdam: what a cell of each is in print, and which cell is BAdam as it is."""

from collections.abc import Callable
from dataclasses import dataclass

from paper.read.studies import Row

STATES = {"reset": "reset", "host": "kept on the host", "device": "kept on the device"}
FROZEN = "layers only"
TRAINED = {"train": "own block", "join": "with a layer"}
OUTSIDE = {"embedding": "embedding", "final_norm": "norm"}
"""Parts outside the layers; the head of a model with tied weights is its embedding."""


@dataclass(frozen=True)
class Axis:
    """What a study varies.

    Attributes:
        cell: the value of a run in print.
        reference: the cell that is BAdam as it is; "": the one with the K that the other studies have.
    """

    cell: Callable[[Row], str]
    reference: str = ""


def inner_steps(row: Row) -> str:
    """The steps of a visit."""
    return steps_in_print(row.value("method.inner_steps"))


def steps_in_print(K: int | str) -> str:
    """K as a cell."""
    return f"$K={K}$"


def state(row: Row) -> str:
    """Where optimizer state is between visits, and the warm-up after a switch."""
    place, warmup = str(row.value("method.state")), row.value("method.switch_warmup")
    return STATES.get(place, place) + (f", {warmup} steps of warm-up" if warmup else "")


def outside_layers(row: Row) -> str:
    """What is trained besides the layers."""
    choice = row.value("outside_layers")
    always = row.value("method.always_active") or []
    trained: dict[str, list[str]] = {}
    for part, text in OUTSIDE.items():
        if choice[part] != "freeze":
            how = "always active" if part in always else TRAINED[choice[part]]
            trained.setdefault(how, []).append(text)
    return "; ".join(f"+ {', '.join(parts)} ({how})" for how, parts in trained.items()) or FROZEN


AXES = {
    "inner_steps": Axis(inner_steps),
    "order": Axis(lambda row: row.choice("order").replace("_", " "), "random reshuffle"),
    "state": Axis(state, STATES["reset"]),
    "outside_layers": Axis(outside_layers, FROZEN),
    "partition": Axis(lambda row: row.choice("partition").replace("_", " "), "by layer"),
}
"""Study -> what it varies."""

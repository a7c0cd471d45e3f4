"""What BAdam trains besides the layers: embedding (with the tied head) and final norm."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper import paired, studies
from paper.studies import Row
from records import Record

STUDIES = {"outside_layers": ("train", "outside_layers")}
FROZEN = "layers only"
DONE = {"train": "own block", "join": "with a layer"}
PARTS = {"embedding": "embedding", "final_norm": "norm"}


def draw(outside_layers: Sequence[Record]) -> Figure:
    found = studies.cells(studies.rows(outside_layers), name)
    return paired.draw({key: found[key] for key in sorted(found, key=lambda key: (key != FROZEN, len(key)))}, FROZEN)


def name(row: Row) -> str:
    """What is trained in print; the head of a model with tied weights is its embedding."""
    choice = row.value("outside_layers")
    always = row.value("method.always_active") or []
    trained: dict[str, list[str]] = {}
    for part, text in PARTS.items():
        if choice[part] != "freeze":
            how = "always active" if part in always else DONE[choice[part]]
            trained.setdefault(how, []).append(text)
    return "; ".join(f"+ {', '.join(parts)} ({how})" for how, parts in trained.items()) or FROZEN

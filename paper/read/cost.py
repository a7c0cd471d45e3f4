"""What the figures and tables of the study of cost share: its runs as rows, and the extrapolation by layers.

The name of a record is FAMILY-VERSION[-layersN]-TOKENS. Runs that differ in the number of layers only are two points
of a line, which is followed to the layers of the whole model: a layer costs the same time and bytes wherever it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from records import Record

FAMILIES = {
    "reference": "badam 1.4",
    "badam": "BAdam, ours",
    "lisa": "LISA",
    "galore": "GaLore",
    "lomo": "LOMO",
    "adalomo": "AdaLomo",
    "lora": "LoRA",
    "adamw": "AdamW",
}
CATEGORIES = ("weights", "master", "state", "gradients")
PHASES = ("forward", "backward", "update")
WITHOUT_TF32 = "-without_tf32"
"""In the names of runs without TensorFloat-32, torch's default, which matters to adapters in float32; same bytes."""


@dataclass(frozen=True)
class Row:
    """One way to train the whole model. Seconds a step are means over visits, bytes the maximum.

    held: bytes by category at the visit that needs most.     visits: (index, seconds of a step, floor in seconds).
    predicted: bytes by category and "peak", empty without a prediction.     layers: measured ones, if not all.
    """

    family: str
    version: str
    tokens: int
    seconds: Mapping[str, float]
    share: float
    peak: float
    held: Mapping[str, float]
    predicted: Mapping[str, float]
    visits: Sequence[tuple[int, float, float]] = ()
    layers: Sequence[int] = field(default=())

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds["step"]

    @property
    def label(self) -> str:
        return FAMILIES.get(self.family, self.family)


def rows(cost: Sequence[Record], predicted: Sequence[Record] = ()) -> list[Row]:
    """The rows of the finished runs, in the order of FAMILIES and then of the names."""
    by_name = {record.name: record for record in predicted}
    together: dict[tuple[str, str, int], list[Record]] = {}
    for record in cost:
        family, *middle, tokens = record.name.split("-")
        version = "-".join(part for part in middle if not part.startswith("layers"))
        together.setdefault((family, version, int(tokens)), []).append(record)
    places = list(FAMILIES)
    order = sorted(together, key=lambda key: (places.index(key[0]) if key[0] in places else len(places), key))
    return [_row(key, together[key], by_name) for key in order]


def _row(key: tuple[str, str, int], records: Sequence[Record], predicted: Mapping[str, Record]) -> Row:
    found = [_numbers(record, predicted.get(record.name.replace(WITHOUT_TF32, ""))) for record in records]
    layers: Sequence[int] = ()
    if records[0].config.get("layers") is None:
        numbers = found[0]
    else:
        whole = records[0].config["model"]["architecture"]["num_hidden_layers"]
        layers = [record.config["layers"] for record in records]
        numbers = _follow(layers, found, whole)
    rate = records[0].measurements["rate"]
    visits = [(v["index"], v["seconds"]["step"], v["flops"] / rate) for v in records[0].measurements["visits"]]
    return Row(
        *key,
        seconds={name: numbers[f"seconds.{name}"] for name in (*PHASES, "step")},
        share=numbers["flops"] / rate / numbers["seconds.step"],
        peak=numbers["peak"],
        held={name: numbers[f"held.{name}"] for name in CATEGORIES},
        predicted={name.partition(".")[2]: value for name, value in numbers.items() if name.startswith("predicted.")},
        visits=visits,
        layers=sorted(layers),
    )


def _numbers(record: Record, predicted: Record | None) -> dict[str, float]:
    found = record.measurements
    largest: dict[str, Any] = max(found["visits"], key=lambda visit: visit["peak"])
    numbers = {f"seconds.{name}": value for name, value in found["seconds"].items()}
    numbers |= {f"held.{name}": largest["held"][name] for name in CATEGORIES}
    numbers |= {f"phase.{name}": value for name, value in largest["phases"].items()}
    if predicted is not None:
        of = predicted.measurements["predicted"]
        numbers |= {f"predicted.{name}": of["held"][name] for name in CATEGORIES}
        numbers["predicted.peak"] = max(of["phases"].values())
        numbers |= {f"predicted phase.{name}": value for name, value in of["phases"].items()}
    return numbers | {"peak": found["peak"], "flops": found["flops"]}


def _follow(layers: Sequence[int], found: Sequence[Mapping[str, float]], whole: int) -> dict[str, float]:
    """The line through the smallest and the largest run, at `whole` layers."""
    if len(set(layers)) < 2:
        raise ValueError(f"layers={list(layers)}: two depths are needed to extrapolate to {whole}")
    (a, low), (b, high) = (choose(zip(layers, found, strict=True), key=lambda pair: pair[0]) for choose in (min, max))
    at = {name: high[name] + (high[name] - low[name]) * (whole - b) / (b - a) for name in high}
    for peak, phase in (("peak", "phase."), ("predicted.peak", "predicted phase.")):
        if peak in at:  # another phase may need most
            at[peak] = max(value for name, value in at.items() if name.startswith(phase))
    return at


def one(all_rows: Sequence[Row], family: str, version: str, tokens: int) -> Row | None:
    """The row of that name, None if there is none."""
    return next((r for r in all_rows if (r.family, r.version, r.tokens) == (family, version, tokens)), None)


def reference(all_rows: Sequence[Row], tokens: int) -> Row | None:
    """The reference implementation as documented."""
    return one(all_rows, "reference", "documented", tokens)


def times(ours: Row | None, theirs: Row | None) -> str:
    """How many times as many tokens a second the first row makes, in print; "--" if one was not measured."""
    return f"{ours.tokens_per_second / theirs.tokens_per_second:.2f}" if ours and theirs else "--"


def recomputed(all_rows: Sequence[Row], tokens: int, products: str = "") -> Row | None:
    """Ours with these products and a budget for activations that needs least."""
    budgets = [r for r in all_rows if r.family == "badam" and r.tokens == tokens and parts(r)[2][:1].isdigit()]
    return min((r for r in budgets if parts(r)[0] == products), key=lambda row: row.peak, default=None)


def compared(all_rows: Sequence[Row], tokens: int) -> list[Row]:
    """The rows of the comparison: every method as documented and with options; of ours, activations kept."""
    shown = ("documented", "options", "keep", "fused", "float8")
    return [r for r in all_rows if r.tokens == tokens and r.version.removesuffix(WITHOUT_TF32) in shown]


PRODUCTS = {"fused": "fused", "float8": "8-bit"}
PLACES = {"host": "host"}
WORDS = {"keep": "all kept", "options": "our options", "clipped": "all kept, clipped"}


def parts(row: Row) -> tuple[str, str, str]:
    """Name of the products, of the embedding's place and of the budget in the version of a row, "" for the usual."""
    left = row.version.removesuffix(WITHOUT_TF32).split("_")
    products, place = (next((part for part in left if part in known), "") for known in (PRODUCTS, PLACES))
    return products, place, "_".join(part for part in left if part not in (products, place))


def in_print(row: Row) -> str:
    """The version of a row as a reader should see it."""
    products, place, budget = parts(row)
    if budget.startswith("card"):
        name = f"{budget.removeprefix('card')} GB card"
    elif budget[:1].isdigit():
        number, unit = budget[:-2], budget[-2:].upper()
        name = "recomputed" if number == "0" else f"{number} {unit} kept"
    else:
        name = WORDS.get(budget, budget)
    kind = PRODUCTS.get(products, "") + ("" if budget or not products else " products")
    without = "no TF32" if row.version.endswith(WITHOUT_TF32) else ""
    return ", ".join(filter(None, (name, PLACES.get(place), kind, without)))


def on_both(cost: Sequence[Record], other: Sequence[Record]) -> list[tuple[Row, Row]]:
    """The rows that were measured on another card too, each with that of the other card."""
    names = {record.name for record in cost} & {record.name for record in other}
    first, second = (rows([record for record in records if record.name in names]) for records in (cost, other))
    return list(zip(first, second, strict=True))


def card_name(records: Sequence[Record]) -> str:
    """The model of the card in one word: H100 for NVIDIA H100 80GB HBM3."""
    return str(records[0].provenance["device"]).removeprefix("NVIDIA ").split()[0]

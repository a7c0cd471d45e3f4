"""What the figures and tables of the study of cost share: its runs as rows, and the extrapolation by layers.

The configuration of a run has the labels `about.family` and `about.version`. Runs that differ in the number of layers
only are two points of a line, which is followed to the layers of the whole model: a layer costs the same time and
bytes wherever it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from paper.read.names import about
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


@dataclass(frozen=True, order=True)
class Key:
    """Which way to train is measured.

    Attributes:
        family: the method and whose code it is, one of `FAMILIES`.
        version: how a step is computed, in a word.
        without_tf32: whether TensorFloat-32 was off, which is torch's default; it matters to adapters in float32 only,
            and the bytes are the same.
        tokens: of a step.
    """

    family: str
    version: str
    without_tf32: bool
    tokens: int


@dataclass(frozen=True)
class Options:
    """How a step is computed, as far as the versions of one family differ.

    Attributes:
        products: "fused" or "float8", how products of frozen weights are computed; "" for torch's own.
        host: whether the embedding table is in the host's memory.
        recompute: bytes of activations that are kept, the others are recomputed; None: all are kept.
        card: GB of memory that the run could have, None for the GPU's.
        clipped: whether gradients were clipped.
    """

    products: str
    host: bool
    recompute: int | None
    card: float | None
    clipped: bool


@dataclass(frozen=True)
class Row:
    """One way to train the whole model.

    Attributes:
        key: which one.
        options: how a step is computed.
        seconds: of a step, by phase and "step"; means over the visits.
        share: of the floor rate that a step reaches.
        peak: bytes, the maximum over the visits.
        held: bytes by category at the visit that needs most.
        predicted: bytes by category and "peak", empty without a prediction.
        visits: (index, seconds of a step, floor in seconds).
        layers: the numbers of layers that were measured, if not all.
    """

    key: Key
    options: Options
    seconds: Mapping[str, float]
    share: float
    peak: float
    held: Mapping[str, float]
    predicted: Mapping[str, float]
    visits: Sequence[tuple[int, float, float]] = ()
    layers: Sequence[int] = field(default=())

    @property
    def family(self) -> str:
        """The method and whose code it is."""
        return self.key.family

    @property
    def version(self) -> str:
        """How a step is computed, in a word."""
        return self.key.version

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.key.tokens

    @property
    def tokens_per_second(self) -> float:
        """Tokens of a step over its seconds."""
        return self.tokens / self.seconds["step"]

    @property
    def label(self) -> str:
        """The family in print."""
        return FAMILIES.get(self.family, self.family)


def key_of(record: Record) -> Key:
    """Which way to train the run measures.

    Raises:
        RecordError: when a label is missing.
    """
    family, version = about(record, "family"), about(record, "version")
    return Key(family, version, record.config["about"].get("tf32") is False, record.config["tokens"])


def rows(cost: Iterable[Record], predicted: Iterable[Record] = ()) -> list[Row]:
    """The rows of the finished runs, in the order of FAMILIES and then of the keys."""
    forecasts = {_forecast(record): record for record in predicted}
    together: dict[Key, list[Record]] = {}
    for record in cost:
        together.setdefault(key_of(record), []).append(record)
    places = list(FAMILIES)
    order = sorted(together, key=lambda key: (places.index(key.family) if key.family in places else len(places), key))
    return [_row(key, together[key], forecasts) for key in order]


def _forecast(record: Record) -> tuple[Key, int | None]:
    """Runs that are predicted alike have one of these: their bytes do not depend on TensorFloat-32."""
    return replace(key_of(record), without_tf32=False), record.config["layers"]


def _options(record: Record) -> Options:
    config, execution = record.config, record.config["execution"]
    products = execution.get("frozen_products", "plain")
    return Options(
        products="" if products == "plain" else products,
        host=execution.get("embedding") == "host",
        recompute=execution.get("recompute"),
        card=config["cap_gb"],
        clipped=config["max_grad_norm"] is not None,
    )


def _row(key: Key, records: Sequence[Record], forecasts: Mapping[tuple[Key, int | None], Record]) -> Row:
    first = records[0]
    measured = [_numbers(record, forecasts.get(_forecast(record))) for record in records]
    layers: Sequence[int] = ()
    if first.config["layers"] is None:
        numbers = measured[0]
    else:
        whole = first.config["model"]["architecture"]["num_hidden_layers"]
        layers = [record.config["layers"] for record in records]
        numbers = _follow(layers, measured, whole)
    rate = first.measurements["rate"]
    visits = [(v["index"], v["seconds"]["step"], v["flops"] / rate) for v in first.measurements["visits"]]
    return Row(
        key,
        _options(first),
        seconds={name: numbers[f"seconds.{name}"] for name in (*PHASES, "step")},
        share=numbers["flops"] / rate / numbers["seconds.step"],
        peak=numbers["peak"],
        held={name: numbers[f"held.{name}"] for name in CATEGORIES},
        predicted={name.partition(".")[2]: value for name, value in numbers.items() if name.startswith("predicted.")},
        visits=visits,
        layers=sorted(layers),
    )


def _numbers(record: Record, predicted: Record | None) -> dict[str, float]:
    measured = record.measurements
    largest: dict[str, Any] = max(measured["visits"], key=lambda visit: visit["peak"])
    numbers = {f"seconds.{name}": value for name, value in measured["seconds"].items()}
    numbers |= {f"held.{name}": largest["held"][name] for name in CATEGORIES}
    numbers |= {f"phase.{name}": value for name, value in largest["phases"].items()}
    if predicted is not None:
        of = predicted.measurements["predicted"]
        numbers |= {f"predicted.{name}": of["held"][name] for name in CATEGORIES}
        numbers["predicted.peak"] = max(of["phases"].values())
        numbers |= {f"predicted phase.{name}": value for name, value in of["phases"].items()}
    return numbers | {"peak": measured["peak"], "flops": measured["flops"]}


def _follow(layers: Sequence[int], measured: Sequence[Mapping[str, float]], whole: int) -> dict[str, float]:
    """The line through the smallest and the largest run, at `whole` layers."""
    if len(set(layers)) < 2:
        raise ValueError(f"layers={list(layers)}: two depths are needed to extrapolate to {whole}")
    (a, low), (b, high) = (
        choose(zip(layers, measured, strict=True), key=lambda pair: pair[0]) for choose in (min, max)
    )
    at = {name: high[name] + (high[name] - low[name]) * (whole - b) / (b - a) for name in high}
    for peak, phase in (("peak", "phase."), ("predicted.peak", "predicted phase.")):
        if peak in at:  # another phase may need most
            at[peak] = max(value for name, value in at.items() if name.startswith(phase))
    return at


def one(all_rows: Iterable[Row], family: str, version: str, tokens: int, *, tf32: bool = True) -> Row | None:
    """The row with these labels, None if there is none."""
    key = Key(family, version, not tf32, tokens)
    return next((row for row in all_rows if row.key == key), None)


def reference(all_rows: Iterable[Row], tokens: int) -> Row | None:
    """The reference implementation as documented."""
    return one(all_rows, "reference", "documented", tokens)


def times(ours: Row | None, theirs: Row | None) -> str:
    """How many times as many tokens a second the first row makes, in print; "--" if one was not measured."""
    return f"{ours.tokens_per_second / theirs.tokens_per_second:.2f}" if ours and theirs else "--"


def recomputed(all_rows: Iterable[Row], tokens: int, products: str = "") -> Row | None:
    """Ours with these products and a budget for activations that needs least."""
    ours = (row for row in all_rows if row.family == "badam" and row.tokens == tokens)
    budgets = (row for row in ours if row.options.recompute is not None and row.options.card is None)
    return min((row for row in budgets if row.options.products == products), key=lambda row: row.peak, default=None)


def compared(all_rows: Iterable[Row], tokens: int) -> list[Row]:
    """The rows of the comparison: every method as documented and with options; of ours, activations kept."""
    shown = ("documented", "options", "keep", "fused", "float8")
    return [row for row in all_rows if row.tokens == tokens and row.version in shown]


APART = 0.6
"""Of a row, between two families in a figure."""
ONE_METHOD = {"reference": "badam"}
"""Family -> the one beside which it stands, since both train by one method."""


def places_by_family(shown: Sequence[Row]) -> list[float]:
    """Places of rows in a figure, those of one method together."""
    places = [0.0]
    for row, after in pairwise(shown):
        one, other = (ONE_METHOD.get(each.family, each.family) for each in (row, after))
        places.append(places[-1] + 1 + (APART if one != other else 0))
    return places[: len(shown)]


def names_by_family(shown: Sequence[Row]) -> list[str]:
    """Names of the rows; a star marks what was followed from fewer layers."""
    return [f"{row.label}{'*' if row.layers else ''}, {in_print(row)}" for row in shown]


PRODUCTS = {"fused": "fused", "float8": "8-bit"}
WORDS = {"documented": "documented", "options": "our options"}
"""Versions of other methods in print; ours are named by their options."""


def in_print(row: Row) -> str:
    """The version of a row as a reader should see it."""
    options = row.options
    name = WORDS.get(row.version) or _kept(options)
    kind = PRODUCTS.get(options.products, "") + ("" if name or not options.products else " products")
    clipped, host = "clipped" if options.clipped else "", "host" if options.host else ""
    without = "no TF32" if row.key.without_tf32 else ""
    return ", ".join(filter(None, (name, clipped, host, kind, without)))


def _kept(options: Options) -> str:
    """How much memory a run of ours has, or keeps activations in; "" where other products keep all."""
    if options.card is not None:
        return f"{options.card:g} GB card"
    if options.recompute is None:
        return "" if options.products else "all kept"
    return f"{_bytes(options.recompute)} kept" if options.recompute else "recomputed"


def _bytes(count: int) -> str:
    """16000000000 -> 16 GB, 1750000000 -> 1750 MB."""
    return f"{count // 10**9} GB" if count % 10**9 == 0 else f"{count / 1e6:g} MB"


def on_both(cost: Sequence[Record], other: Sequence[Record]) -> list[tuple[Row, Row]]:
    """The rows that were measured on another card too, each with that of the other card."""
    keys = {key_of(record) for record in cost} & {key_of(record) for record in other}
    first, second = (rows(record for record in records if key_of(record) in keys) for records in (cost, other))
    return list(zip(first, second, strict=True))


def card_name(records: Sequence[Record]) -> str:
    """The model of the card in one word: H100 for NVIDIA H100 80GB HBM3."""
    return str(records[0].provenance["device"]).removeprefix("NVIDIA ").split()[0]

"""The studies of training as rows: what each run varied, its seed, and what it reached.

A cell of a study is one value of what it varies. Runs of one cell and different seeds are repetitions; runs of
different cells and one seed saw the same data in the same order, so they are pairs.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from paper.read.formats import DIGITS
from paper.read.names import LABELS, named
from paper.read.statistics import Difference, Estimate, contrast, holm, mean
from records import Record, RecordError

EQUAL_TIME = "equal_time"
"""The study whose runs have the time of LoRA's steps, each method its own number of steps."""
REFERENCE_OF_TIME = "lora"
REGIME = ("regime_gsm8k", "regime_rules_gsm8k", "regime_alpaca", "regime_rules_alpaca")
"""The studies over whole epochs, which are shown together: the published methods, and rules for inactive layers."""
HEADLINE_8B = ("headline_8b", "headline_8b_card24")
"""The main comparison at the scale and length of the method's paper, for a card of 80 GB and for one of 24 GB."""
TESTED = ("headline", EQUAL_TIME, *REGIME, "regime_clipping", "regime_match", *HEADLINE_8B)
"""Studies whose final losses are those of the test part, which is read once. All others report the held-out part, so
that their numbers can be compared with each other."""
EPOCH = 0.02
"""Share of an epoch by which the steps of whole epochs may miss it."""


@dataclass(frozen=True)
class Row:
    """One train run, as everything in the paper reads it; what a property needs may be missing in a failed run."""

    record: Record

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self.record.config

    @property
    def measured(self) -> dict[str, Any]:
        """Everything that was measured."""
        return self.record.measurements

    @property
    def seed(self) -> int:
        """Seed of the data's order and of the method."""
        return self.config["seed"]

    @property
    def method(self) -> str:
        """The method's configuration name, without the folder of its file."""
        return self.choice("method").rpartition("/")[2]

    @property
    def label(self) -> str:
        """The name of the method in print."""
        return named(self.method)

    @property
    def data(self) -> str:
        """Configuration name of the data set."""
        return self.choice("data")

    @property
    def model(self) -> str:
        """Configuration name of the model."""
        return self.choice("model")

    @property
    def has_blocks(self) -> bool:
        """Whether the method trains one part of the weights at a time."""
        return self.choice("partition") not in ("", "single")

    @property
    def epochs(self) -> float:
        """Passes over the training part."""
        return self.config["steps"] * self.config["batch_size"] / self.train_examples

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return self.value("model.architecture.num_hidden_layers")

    @property
    def loss(self) -> float:
        """Held-out loss after training, in nats a token."""
        return self.measured["after"]["heldout_loss"]

    @property
    def part(self) -> str:
        """The part of the data that the final loss is of: "test" in `TESTED` where it was read, else "held-out"."""
        return "test" if self.record.study in TESTED and "test" in self.measured else "held-out"

    @property
    def reported(self) -> float:
        """The final loss, on its `part`."""
        return self.measured["test"]["heldout_loss"] if self.part == "test" else self.loss

    @property
    def before(self) -> float:
        """Held-out loss of the untrained model."""
        return self.measured["before"]["heldout_loss"]

    @property
    def items(self) -> int:
        """Held-out items."""
        return self.measured["before"]["items"]

    @property
    def match(self) -> float:
        """Share of exact matches after training."""
        return self.measured["after"]["exact_match"]

    @property
    def match_before(self) -> float:
        """Share of exact matches of the untrained model."""
        return self.measured["before"]["exact_match"]

    @property
    def tokens(self) -> int:
        """Tokens trained on in all."""
        return self.measured["data"]["tokens"]

    @property
    def train_examples(self) -> int:
        """Examples in the training part."""
        return self.measured["data"]["train_examples"]

    @property
    def trained_parameters(self) -> int:
        """Parameters that any step may change."""
        return self.measured["trained_parameters"]

    @property
    def steps(self) -> dict[str, list[Any]]:
        """Metrics of every step, a column each; None where a step lacks one."""
        return self.measured["steps"]

    @property
    def peak(self) -> float | None:
        """Bytes allocated at the peak of the run on a GPU, None on a CPU."""
        return self.measured.get("peak_allocated")

    @property
    def bytes(self) -> dict[str, float]:
        """Measured bytes of weights, gradients and optimizer state at the peak."""
        return self.measured["measured_bytes"]

    @property
    def predicted_bytes(self) -> dict[str, float]:
        """Predicted bytes of the same."""
        return self.measured["predicted_bytes"]

    @property
    def held(self) -> float:
        """Bytes of gradients and optimizer state at the peak."""
        return self.bytes["gradients"] + self.bytes["state"]

    @property
    def matrices(self) -> list[dict[str, Any]]:
        """Of every weight matrix the shape, the ranks and the singular values of its change."""
        return list(self.measured["spectrum"]["matrices"].values())

    @cached_property
    def curve(self) -> list[tuple[float, float]]:
        """(tokens, held-out loss) along the way, start and end included; points that are not finite left out."""
        points = [(point["tokens"], point["heldout_loss"]) for point in self.measured.get("curve", [])]
        inner = [(tokens, loss) for tokens, loss in points if 0 < tokens < self.tokens and loss is not None]
        return [(0, self.before), *inner, (self.tokens, self.loss)]

    def choice(self, axis: str) -> str:
        """The name of the configuration's file on that axis, "" where the method has no such axis."""
        return self.config["choices"].get(axis, "")

    def value(self, key: str) -> Any:
        """A value of the configuration by its dotted name, None where there is none."""
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        return value


def rows(records: Iterable[Record]) -> list[Row]:
    """The finished runs, methods in the order of `LABELS`, then by name."""
    places = {name: i for i, name in enumerate(LABELS)}
    finished = [Row(record) for record in records if record.status == "finished"]
    return sorted(finished, key=lambda row: (places.get(row.method, len(places)), row.method, row.record.name))


def over_epochs(records: Mapping[str, Sequence[Record]]) -> list[Record]:
    """The records of the studies of `REGIME` together."""
    return [record for name in REGIME for record in records.get(name, ())]


def cells(runs: Iterable[Row], of: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """As `groups`, with at most one run a seed.

    Raises:
        ValueError: when two runs of one value have the same seed: then `of` does not tell the cells apart.
    """
    together = groups(runs, of)
    for value, runs in together.items():
        if len({row.seed for row in runs}) < len(runs):
            raise ValueError(f"{value}: {', '.join(row.record.name for row in runs)} share a seed")
    return together


def data_sets(names: Iterable[str]) -> list[str]:
    """Each name of a data set once, in the order of print: GSM8K, then by name."""
    return sorted(set(names), key=lambda name: (name != "gsm8k", name))


def by_data(runs: Iterable[Row], of: Callable[[Row], str] = lambda row: row.method) -> dict[str, dict[str, list[Row]]]:
    """Data set, in the order of print -> the `cells` of its runs."""
    sets = groups(runs, lambda row: row.data)
    return {data: cells(sets[data], of) for data in data_sets(sets)}


def groups(runs: Iterable[Row], of: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Value of `of` -> its runs, in the order of the rows."""
    together: dict[Any, list[Row]] = {}
    for row in runs:
        together.setdefault(of(row), []).append(row)
    return together


def losses(runs: Iterable[Row]) -> dict[int, float]:
    """Seed -> final loss; of one cell."""
    return {row.seed: row.reported for row in runs}


def loss(runs: Iterable[Row]) -> Estimate:
    """Mean final loss of one cell with its interval."""
    return mean([row.reported for row in runs])


def part(runs: Iterable[Row]) -> str:
    """The part of the data that all final losses are of, as axes and captions name it.

    Raises:
        RecordError: when two runs have theirs from two parts.
    """
    found = {row.part: row for row in runs}
    if len(found) > 1:
        named_runs = " and ".join(f"that of {row.record.name} on the {part} part" for part, row in found.items())
        raise RecordError(
            f"final losses of two parts cannot be compared: {named_runs}; run both with the same data.test=..."
        )
    return next(iter(found), "held-out")


def seeds(runs: Iterable[Row]) -> str:
    """How many runs a cell has that differ in the seed alone: "3", or "2 to 3"."""
    counts = [len(cell) for cell in groups(runs, _without_seed).values()]
    least, most = min(counts), max(counts)
    return str(most) if least == most else f"{least} to {most}"


def regime(runs: Iterable[Row]) -> str:
    """How long runs trained, as every verdict says it: "180 steps", "three epochs", "LoRA's time of 180 steps".

    Epochs are named where the steps are whole passes over the data, up to one example in fifty.
    """
    rows = list(runs)
    if rows[0].record.study == EQUAL_TIME:
        lora = sorted({str(row.config["steps"]) for row in rows if row.method == REFERENCE_OF_TIME})
        return f"LoRA's time of {' or '.join(lora) or 'its'} steps"
    steps = [row.config["steps"] for row in rows]
    passes = {round(row.epochs) if abs(row.epochs - round(row.epochs)) <= EPOCH * row.epochs else 0 for row in rows}
    if len(passes) == 1 and 0 not in passes:
        (number,) = passes
        return f"{DIGITS[number] if number < len(DIGITS) else number} {'epoch' if number == 1 else 'epochs'}"
    return f"{min(steps)} steps" if min(steps) == max(steps) else f"{min(steps)} to {max(steps)} steps"


def _without_seed(row: Row) -> str:
    return json.dumps([row.record.study, _without_seeds(row.config)], sort_keys=True)


def peak(runs: Iterable[Row]) -> float | None:
    """Largest peak of a cell's runs in bytes, None where one was not measured."""
    peaks = [row.peak for row in runs]
    return max((p for p in peaks if p is not None), default=None) if None not in peaks else None


@dataclass(frozen=True)
class Compared:
    """A difference to another cell, and its two-sided p adjusted by Holm's method over all cells compared with it."""

    difference: Difference
    p: float


def against(cells: Mapping[str, Mapping[int, float]], reference: str) -> dict[str, Compared]:
    """Every other cell minus the reference, paired by seed; cells that share fewer than two seeds are left out.

    Args:
        cells: name -> seed -> value.
    """
    differences = {}
    for name in cells:
        if name != reference and (difference := contrast({name: 1, reference: -1}, cells)):
            differences[name] = difference
    adjusted = holm([difference.p for difference in differences.values()])
    return {name: Compared(difference, p) for (name, difference), p in zip(differences.items(), adjusted, strict=True)}


def diverged(records: Iterable[Record]) -> list[Row]:
    """Runs that ended because loss or gradient were not finite; they have a configuration and no result."""
    return [Row(record) for record in records if record.status == "failed" and "FloatingPoint" in record.error]


def recommended_inner_steps(row: Row) -> float:
    """K = n/(B D), which the method's paper recommends: examples over batch size and blocks, here the layers."""
    return row.train_examples / (row.config["batch_size"] * row.layers)


def is_recommended(row: Row) -> bool:
    """Whether the steps a visit of the run are the recommended ones, rounded."""
    return row.value("method.inner_steps") == round(recommended_inner_steps(row))


def seconds_alone(alone: Iterable[Record], wanted: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """Cell -> seconds of a step of its method, measured with nothing else on the GPU; cells without one are left out.

    Args:
        wanted: cell -> its runs, as for `measured_alone`.
    """
    return {name: float(measured["seconds_per_step"]) for name, measured in measured_alone(alone, wanted).items()}


def measured_alone(alone: Iterable[Record], wanted: Mapping[str, Sequence[Row]]) -> dict[str, Mapping[str, Any]]:
    """Cell -> the measurements of its step with nothing else on the GPU; cells without any are left out.

    Args:
        wanted: cell -> its runs; what the measurement trained is what the cell trains.
    """
    measured = {_trained(row): row.measured for row in map(Row, alone) if row.record.status == "finished"}
    return {cell: measured[key] for cell, runs in wanted.items() if (key := _trained(runs[0])) in measured}


def _trained(row: Row) -> str:
    """What a step computes: choices, model, and values of the method without rate and seeds, which cost nothing."""
    method = {name: value for name, value in row.config["method"].items() if name != "lr"}
    return json.dumps([row.config["choices"], row.config["model"], _without_seeds(method)], sort_keys=True)


def _without_seeds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_seeds(inner) for key, inner in value.items() if key != "seed"}
    return value


def steps_by_round(
    cells: Mapping[str, Sequence[Row]], alone: Iterable[Record], reference: str
) -> dict[str, list[int]]:
    """Method -> the reference's steps times its median seconds over the method's own, of each round of the timing."""
    measured = measured_alone(alone, cells)
    medians = {name: list(map(median, each["rounds"])) for name, each in measured.items()}
    if reference not in medians:
        return {}
    steps, theirs = cells[reference][0].config["steps"], medians[reference]
    return {name: [round(steps * a / b) for a, b in zip(theirs, each, strict=False)] for name, each in medians.items()}

"""What of a model's training fits a card, and how fast it would be: memory by prediction, time by arithmetic.

    seconds of a step = (must_run + recomputed) / rate

must_run is the floor of `experiments.cost.arithmetic`, the mean over visits. With k layers that keep their activations
and n_a layers from the lowest active one upwards, max(0, n_a - k) layers run forward once more. The rate is that of a
measured run in which nothing is recomputed, or one that is given.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

from bcd.execution import recomputed_layers
from bcd.memory import Phases
from bcd.partitions import find_layers
from experiments.configuration import build
from experiments.cost.arithmetic import attention_width, computed, must_run
from experiments.cost.case import GB, Case, skeleton, spread
from experiments.cost.predict import Prediction, predict
from records import COMMITTED, Record, load_study

VISITS = 5
"""Visits that the arithmetic of a step is the mean over."""
LARGEST = 140.0
"""GB; of a larger card an H200's measurements are the nearest, of a smaller one an H100's."""
STUDIES = {"H100": "cost", "H200": "cost_h200"}
REFERENCE = "badam_exact"
"""The method whose rate stands for those that were not measured."""
MEASURED_AS = {"lora": "peer/lora"}
"""Method -> the one that the measured runs have, which differs in a rank."""


@dataclass(frozen=True)
class Rate:
    """FLOP/s that a training step reaches, and where that is from."""

    flops: float
    source: str


@dataclass(frozen=True)
class Fit:
    """One way to train on a card.

    Attributes:
        method: its configuration name.
        execution: name of how steps are computed.
        batch: sequences of one forward and backward pass; 0 where none fits.
        length: tokens of a sequence.
        peak: predicted bytes; where nothing fits, those of one sequence with everything recomputed, or what is less.
        largest: about the largest batch that fits with everything recomputed; 0 where none does.
        kept: layers that keep their activations.
        seconds: of a forward and backward pass with its share of the update, predicted; 0.0 where nothing fits.
    """

    method: str
    execution: str
    batch: int
    length: int
    peak: int
    largest: int
    kept: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.batch * self.length / self.seconds if self.seconds else 0.0


def rate(method: str, card: float) -> Rate:
    """The rate of the committed run that is nearest: of the method, else of `REFERENCE`, on the nearest card.

    Args:
        method: its configuration name.
        card: GB.
    """
    device = "H200" if card > LARGEST else "H100"
    wanted = MEASURED_AS.get(method, method)
    records = _kept_all(device)
    same = [record for record in records if record.config["choices"]["method"] == wanted]
    chosen = same or [record for record in records if record.config["choices"]["method"] == REFERENCE]
    # Training leaves float32 products (LoRA's adapters) as torch's default says, without TensorFloat-32.
    record = max(chosen, key=lambda record: (not record.config["about"]["tf32"], record.config["tokens"], record.name))
    found = record.measurements
    like = "" if same else f" ({method} was not measured)"
    return Rate(
        found["share"] * found["rate"],
        f"{record.provenance['device']}, results/{record.study}.jsonl {record.name}{like}",
    )


@cache
def _kept_all(device: str) -> list[Record]:
    """The measured runs of execution=cheap in which no layer was computed twice."""
    records = load_study(STUDIES[device], kind="profile", folder=COMMITTED)
    return [
        record
        for record in records
        if record.config["choices"]["execution"] == "cheap"
        and (record.config["execution"]["recompute"] is None or _held_all(record))
        and record.config["cap_gb"] is None
    ]


def _held_all(record: Record) -> bool:
    """Whether the budget of activations was not used up."""
    held = max(visit["activations"] for visit in record.measurements["visits"])
    return held < 0.9 * record.config["execution"]["recompute"]


def held(chosen: Case) -> int:
    """Bytes of weights, gradients and optimizer state from shapes alone: less than any step needs."""
    trainable = build(chosen.config.method)(skeleton(chosen))
    return max(trainable.footprint.held(visit).device for visit in range(len(trainable.visits)))


def foretell(chosen: Case) -> tuple[Prediction, int]:
    """The prediction of a case, and how many layers keep their activations in its largest visit."""
    model, config = skeleton(chosen), chosen.config
    prediction = predict(
        model,
        build(config.method),
        build(config.execution),
        batch=chosen.batch,
        sequence=config.sequence,
        limit=None if config.cap_gb is None else int(config.cap_gb * GB),
    )
    keeps = recomputed_layers(model)
    return prediction, len(find_layers(model)[1]) if keeps is None else len(keeps.kept)


def arithmetic(chosen: Case, kept: int) -> float:
    """FLOPs of a step, the mean over visits, with what is recomputed when at most `kept` layers keep activations."""
    config = chosen.config
    trainable = build(config.method)(skeleton(chosen))
    model: Any = trainable.model
    _, layers = find_layers(model)
    place = {id(p): i for i, layer in enumerate(layers) for p in layer.parameters()}
    tokens, sequence = config.tokens, config.sequence
    size = sum(p.numel() for p in layers[0].parameters() if p.ndim > 1)
    once = 2.0 * tokens * (size + sequence * attention_width(model.config))
    flops = []
    for visit in spread(VISITS, len(trainable.visits)):
        parts = computed(trainable, visit)
        lowest = min((place.get(id(part.parameter), 0) for part in parts), default=0)
        again = max(0, len(layers) - lowest - kept)
        flops.append(must_run(model, parts, tokens=tokens, sequence=sequence) + again * once)
    return statistics.mean(flops)


def largest_batch(found: Mapping[int, Phases], card: float, reserve: float) -> int:
    """About the largest batch that fits, from the bytes of two batches, a line through both for each phase of a step.

    Args:
        found: batch -> predicted bytes, of two batches.
        card: GB.
        reserve: GB that stay free.

    >>> largest_batch({1: Phases(5 * 10**9, 10**10, 10**10), 3: Phases(6 * 10**9, 11 * 10**9, 10**10)}, 24, 1)
    27
    """
    (small, low), (large, high) = sorted(found.items())
    room, most = (card - reserve) * GB, math.inf
    for first, second in zip(astuple(low), astuple(high), strict=True):
        a_sequence = (second - first) / (large - small)
        if a_sequence > 0:
            most = min(most, small + math.floor((room - first) / a_sequence))
        elif second > room:
            most = 0
    return max(0, large if most == math.inf else int(most))


def best(found: Sequence[Fit]) -> Fit | None:
    """The fastest of those that fit; None where none does."""
    return max((fit for fit in found if fit.batch), key=lambda fit: fit.tokens_per_second, default=None)

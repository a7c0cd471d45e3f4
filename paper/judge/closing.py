"""What the plan of the second regime asks of variants of block descent: do they close the gap, and is it the block?

With the gain the loss before training minus AdamW's after it, and the margin m a twentieth of it, of one data set:

    closes the gap:  the loss is at most LoRA's plus m by a one-sided test paired by seed, p <= 0.05 after Holm's
                     correction over the variants, on every data set; and at 8 billion weights the predicted peak and
                     the measured step are at most LoRA's
    reaches LoRA:    the mean itself is at most LoRA's
    the block helps: the loss is lower than its twin's by a two-sided paired test, p <= 0.05 after Holm's correction
                     over the variants; or at most m higher, by a one-sided one, with a smaller peak or a shorter step

The twin of a variant has no block that Adam moves: the same rule moves all layers, or, where only layers above the
block move, the block too. The rule was written into results/PLAN.md before the runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paper.judge.verdicts import loss_margin
from paper.read import statistics, studies
from paper.read.statistics import ALPHA, Difference
from paper.read.studies import Row

TARGET, GAIN = "lora", "adamw"
RULES = ("sign", "row_normalised", "factored")
"""Methods that move all layers by one of these rules and have no block."""
TWIN = "_twin"
"""What the name of a method ends with that is another one with its rule for inactive layers on the block too."""
EQUAL = "_equal"
"""What the name of a method ends with that is another one with one step size: its twin differs in Adam alone."""


@dataclass(frozen=True)
class Cost:
    """A step at 8 billion weights: predicted bytes at its peak and measured seconds, None where there is none."""

    peak: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Closing:
    """One variant on one data set.

    Attributes:
        difference: its loss minus LoRA's.
        margin: a twentieth of the gain.
        p: of the test that the difference is below the margin, adjusted over the variants.
        twin: the method without a block that it is compared with, "" for none.
        to_twin: its loss minus the twin's, None without a twin.
        p_twin: of no difference to the twin, two-sided, adjusted over the variants.
        p_not_worse: of the test that the difference to the twin is below the margin, adjusted over the variants.
        cost: of its step.
        cheaper: whether its peak or its step is below the twin's.
        within: whether peak and step are at most LoRA's, None where one is not known and none is above.
    """

    method: str
    difference: Difference
    margin: float
    p: float
    twin: str
    to_twin: Difference | None
    p_twin: float | None
    p_not_worse: float | None
    cost: Cost
    cheaper: bool
    within: bool | None

    @property
    def reaches(self) -> bool:
        """Whether the mean loss is at most LoRA's."""
        return self.difference.mean <= 0

    @property
    def closes(self) -> bool | None:
        """Whether the gap is closed on this data set, None where the step at 8 billion weights does not tell."""
        return False if self.p > ALPHA else self.within

    @property
    def block_helps(self) -> bool | None:
        """Whether the block contributes, None without a twin."""
        if self.to_twin is None or self.p_twin is None or self.p_not_worse is None:
            return None
        return (self.to_twin.mean < 0 and self.p_twin <= ALPHA) or (self.p_not_worse <= ALPHA and self.cheaper)


def twin_of(method: str, cells: Mapping[str, Sequence[Row]]) -> str:
    """The method without a block that this one is compared with, "" where none was run."""
    names = (f"{method.removesuffix(EQUAL)}{TWIN}", *(rule for rule in RULES if f"_{rule}" in method))
    return next((name for name in names if name in cells), "")


def is_variant(method: str, runs: Sequence[Row]) -> bool:
    """Whether Adam moves a block of it."""
    return runs[0].has_blocks and runs[0].choice("rule") == "adam" and not method.endswith(TWIN)


def judge(cells: Mapping[str, Sequence[Row]], costs: Mapping[str, Cost]) -> list[Closing]:
    """Every variant of one data set that shares seeds with LoRA, the lowest loss first; none without LoRA and AdamW.

    Args:
        cells: method -> its runs.
        costs: method -> the cost of its step at 8 billion weights.
    """
    if not {TARGET, GAIN} <= cells.keys():
        return []
    losses = {name: studies.losses(runs) for name, runs in cells.items()}
    margin = loss_margin(cells[GAIN])
    variants = [name for name, runs in cells.items() if is_variant(name, runs)]
    found = {name: d for name in variants if (d := statistics.contrast({name: 1, TARGET: -1}, losses))}
    p = dict(zip(found, statistics.holm([d.below(margin) for d in found.values()]), strict=True))
    twins = {name: twin for name in found if (twin := twin_of(name, cells))}
    to_twin = {name: d for name, twin in twins.items() if (d := statistics.contrast({name: 1, twin: -1}, losses))}
    p_twin = dict(zip(to_twin, statistics.holm([d.p for d in to_twin.values()]), strict=True))
    not_worse = dict(zip(to_twin, statistics.holm([d.below(margin) for d in to_twin.values()]), strict=True))
    nothing = Cost()
    judged = [
        Closing(
            method=name,
            difference=difference,
            margin=margin,
            p=p[name],
            twin=twins.get(name, ""),
            to_twin=to_twin.get(name),
            p_twin=p_twin.get(name),
            p_not_worse=not_worse.get(name),
            cost=costs.get(name, nothing),
            cheaper=_cheaper(costs.get(name, nothing), costs.get(twins.get(name, ""), nothing)),
            within=_within(costs.get(name, nothing), costs.get(TARGET, nothing)),
        )
        for name, difference in found.items()
    ]
    return sorted(judged, key=lambda each: each.difference.mean)


def closes_everywhere(method: str, judged: Mapping[str, Sequence[Closing]]) -> bool | None:
    """Whether a variant closes the gap on every data set, None where that cannot be told.

    Args:
        judged: data set -> its variants.
    """
    each = [next((one.closes for one in variants if one.method == method), None) for variants in judged.values()]
    return False if False in each else None if None in each else True


def _pairs(ours: Cost, theirs: Cost) -> list[tuple[float, float] | None]:
    both = ((ours.peak, theirs.peak), (ours.seconds, theirs.seconds))
    return [(a, b) if a is not None and b is not None else None for a, b in both]


def _within(ours: Cost, theirs: Cost) -> bool | None:
    pairs = _pairs(ours, theirs)
    if any(pair[0] > pair[1] for pair in pairs if pair):
        return False
    return None if None in pairs else True


def _cheaper(ours: Cost, theirs: Cost) -> bool:
    return any(pair[0] < pair[1] for pair in _pairs(ours, theirs) if pair)

"""The rule by which a claim is judged, and what the records say about each.

With d the mean difference (ours minus theirs, lower is better, else the sign is turned), its 95 % interval [low, high]
and the margin m, p adjusted by Holm over the comparisons of the claim:

    superior:      supported if p(d < 0) <= 0.05; not supported if low > -m, an advantage of m is excluded
    not inferior:  supported if p(d < m) <= 0.05; not supported if low > m
    equivalent:    supported if p(|d| < m) <= 0.05 by two one-sided tests; not supported if low > m or high < -m
    measured:      a ratio without repetitions; supported if it is at most the bound of the claim, else not

and everything else has too few seeds, or downstream, where the error is that of the items, too few items.
Every verdict is of a regime: how long the runs trained. A claim is judged once for each study of it, and the longer
ones are left out where they have no runs. The final loss is that of the part which the study reports
(`paper.read.studies.Row.part`). A claim is supported if all comparisons are, not supported if one
of them is not. The margin of a loss is a twentieth of what the method compared with gains over the untrained model,
that of a rank a tenth of the full rank, that of the mean share of right answers two hundredths; all were fixed before
the runs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from paper.judge.claims import CLAIMS, EQUIVALENT, MEASURED, NOT_INFERIOR, RECOMMENDED, REGIME, SUPERIOR, Claim
from paper.read import cost, downstream, statistics, studies
from paper.read.names import about, data_named, model_named
from paper.read.studies import Row
from records import Record

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
TOO_FEW_SEEDS, TOO_FEW_ITEMS = "too few seeds", "too few items"
NOT_RUN = "not run"
NOT_TESTABLE = "not testable at this scale"
"""What `experiments.evaluate.significance` says of one task."""
LOSS_MARGIN, RANK_MARGIN, DOWNSTREAM_MARGIN = 0.05, 0.1, 0.02
PAIRS = (
    ("as documented", ("reference", "documented"), "documented"),
    ("with our options", ("badam", "keep"), "options"),
)
TOKENS = 8192
CARD, CARD_TOKENS, CARD_BYTES = ("badam", "card24"), 2048, 24e9
FINAL_LOSS = "final loss"
TRAINED = "headline"
"""The study of which the models were exported that are evaluated downstream."""
LAST = 0.1
"""Share of the steps at the end whose mean is the training loss of a run."""


@dataclass(frozen=True)
class Measure:
    """A number of a run.

    Attributes:
        lower: whether lower is better.
        unit: in print.
    """

    of: Callable[[Row], float]
    lower: bool
    unit: str


def training_loss(row: Row) -> float:
    """Mean loss of the last steps."""
    loss = [value for value in row.steps["loss"] if value is not None]
    return fmean(loss[-max(1, round(LAST * len(loss))) :])


def rank(row: Row) -> float:
    """Fewest singular values with 90 % of the squared sum of the weight change, over the full rank; mean."""
    return fmean(matrix["rank_90"] / min(matrix["shape"]) for matrix in row.matrices)


MEASURES = {
    "training loss": Measure(training_loss, lower=True, unit="nats"),
    FINAL_LOSS: Measure(lambda row: row.reported, lower=True, unit="nats"),
    "rank": Measure(rank, lower=False, unit="of full rank"),
}
EXACT = {"badam_exact": "badam"}
"""Methods with an exact master of bfloat16 weights -> those of the claims, which are the same without rounding."""
AXES: dict[str, Callable[[Row], str]] = {
    "method": lambda row: EXACT.get(row.method, row.method),
    "order": lambda row: row.choice("order"),
    "inner_steps": lambda row: RECOMMENDED if studies.is_recommended(row) else str(row.value("method.inner_steps")),
}
RATIOS: dict[str, Callable[[cost.Row], float]] = {
    "peak": lambda row: row.peak,
    "backward": lambda row: row.seconds["backward"],
    "step": lambda row: row.seconds["step"],
}


@dataclass(frozen=True)
class Setting:
    """Which runs a comparison is of, in print.

    Attributes:
        part: of the data that the loss is of, or what else was measured.
        steps: of each run, or their range.
        regime: how long they trained, as `paper.read.studies.regime` says it.
    """

    data: str
    model: str
    part: str = ""
    steps: str = ""
    regime: str = ""
    seeds: int = 1


@dataclass(frozen=True)
class Finding:
    """One comparison of a claim.

    Attributes:
        comparison: which cells, in print, "" where the claim has one comparison a data set.
        setting: which runs; None of what was measured once.
        effect: ours minus theirs, or their ratio.
        low: lower end of its 95 % interval, None where it was measured once.
        high: upper end of it.
        p: of the rule's test, adjusted; None without a test.
        smallest: the smallest detectable difference.
        worse: whether the whole interval lies on the side that contradicts the claim, so that p is near 1.
    """

    comparison: str
    effect: float
    verdict: str
    unit: str
    low: float | None = None
    high: float | None = None
    p: float | None = None
    margin: float | None = None
    smallest: float | None = None
    worse: bool = False
    setting: Setting | None = None


@dataclass(frozen=True)
class Judged:
    """A claim with the study that it was tested on, and its findings; none where there are no records."""

    claim: Claim
    study: str
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        verdicts = [finding.verdict for finding in self.findings]
        if not verdicts:
            return NOT_RUN
        if NOT_SUPPORTED in verdicts:
            return NOT_SUPPORTED
        return next((verdict for verdict in verdicts if verdict != SUPPORTED), SUPPORTED)

    @property
    def regime(self) -> str:
        """How long the runs trained, of every data set where that differs; "" of what was measured once."""
        settings = [finding.setting for finding in self.findings if finding.setting]
        regimes = dict.fromkeys(setting.regime for setting in settings)
        if len(regimes) < 2:
            return next(iter(regimes), "")
        return " and ".join(dict.fromkeys(f"{setting.regime} on {setting.data}" for setting in settings))

    def at_most(self, finding: Finding) -> float:
        """What a finding that was measured once may not exceed, in its unit."""
        return self.claim.bound * (CARD_BYTES / 1e9 if finding.unit == "GB" else 1)

    @property
    def in_print(self) -> str:
        """The verdict with its regime, and the claim."""
        regime = f" at {self.regime}" if self.regime else ""
        place = self.claim.place.replace("Section ", r"\S")
        return rf"\textbf{{{self.verdict}{regime}}}: {self.claim.said} ({place})"


def judge(records: Mapping[str, Sequence[Record]], claims: Sequence[Claim] = CLAIMS) -> list[Judged]:
    """Every claim: once on the first of its studies that has runs, and once on every longer one that has them.

    Args:
        records: study -> its records; a study without any may be missing or empty.
    """
    records = {**records, REGIME: studies.over_epochs(records)}
    judged = []
    for claim in claims:
        study = next((name for name in claim.studies if records.get(name)), claim.studies[0])
        judged.append(Judged(claim, study, list(_findings(claim, study, records))))
        longer = [Judged(claim, name, list(_findings(claim, name, records))) for name in claim.longer]
        judged += [each for each in longer if each.findings]
    return judged


def first(judged: Iterable[Judged]) -> list[Judged]:
    """Every claim once, on the study that it is judged on whatever the others have."""
    return [each for each in judged if each.study not in each.claim.longer]


def _findings(claim: Claim, study: str, records: Mapping[str, Sequence[Record]]) -> Iterator[Finding]:
    found = records.get(study, ())
    if claim.rule == MEASURED:
        yield from _measured(claim, found)
    elif claim.measure == "downstream":
        yield from _downstream(claim, found, studies.rows(records.get(TRAINED, ())))
    else:
        yield from _compared(claim, studies.rows(found))


def _compared(claim: Claim, rows: Sequence[Row]) -> Iterator[Finding]:
    """One finding for each data set and contrast that has runs."""
    measure, findings, tests = MEASURES[claim.measure], [], []
    for data in studies.data_sets(row.data for row in rows):
        cells: dict[str, dict[int, Row]] = {}
        for row in rows:
            if row.data == data:
                cells.setdefault(AXES[claim.axis](row), {})[row.seed] = row
        values = {cell: {seed: measure.of(row) for seed, row in runs.items()} for cell, runs in cells.items()}
        for contrast in claim.contrasts:
            difference = statistics.contrast(contrast, values)
            if difference is None:
                continue
            reference = next(cell for cell, weight in contrast.items() if weight < 0)
            margin = RANK_MARGIN if claim.measure == "rank" else loss_margin(list(cells[reference].values()))
            tests.append(tested(claim.rule, difference, margin, lower=measure.lower))
            what = _in_print(claim, contrast) if len(claim.contrasts) > 1 else ""
            setting = _setting([run for cell in contrast for run in cells[cell].values()], cells)
            final = claim.measure == FINAL_LOSS
            part = studies.part(row for row in rows if row.data == data) if final else claim.measure
            setting = replace(setting, seeds=difference.n, part=part)
            found = replace(_finding(what, difference, measure.unit, margin), setting=setting)
            findings.append(replace(found, worse=is_worse(claim.rule, difference, margin, lower=measure.lower)))
    yield from _adjusted(findings, tests)


def _setting(runs: Sequence[Row], cells: Mapping[str, Mapping[int, Row]]) -> Setting:
    """Of the runs of one comparison among these cells of one data set."""
    steps = sorted({row.config["steps"] for row in runs})
    regime = studies.regime(row for cell in cells.values() for row in cell.values())
    shown = str(steps[0]) if len(steps) == 1 else f"{steps[0]}--{steps[-1]}"
    return Setting(data_named(runs[0].data), model_named(runs[0].model), steps=shown, regime=regime)


def _finding(comparison: str, d: statistics.Difference, unit: str, margin: float) -> Finding:
    """Without p and verdict, which depend on the other comparisons of the claim."""
    small = d.smallest_detectable()
    return Finding(comparison, d.mean, TOO_FEW_SEEDS, unit, d.low, d.high, margin=margin, smallest=small)


def _adjusted(
    findings: Sequence[Finding], tests: Sequence[tuple[float, bool]], undecided: str = TOO_FEW_SEEDS
) -> Iterator[Finding]:
    """The findings with p adjusted by Holm's method and the verdict.

    Args:
        tests: (p, refuted) of each.
        undecided: the verdict where the test neither supports nor refutes.
    """
    adjusted = statistics.holm([p for p, _ in tests])
    for finding, p, (_, refuted) in zip(findings, adjusted, tests, strict=True):
        verdict = SUPPORTED if p <= statistics.ALPHA else NOT_SUPPORTED if refuted else undecided
        yield replace(finding, p=p, verdict=verdict)


def loss_margin(reference: Sequence[Row]) -> float:
    """A twentieth of the mean decrease of the held-out loss, which is read before training too."""
    return LOSS_MARGIN * fmean(row.before - row.loss for row in reference)


def tested(rule: str, d: statistics.Difference, margin: float, *, lower: bool) -> tuple[float, bool]:
    """p of the rule's test, and whether the interval refutes the claim."""
    d = d if lower else _turned(d)
    if rule == SUPERIOR:
        return d.below(0.0), d.low > -margin
    if rule == NOT_INFERIOR:
        return d.below(margin), d.low > margin
    if rule == EQUIVALENT:
        return d.within(margin), d.low > margin or d.high < -margin
    raise ValueError(f"rule={rule!r} is not possible: it has no test")


def is_worse(rule: str, d: statistics.Difference, margin: float, *, lower: bool) -> bool:
    """Whether the whole interval lies on the side that contradicts the rule: of no difference, or of the margin."""
    limits = {SUPERIOR: 0.0, NOT_INFERIOR: margin}
    return rule in limits and (d if lower else _turned(d)).low > limits[rule]


def _turned(d: statistics.Difference) -> statistics.Difference:
    return replace(d, mean=-d.mean, low=-d.high, high=-d.low)


def _measured(claim: Claim, records: Sequence[Record]) -> Iterator[Finding]:
    """Steps of Llama 3-8B with 8,192 tokens: packages as documented beside each other, and ours beside our options."""
    if claim.measure == "card":
        for record in records:
            if (about(record, "family"), about(record, "version")) != CARD or record.config["tokens"] != CARD_TOKENS:
                continue
            used = record.measurements["reserved"] + record.measurements["context"]
            verdict = SUPPORTED if used <= claim.bound * CARD_BYTES else NOT_SUPPORTED
            yield Finding(r"$2\times1{,}024$ tokens", used / 1e9, verdict, "GB")
        return
    rows = cost.rows(records)
    (contrast,) = claim.contrasts
    family = next(cell for cell, weight in contrast.items() if weight < 0)
    for comparison, labels, version in PAIRS:
        ours = cost.one(rows, *labels, TOKENS)
        theirs = cost.one(rows, family, version, TOKENS) or cost.one(rows, family, version, TOKENS, tf32=False)
        if ours is not None and theirs is not None:
            ratio = RATIOS[claim.measure](ours) / RATIOS[claim.measure](theirs)
            yield Finding(comparison, ratio, SUPPORTED if ratio <= claim.bound else NOT_SUPPORTED, "times")


def _downstream(claim: Claim, records: Sequence[Record], trained: Sequence[Row]) -> Iterator[Finding]:
    """The mean over the tasks of the difference of two trained models; its error is that of the items alone.

    Args:
        trained: the runs that one seed was exported of.
    """
    (contrast,) = claim.contrasts
    ours, theirs = sorted(contrast, key=lambda cell: -contrast[cell])
    findings, tests = [], []
    for record in downstream.finished(records, downstream.TASKS):
        if (about(record, "method"), about(record, "baseline")) != (ours, theirs):
            continue
        difference = statistics.mean_of(
            [(test["difference"], test["standard_error"], test["items"]) for test in record.measurements.values()]
        )
        tests.append(tested(claim.rule, difference, DOWNSTREAM_MARGIN, lower=False))
        what = f"mean of {len(record.measurements)} tasks"
        runs = [row for row in trained if row.data == about(record, "data") and row.method in (ours, theirs)]
        alone = Setting(data_named(about(record, "data")), model_named(about(record, "model")))
        found = _finding(what, difference, "of items", DOWNSTREAM_MARGIN)
        found = replace(found, setting=_setting(runs, {"": dict(enumerate(runs))}) if runs else alone)
        findings.append(replace(found, worse=is_worse(claim.rule, difference, DOWNSTREAM_MARGIN, lower=False)))
    yield from _adjusted(findings, tests, TOO_FEW_ITEMS)


def _in_print(claim: Claim, contrast: Mapping[str, int]) -> str:
    cell = next(iter(contrast)).replace("_", " ")
    return f"$K={cell}$" if claim.axis == "inner_steps" else cell

"""The numbers of the section on the studies, as LaTeX macros for `paper.numbers`.

A study without records gives no macro at all: the text asks with \\ifstudy{Name} whether \\StudyNameSource exists and
says "not run" otherwise. Means are over seeds; lists go from the lowest loss up.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from paper.judge import claims, verdicts
from paper.numbers.caveats import (
    of_clipping,
    of_equal_time,
    of_frontier,
    of_inner_steps,
    of_methods,
    of_movement,
    of_scale,
)
from paper.numbers.equal_time import at_equal_time
from paper.numbers.matches import of_matches
from paper.numbers.regime import costs_of_blocks, gaps_of, of_regime
from paper.numbers.tasks import of_tasks
from paper.read import axes, frontier, gap, statistics, studies, tuning
from paper.read.formats import camel, interval
from paper.read.names import data_named, finished, named, source_of_all, sources
from paper.read.regime import USUAL, order_and_steps
from paper.read.studies import Row
from records import Record

STUDIES: dict[str, tuple[str, str]] = {
    name: ("train", name)
    for name in (
        *(
            "headline",
            "equal_time",
            *studies.REGIME,
            "regime_variants",
            "regime_orders",
            "regime_clipping",
            "regime_match",
            "movement",
            "movement_brief",
            "methods",
            "learning_rate",
            "order",
            "inner_steps",
            "partition",
            "state",
            "rank",
        ),
        *("outside_layers", "variants", "scale"),
    )
} | {
    "steps_alone": ("profile", "steps_alone"),
    "predicted_large": ("profile", frontier.PREDICTED),
    "measured_large": ("profile", frontier.MEASURED),
    "evaluated": ("evaluate", "downstream"),
    "downstream": ("compare", "downstream"),
    "tuned": ("tuning", "tuned"),
}
AXES = axes.AXES | {"methods": axes.Axis(lambda row: named(row.method), named("adamw"))}


def numbers(cost: Sequence[Record], **studied: Sequence[Record]) -> dict[str, str]:
    """Every macro that there are records for.

    Args:
        cost: records of the study of cost, which are needed.
        studied: study -> its records, may be empty.
    """
    present = {name: records for name, records in studied.items() if records}
    if over_epochs := studies.over_epochs(present):
        present = {name: records for name, records in present.items() if name not in studies.REGIME}
        present["regime"] = over_epochs
    macros = {f"Study{camel(name)}Source": source_of_all(records) for name, records in present.items()}
    for name in present:
        if runs := _trained(name, present):
            macros |= {f"Study{camel(name)}Seeds": studies.seeds(runs), f"Study{camel(name)}Part": studies.part(runs)}
    for name, axis in AXES.items():
        if name in present:
            rows = studies.rows(present[name])
            macros |= _axis(camel(name), studies.cells(rows, axis.cell), axis.reference or recommended(rows[0]))
    trained = [row for name in STUDIES for row in _trained(name, present)]
    if trained:
        macros |= _set_up(trained)
    for name in ("headline", "equal_time", "regime"):
        if name in present:
            rows = studies.rows(present[name])
            macros |= _main(camel(name), rows) | gaps_of(camel(name), rows)
    if "equal_time" in present:
        macros |= at_equal_time(*(present.get(name, ()) for name in ("equal_time", "steps_alone", "tuned")))
        macros |= of_equal_time(present["equal_time"], present.get("steps_alone", ()))
    if "regime" in present:
        costs = (present.get(name, ()) for name in ("predicted_large", "measured_large"))
        macros |= of_regime(present["regime"], *costs)
    if "regime_variants" in present:
        macros["StudyRegimeVariantsList"] = listed(_means(studies.rows(present["regime_variants"]), named_method))
    if "regime_orders" in present:
        macros |= _axis("RegimeOrders", studies.cells(studies.rows(present["regime_orders"]), order_and_steps), USUAL)
    if "regime_clipping" in present:
        macros["StudyRegimeClippingCosts"] = costs_of_blocks(studies.rows(present["regime_clipping"]))
    if "regime_match" in present:
        macros |= of_matches(present["regime_match"])
    if "movement" in present:
        macros |= of_movement(*(present.get(name, ()) for name in ("movement", "movement_brief")))
    if "headline" in present:
        macros |= of_clipping(present["headline"])
    if "methods" in present:
        macros |= of_methods(present["methods"], present.get("steps_alone", ()))
    if "inner_steps" in present:
        macros |= of_inner_steps(present["inner_steps"])
    if "learning_rate" in present:
        macros["StudyLearningRateDiverged"] = _diverged(present["learning_rate"])
    if "rank" in present:
        macros["StudyRankList"] = _ranks(studies.rows(present["rank"]))
    if "variants" in present:
        macros |= _variants(*(studied.get(name, ()) for name in frontier.STUDIES))
        macros |= of_frontier(studied, cost)
        macros |= _gap({name: studied.get(name, ()) for name in gap.STUDIES})
    if "tuned" in present:
        edges = [choice for choice in tuning.choices(present["tuned"]) if choice.at_edge]
        macros["StudyTunedChoices"] = str(len(list(tuning.choices(present["tuned"]))))
        macros["StudyTunedEdges"] = str(len(edges))
    if "evaluated" in present:
        macros |= of_tasks(present["evaluated"], present.get("downstream", ()))
    if "steps_alone" in present:
        macros |= _spread(present["steps_alone"])
    if "scale" in present:
        macros |= of_scale(present["scale"])
        macros["StudyScaleList"] = _gaps(studies.rows(present["scale"]))
        chosen = tuning.choices_by_model(present.get("tuned", ()))
        macros["StudyScaleChoices"] = str(len(chosen))
        macros["StudyScaleEdges"] = _edges(chosen)
    return macros | _claims(cost, studied)


def recommended(row: Row) -> str:
    """The cell of the K that the method's paper recommends."""
    return axes.steps_in_print(round(studies.recommended_inner_steps(row)))


def _trained(name: str, present: Mapping[str, Sequence[Record]]) -> list[Row]:
    return studies.rows(present.get(name, ())) if STUDIES.get(name, ("train",))[0] == "train" else []


def _set_up(rows: Sequence[Row]) -> dict[str, str]:
    """What all runs share but those at equal time, from the first."""
    first = rows[0]
    block = next((row for row in rows if row.value("method.inner_steps") is not None), None)
    return {
        "StudySteps": str(first.config["steps"]),
        "StudyBatch": str(first.config["batch_size"]),
        "StudyInnerSteps": str(block.value("method.inner_steps")) if block else "--",
    }


def _axis(name: str, cells: Mapping[str, Sequence[Row]], reference: str) -> dict[str, str]:
    """Of a study that varies one thing: the means, their spread, and what the comparisons could have found."""
    means = {cell: studies.loss(runs).mean for cell, runs in cells.items()}
    tests = studies.against({cell: studies.losses(runs) for cell, runs in cells.items()}, reference)
    macros = {
        f"Study{name}List": listed(means),
        f"Study{name}Spread": f"{max(means.values()) - min(means.values()):.3f}",
    }
    detectable = [test.difference.smallest_detectable() for test in tests.values()]
    macros[f"Study{name}Detectable"] = f"{max(detectable):.3f}" if detectable else "--"
    macros[f"Study{name}Differ"] = str(sum(test.p <= statistics.ALPHA for test in tests.values()))
    macros[f"Study{name}Compared"] = str(len(tests))
    margin = verdicts.loss_margin(cells[reference]) if reference in cells else None
    macros[f"Study{name}Margin"] = f"{margin:.3f}" if margin is not None else "--"
    return macros


def named_method(row: Row) -> str:
    """The method of a run in print."""
    return named(row.method)


def _means(rows: Sequence[Row], of: Callable[[Row], str]) -> dict[str, float]:
    return {cell: studies.loss(runs).mean for cell, runs in studies.cells(rows, of).items()}


def listed(means: Mapping[str, float]) -> str:
    """As in: LoRA (0.617), BAdam (0.684); the lowest first."""
    return ", ".join(f"{cell} ({means[cell]:.3f})" for cell in sorted(means, key=lambda cell: means[cell]))


def _main(name: str, rows: Sequence[Row]) -> dict[str, str]:
    """Of a comparison of methods on several data sets: their mean losses, the lowest first."""
    sentences = []
    for data, cells in studies.by_data(rows, lambda row: named(row.method)).items():
        means = {cell: studies.loss(runs).mean for cell, runs in cells.items()}
        sentences.append(f"on {data_named(data)} {listed(means)}")
    return {f"Study{name}List": "; ".join(sentences)}


def _diverged(records: Sequence[Record]) -> str:
    """How many runs of which method ended without a number."""
    lost = studies.groups(studies.diverged(records), lambda row: named(row.method))
    return ", ".join(f"{len(runs)} of {name}" for name, runs in lost.items()) or "none"


def _ranks(rows: Sequence[Row]) -> str:
    cells = studies.cells(rows, lambda row: named(row.method))
    means = {cell: statistics.mean([verdicts.rank(row) for row in runs]).mean for cell, runs in cells.items()}
    return ", ".join(
        f"{cell} ({100 * means[cell]:.0f}\\,\\%)" for cell in sorted(means, key=lambda cell: -means[cell])
    )


def _variants(*records: Sequence[Record]) -> dict[str, str]:
    """The best variant, and those that need no more than LoRA and reach its loss."""
    entries = [entry for entry in frontier.entries(*records) if entry.variant]
    best, within = entries[0], [named(entry.method) for entry in entries if entry.within]
    test = best.against.get(frontier.TARGET)
    undecided = sum(entry.within is None for entry in entries)
    return {
        "StudyVariantsCount": str(len(entries)),
        "StudyVariantsBest": named(best.method),
        "StudyVariantsBestLoss": f"{best.loss.mean:.3f}",
        "StudyVariantsBestGap": interval(test.difference) if test else "--",
        "StudyVariantsWithin": ", ".join(within) or "none",
        "StudyVariantsUndecided": str(undecided),
    }


def _gap(records: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """BAdam above LoRA and AdamW, and how many choices of which causes were tried for it."""
    gaps, causes = gap.gaps(records["methods"]), gap.causes(**records)
    choices = gap.choices(**records)
    better = [each for each in choices if each.pooled is not None and each.pooled <= statistics.ALPHA]
    better = [each for each in better if each.difference.mean < 0]
    additive = (
        f"Under the model loss = cell + seed + noise over all runs of these studies, each counted once, "
        f"{len(better)} choices of {len({each.name for each in better})} causes are better than BAdam after Holm's "
        "correction; the model was chosen after the runs, and it takes the noise of all cells for equal"
    )
    macros = {f"StudyVariantsGap{camel(name)}": interval(gaps[name]) if name in gaps else "--" for name in gap.GAPS}
    return macros | {
        "StudyVariantsGapSource": sources([finished(runs) for runs in records.values()]),
        "StudyVariantsGapSeeds": str(len({row.seed for row in studies.rows(records["variants"])})),
        "StudyVariantsGapChoices": str(sum(cause.number for cause in causes)),
        "StudyVariantsGapLargest": _largest(causes, gaps),
        "StudyVariantsGapPooled": f"{additive}." if gap.beside(choices) else "",
        "StudyVariantsGapSignificant": str(sum(cause.p <= statistics.ALPHA for cause in causes)),
    }


def _largest(causes: Sequence[gap.Cause], gaps: Mapping[str, statistics.Difference]) -> str:
    """The choice that closes most of the gap to AdamW, and how much of it."""
    if not causes or "adamw" not in gaps:
        return "--"
    share = -100 * causes[0].difference.mean / gaps["adamw"].mean
    return f"{share:.0f}\\,\\%, by {causes[0].choice}"


def _gaps(rows: Sequence[Row]) -> str:
    """BAdam minus AdamW at every depth."""
    depths = studies.groups(rows, lambda row: row.layers)
    parts = []
    for depth in sorted(depths):
        losses = {
            name: studies.losses(runs) for name, runs in studies.cells(depths[depth], lambda r: r.method).items()
        }
        if difference := statistics.contrast({"badam": 1, "adamw": -1}, losses):
            parts.append(f"{interval(difference)} with {depth} layers")
    return ", ".join(parts) or "--"


def _edges(chosen: Sequence[Mapping[str, Any]]) -> str:
    """Whose choices lie at the edge of their grid, and with how many layers."""
    at: dict[str, list[str]] = {}
    for choice in chosen:
        if choice["at_edge"]:
            cell = choice["cell"]
            at.setdefault(named(cell["method"]), []).append(str(cell["model.architecture.num_hidden_layers"]))
    return "; ".join(f"{name} with {', '.join(depths)} layers" for name, depths in at.items()) or "none"


def _spread(alone: Sequence[Record]) -> dict[str, str]:
    """How much the steps of one round differ, and the rounds of one method.

    Spread: the middle 80 % of the seconds over their median, in per cent: the median of all rounds.
    Rounds: the largest median of the rounds over the smallest, less one, in per cent: the median of the methods.
    """
    timed = [np.asarray(record.measurements["rounds"]) for record in finished(alone)]
    widths = [np.subtract(*np.percentile(each, (90, 10))) / np.median(each) for rounds in timed for each in rounds]
    medians = [np.median(rounds, axis=1) for rounds in timed if len(rounds) > 1]
    return {
        "StudyStepsAloneSpread": f"{100 * float(np.median(widths)):.0f}",
        "StudyStepsAloneRounds": f"{100 * float(np.median([m.max() / m.min() - 1 for m in medians] or [0])):.0f}",
        "StudyStepsAloneRepeated": str(len(medians)),
        "StudyStepsAloneTimed": str(max(len(each) for rounds in timed for each in rounds)),
    }


def _longer(judged: Sequence[verdicts.Judged], study: str) -> str:
    """What a study of more training says of the claims that it is put against."""
    there = [each for each in judged if each.study == study]
    if not there:
        return "not run"
    counted = Counter(each.verdict for each in there)
    few = counted[verdicts.TOO_FEW_SEEDS]
    return (
        f"at {there[0].regime}, of {len(there)} claims {counted[verdicts.SUPPORTED]} are supported and "
        f"{counted[verdicts.NOT_SUPPORTED]} are not" + (f"; {few} have too few seeds" if few else "")
    )


def _at(judged: verdicts.Judged) -> str:
    return f" at {judged.regime}" if judged.regime else ""


def _claims(cost: Sequence[Record], studied: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    used = {"cost": cost} | {name: studied.get(name, ()) for name in claims.STUDIES}
    judged = verdicts.judge(used)
    claimed = Counter(each.verdict for each in verdicts.first(judged))
    regimes = dict.fromkeys(each.regime for each in verdicts.first(judged) if each.regime)
    source_of_all = sources([finished(records) for records in used.values()])
    return {
        "ClaimsCount": str(claimed.total()),
        "ClaimsSupported": str(claimed[verdicts.SUPPORTED]),
        "ClaimsSupportedByCost": str(
            sum(each.verdict == verdicts.SUPPORTED and each.claim.rule == claims.MEASURED for each in judged)
        ),
        "ClaimsNotSupported": str(claimed[verdicts.NOT_SUPPORTED]),
        "ClaimsTooFew": str(claimed[verdicts.TOO_FEW_SEEDS] + claimed[verdicts.TOO_FEW_ITEMS]),
        "ClaimsWithout": f"; {claimed[verdicts.NOT_RUN]} were not run" if claimed[verdicts.NOT_RUN] else "",
        "ClaimsAt": f"at {' and '.join(regimes)}" if regimes else "of none that was run",
        "ClaimsAtEqualTime": _longer(judged, claims.EQUAL_TIME),
        "ClaimsAtRegime": _longer(judged, claims.REGIME),
        "ClaimsOrder": next(f"{each.verdict}{_at(each)}" for each in judged if each.claim.axis == "order"),
        "ClaimsSource": source_of_all,
        "ClaimsCostSource": sources([finished(cost)]),
    }

"""What limits the studies, in numbers, as macro name -> text: settings that a reader has to know beside a result."""

from collections.abc import Mapping, Sequence

from paper.read import frontier, movement, statistics, studies
from paper.read.cost import card_name
from paper.read.formats import interval
from paper.read.names import data_named, model_named, named, sources
from paper.read.studies import Row
from records import Record

LEAST, MOST = 50, 100
"""Bounds of the K that the readme of the method's authors recommends."""


def of_methods(methods: Sequence[Record], steps_alone: Sequence[Record]) -> dict[str, str]:
    """Who needs no more memory than LoRA and reaches its loss, and whose projections are never computed anew."""
    cells = studies.cells(studies.rows(methods), lambda row: row.method)
    seconds = studies.seconds_alone(steps_alone, cells)
    gaps = {name: runs[0].value("method.update_proj_gap") for name, runs in cells.items()}
    never = {name: gap for name, gap in gaps.items() if gap is not None and gap >= cells[name][0].config["steps"]}
    return {
        "StudyMethodsWithin": "; ".join(_within(cells, seconds)) or "none",
        "StudyMethodsBreadStep": f"{1e3 * seconds['bread']:.0f}\\,ms" if "bread" in seconds else "--",
        "StudyMethodsProjected": " and ".join(
            f"{named(name)} (every {gap} steps)" for name, gap in sorted(never.items())
        )
        or "none",
    }


def _within(cells: Mapping[str, Sequence[Row]], seconds: Mapping[str, float]) -> list[str]:
    """Methods with at most LoRA's mean loss and peak, each with its difference, memory and time beside LoRA's."""
    target = frontier.TARGET
    most = studies.peak(cells.get(target, ()))
    if most is None:
        return []
    losses = {name: studies.losses(runs) for name, runs in cells.items()}
    found = []
    for name, runs in cells.items():
        peak, difference = studies.peak(runs), statistics.contrast({name: 1, target: -1}, losses)
        if name == target or peak is None or peak > most or difference is None or difference.mean > 0:
            continue
        times = f", {1e3 * seconds[name]:.0f} against {1e3 * seconds[target]:.0f}\\,ms a step"
        found.append(
            f"{named(name)} ({interval(difference)} nats to LoRA, {peak / 1e9:.2f} against {most / 1e9:.2f}\\,GB"
            + (times if {name, target} <= seconds.keys() else "")
            + ")"
        )
    return found


def of_frontier(studied: Mapping[str, Sequence[Record]], cost: Sequence[Record]) -> dict[str, str]:
    """Who is within LoRA's box at 8B on each data set, and which records that is from."""
    predicted, measured = (list(studied.get(name, ())) for name in ("predicted_large", "measured_large"))
    shorter = (studied.get(name, ()) for name in ("variants", "methods"))
    sets = frontier.losses_of(studies.over_epochs(studied), *shorter)
    boxes = []
    for data, rows in sets.items():
        entries = frontier.large(rows, predicted, measured, cost)
        within = ", ".join(named(entry.method) for entry in entries if entry.within) or "none"
        undecided = sum(entry.within is None and entry.method != frontier.TARGET for entry in entries)
        untimed = f" ({undecided} cannot be told, because no step of theirs was timed)" if undecided else ""
        boxes.append(f"on {data_named(data)} {within}{untimed}")
    return {
        "StudyVariantsBox": "; ".join(boxes),
        "StudyVariantsCost": sources([predicted, measured or list(cost)]),
    }


def of_inner_steps(inner_steps: Sequence[Record]) -> dict[str, str]:
    """The K of the paper, n/(B D), that of its authors' readme, and how many visits that makes here."""
    row = studies.rows(inner_steps)[0]
    K = studies.recommended_inner_steps(row)
    readme = round(min(max(K, LEAST), MOST))
    return {
        "StudyInnerStepsRecommended": f"{K:.0f}",
        "StudyInnerStepsLeast": str(LEAST),
        "StudyInnerStepsMost": str(MOST),
        "StudyInnerStepsReadme": str(readme),
        "StudyInnerStepsVisits": f"{row.config['steps'] / readme:.1f}",
    }


def of_equal_time(equal_time: Sequence[Record], steps_alone: Sequence[Record]) -> dict[str, str]:
    """Where steps were timed and the runs made, how many steps those have, and whose lie out of their own range.

    The steps follow from means of step-wise medians of the rounds; the range is of the medians of single rounds.
    """
    rows = studies.rows(equal_time)
    steps = sorted({row.config["steps"] for row in rows})
    outside = []
    for data, cells in studies.by_data(rows).items():
        for name, rounds in studies.steps_by_round(cells, steps_alone, frontier.TARGET).items():
            if not min(rounds) <= cells[name][0].config["steps"] <= max(rounds):
                outside.append(f"{named(name)} on {data_named(data)}")
    cards = [card_name(records) if records else "--" for records in (steps_alone, equal_time)]
    return {
        "StudyEqualTimeSteps": f"{steps[0]} to {steps[-1]}",
        "StudyEqualTimeTimedOn": cards[0],
        "StudyEqualTimeRunOn": cards[1],
        "StudyEqualTimeOutside": ", ".join(outside) or "none",
    }


def of_movement(movement_runs: Sequence[Record], brief: Sequence[Record]) -> dict[str, str]:
    """BAdam's gap in per cent of AdamW's gain where AdamW moves least and where it moves most, for each model."""
    points = movement.points(studies.rows([*movement_runs, *brief]))
    parts = []
    for model in dict.fromkeys(point.model for point in points):
        here = [point for point in points if point.model == model]
        ends = [f"{100 * point.gap.mean:.0f}\\,\\% at a change of {100 * point.moved:.2g}\\,\\%" for point in here]
        parts.append(f"{model_named(model)}: {ends[0]}" + (f", {ends[-1]}" if len(ends) > 1 else ""))
    return {"StudyMovementEnds": "; ".join(parts) or "--", "StudyMovementPoints": str(len(points))}


def of_scale(scale: Sequence[Record]) -> dict[str, str]:
    """Steps that a layer gets from BAdam at every depth: all depths have as many steps."""
    shares = {row.layers: row.config["steps"] / row.layers for row in studies.rows(scale)}
    return {"StudyScaleShares": ", ".join(f"{share:.2g} with {depth}" for depth, share in sorted(shares.items()))}


def of_clipping(headline: Sequence[Record]) -> dict[str, str]:
    """In how many per cent of the steps the gradient of SGD's rule was clipped, with blocks and without."""
    shares = []
    for data, cells in studies.by_data(studies.rows(headline)).items():
        full, block = (_clipped(cells.get(name, ())) for name in ("sgd", "bsgd"))
        if full is not None and block is not None:
            shares.append(f"{100 * full:.0f}\\,\\% against {100 * block:.0f}\\,\\% on {data_named(data)}")
    return {"StudyHeadlineClipped": " and ".join(shares) or "--"}


def _clipped(runs: Sequence[Row]) -> float | None:
    """Share of steps whose gradient was longer than the bound, None where there is no run or no bound."""
    bound = runs[0].config.get("max_grad_norm") if runs else None
    if bound is None:
        return None
    norms = [norm for row in runs for norm in row.steps["grad_norm"] if norm is not None]
    return sum(norm > bound for norm in norms) / len(norms) if norms else None

"""The numbers of the section on when block descent matches Adam, as macro name -> text."""

from collections.abc import Sequence

from paper.numbers.audit import listed
from paper.read.names import source
from records import Record


def numbers(curves: Sequence[Record]) -> dict[str, str]:
    """Name and value of every macro."""
    (record,) = curves
    setting, matched = record.config["match"]["setting"], record.measurements["match"]
    rows, floor = matched["penalties"], matched["floor"]
    once, often = ([row for row in rows if row["inner_steps"] == K] for K in _ends(rows))
    best = min(range(len(floor["inner_steps"])), key=floor["fixed"].__getitem__)
    return {
        "MatchSource": source([record]),
        "MatchBlocks": str(setting["blocks"]),
        "MatchCoordinates": str(setting["blocks"] * setting["size"]),
        "MatchShare": f"{setting['share']:g}",
        "MatchRates": str(len(setting["rates"])),
        "MatchGroups": str(setting["groups"]),
        "MatchRuns": str(setting["runs"]),
        "MatchCouplings": listed([f"{row['coupling']:g}" for row in once]),
        "MatchPredictedOnce": listed([f"{row['predicted']:.1f}" for row in once]),
        "MatchMeasuredOnce": listed([f"{row['measured']:.1f}" for row in once]),
        "MatchOften": str(often[0]["inner_steps"]),
        "MatchPredictedOften": listed([f"{row['predicted']:.1f}" for row in often]),
        "MatchMeasuredOften": listed([f"{row['measured']:.1f}" for row in often]),
        "MatchAdamOnce": _range([row["adam"]["gradients"] for row in once]),
        "MatchAdamOften": _range([row["adam"]["gradients"] for row in often]),
        "MatchFloorFirst": f"{floor['fixed'][0]:.2f}",
        "MatchFloorBest": f"{floor['fixed'][best]:.2f}",
        "MatchFloorBestSteps": str(floor["inner_steps"][best]),
        "MatchFloorLast": f"{floor['fixed'][-1]:.2f}",
        "MatchFloorLastSteps": str(floor["inner_steps"][-1]),
        "MatchFloorGrowing": f"{floor['growing'][-1]:.2f}",
    }


def _ends(rows: Sequence[dict]) -> tuple[int, int]:
    steps = [row["inner_steps"] for row in rows]
    return min(steps), max(steps)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f}"

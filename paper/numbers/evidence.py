"""The numbers of the section "What the checks show", as macro name -> text."""

from collections.abc import Sequence
from typing import Any

from paper.numbers.audit import listed
from paper.read import theorems
from paper.read.formats import thousands
from paper.read.names import source
from records import Record


def numbers(theory: Sequence[Record], worst_case: Sequence[Record], curves: Sequence[Record]) -> dict[str, str]:
    (worst,), (curve,) = worst_case, curves
    return {
        "TheoryBoundsSource": source(theory),
        "TheoryWorstSource": source([worst]).replace("_", r"\_"),
        "TheoryCurvesSource": source([curve]),
        **_bounds(theory),
        **_worst(worst.measurements),
        **_curves(curve.measurements),
    }


def _bounds(theory: Sequence[Record]) -> dict[str, str]:
    groups = theorems.by_bound(theory)
    used = [record for group in groups.values() for record in group]
    proved = {bound: group for bound, group in groups.items() if not theorems.refuted(group)}
    false = [bound for bound, group in groups.items() if theorems.verdict(group) == "refuted"]
    controls = [control for group in groups.values() for control in theorems.controls(group)]
    lines_of = {bound: theorems.lines(group) for bound, group in proved.items()}
    attained = [
        ratio for lines in lines_of.values() for ratio in theorems.inequalities(lines).values() if ratio >= 0.99
    ]
    needed = theorems.terms(record for group in proved.values() for record in group)
    claims, resolved = theorems.inequality_checks(line for lines in lines_of.values() for line in lines.values())
    return {
        "TheoryBoundsTier": " and ".join(sorted({theorems.parts(record)[2] for record in used})),
        "TheoryBoundsProved": str(len(proved)),
        "TheoryBoundsHold": str(sum(theorems.verdict(group) == "holds" for group in proved.values())),
        "TheoryBoundsRefuted": str(len(false)),
        "TheoryBoundsFamilies": str(len({theorems.parts(record)[1] for record in used})),
        "TheoryBoundsLines": str(sum(map(len, lines_of.values()))),
        "TheoryBoundsChecks": thousands(sum(line["checks"] for lines in lines_of.values() for line in lines.values())),
        "TheoryBoundsClaims": thousands(claims),
        "TheoryBoundsResolved": thousands(resolved),
        "TheoryBoundsTerms": str(len(needed)),
        "TheoryBoundsTermsNeeded": str(sum(needed.values())),
        "TheoryBoundsInstances": thousands(
            sum(len(record.measurements["instances"]["ratio"]) for group in proved.values() for record in group)
        ),
        "TheoryBoundsViolations": str(
            sum(record.measurements["violations"] for group in proved.values() for record in group)
        ),
        "TheoryBoundsPrecise": thousands(sum(r.measurements["precise"]["instances"] for r in used)),
        "TheoryBoundsControls": str(len(controls)),
        "TheoryBoundsRejected": str(sum(control["rejected"] for control in controls)),
        "TheoryBoundsInequalities": str(sum(len(theorems.inequalities(lines)) for lines in lines_of.values())),
        "TheoryBoundsAttained": str(len(attained)),
    }


def _worst(measured: dict[str, Any]) -> dict[str, str]:
    epochs, triangular, steps, descent = (measured[key] for key in ("epochs", "triangular", "inner_steps", "descent"))
    certificates = measured["certificates"]
    narrow, wide = min(descent["certified"], key=int), max(descent["certified"], key=int)
    return {
        "TheoryWorstMostBlocks": str(epochs["blocks"][-1]),
        "TheoryWorstEpoch": f"{epochs['worst_case'][-1]:.2f}",
        "TheoryWorstTheorem": f"{epochs['theorem'][-1]:.1f}",
        "TheoryWorstFactor": f"{epochs['theorem'][-1] / epochs['worst_case'][-1]:.1f}",
        "TheoryWorstLemma": f"{triangular['worst_case'][-1]:.2f}",
        "TheoryWorstTau": f"{triangular['tau'][-1]:.2f}",
        "TheoryWorstRoot": f"{triangular['root'][-1]:.2f}",
        "TheoryWorstMostSteps": str(steps["inner_steps"][-1]),
        "TheoryWorstFirst": f"{steps['long']['worst_case'][0]:.2f}",
        "TheoryWorstLong": f"{steps['long']['worst_case'][-1]:.2f}",
        "TheoryWorstShort": f"{steps['short']['worst_case'][-1]:.2f}",
        "TheoryWorstCertificates": str(len(certificates)),
        "TheoryWorstVerified": str(sum(row["verified"] for row in certificates)),
        "TheoryWorstMultipliers": str(max(row["multipliers"] for row in certificates)),
        "TheoryWorstSeconds": f"{sum(row['seconds'] for row in certificates):.1f}",
        "TheoryWorstDescentSteps": str(descent["inner_steps"][-1]),
        "TheoryWorstLimit": f"{descent['theorem'][-1]:.2f}",
        "TheoryWorstNarrow": narrow,
        "TheoryWorstNarrowStep": f"{descent['certified'][narrow][-1]:.2f}",
        "TheoryWorstWide": wide,
        "TheoryWorstWideStep": f"{descent['certified'][wide][-1]:.2f}",
    }


def _curves(measured: dict[str, Any]) -> dict[str, str]:
    floor, contraction, l1 = measured["floor"], measured["contraction"], measured["l1"]
    p = "0.3"
    rows = [row for row in floor["simulated"] if f"{row['p']:g}" == p]
    first = min(floor["inner_steps"])
    close = min((row for row in rows if row["inner_steps"] == first), key=lambda row: row["alpha"])
    far = max(rows, key=lambda row: (row["inner_steps"], row["alpha"]))
    gamma = max(contraction["exact"], key=float)
    K, maps = 100, measured["vacuous"]["maps"]
    log = min(measured["vacuous"]["log_eps"])
    row = measured["vacuous"]["log_eps"].index(log)
    needed = {
        name: maps[name]["values"][row][maps[name]["inner_steps"].index(K)] for name in maps if maps[name]["epochs"]
    }
    return {
        "TheoryNormSteps": listed([str(K) for K in l1["inner_steps"]]),
        "TheoryNormConstants": listed([f"{constant:.1f}" for constant in l1["constant"]]),
        "TheoryFloorChance": p,
        "TheoryFloorFirst": f"{floor['zero'][p][0]:.3f}",
        "TheoryFloorLastSteps": str(floor["inner_steps"][-1]),
        "TheoryFloorLast": f"{floor['zero'][p][-1]:.3f}",
        "TheoryFloorLastBound": f"{floor['bound'][p][-1]:.3f}",
        "TheoryFloorAlpha": f"{close['alpha']:g}",
        "TheoryFloorSimulated": f"{close['mean']:.3f}",
        "TheoryFloorFarSteps": str(far["inner_steps"]),
        "TheoryFloorFarAlpha": f"{far['alpha']:g}",
        "TheoryFloorFarMean": f"{far['mean']:.3f}",
        "TheoryFloorFarError": f"{far['error']:.3f}",
        "TheoryContractionGamma": gamma,
        "TheoryContractionFirst": f"{contraction['exact'][gamma][0]:.2f}",
        "TheoryContractionLast": f"{contraction['exact'][gamma][-1]:.2f}",
        "TheoryContractionMinimisation": f"{contraction['minimisation']:.2f}",
        "TheoryVacuousBlocks": str(measured["vacuous"]["blocks"]),
        "TheoryVacuousCoordinates": thousands(measured["vacuous"]["coordinates"]),
        "TheoryVacuousSteps": str(K),
        "TheoryVacuousEps": f"10^{{{log:g}}}",
        "TheoryVacuousBPlus": _power(needed["b1_plus"]),
        "TheoryVacuousBTwo": _power(needed["b2"]),
        "TheoryVacuousPublished": _power(needed["published"]),
    }


def _power(log: float | None) -> str:
    """log10 of a number of block epochs, for math mode: whole up to 100, then with one digit."""
    if log is None:
        return r"\infty"
    if log < 2:
        return f"{10**log:.0f}"
    mantissa, exponent = f"{10**log:.1e}".split("e")
    return rf"{mantissa}\cdot10^{{{int(exponent)}}}"

"""Slack maps: the best ratio of the epoch form that the adversary finds in every cell of a grid of two parameters.

A1: coupling and K, for some gamma. Two blocks of two coordinates with L_1 = L_2 = 1 and ||A_12||_2 = coupling, so that
the constant of a cell is the same for all its matrices; the rest of the matrix is searched, the start is the worst one
for it, exactly.

B1+: a/a_max (K = 1) or K (a/a_max fixed) and eps/G, G = G_t of the theorem at the start. Two blocks of one coordinate;
matrix and direction of the start are searched.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from theory.adversary.exact import worst_start
from theory.adversary.search import Archive, Target, maximise
from theory.adversary.spaces import Axis, Point, matrix_axes, start_axes
from theory.adversary.targets import pair
from theory.bounds.a1 import A1
from theory.bounds.b1_plus import B1Plus
from theory.numbers import Array
from theory.problems.quadratic import Quadratic

ANGLE = (0.0, np.pi)
COUPLED = (Axis("first", 0, 1), Axis("second", 0, 1), Axis("share"), Axis("turn1", *ANGLE), Axis("turn2", *ANGLE))
"""Where the lower eigenvalue of either diagonal block lies between the coupling and 1; second singular value of A_12
in units of the first; rotations of its singular vectors."""

BETAS = (0.9, 0.999)


def rotation(angle: float) -> Array:
    """Rotation of the plane."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def coupled(point: Point) -> Quadratic:
    """The matrix of the module's text for A1 at the point, which also has coupling, gamma and inner_steps."""
    c = point["coupling"]
    low = min(1.01 * c, 1.0) + 1e-3  # above ||A_12||, so that the matrix is positive definite
    blocks = [np.diag([1.0, low + (1 - low) * point[name]]) for name in ("first", "second")]
    cross = rotation(point["turn1"]) @ np.diag([c, c * point["share"]]) @ rotation(point["turn2"])
    A = np.block([[blocks[0], cross], [cross.T, blocks[1]]])
    problem = Quadratic.from_matrix(A, sizes=[2, 2], start=np.ones(4))
    setting = {name: point[name] for name in ("gamma", "inner_steps", "order")}
    return Quadratic.from_matrix(A, sizes=[2, 2], start=worst_start(problem, setting))


def scaled(point: Point) -> Quadratic:
    """Two blocks of one coordinate and a start at which G_t = sqrt(2 L_max (f - f*)) is 1."""
    problem = pair(point)
    G = np.sqrt(2 * problem.L_i.max() * problem.gap(problem.start))
    return Quadratic.from_matrix(problem.matrix, sizes=[1, 1], start=problem.start / G)


def cell(kind: str, values: Mapping[str, Any]) -> Target:
    """The target of one cell.

    Args:
        values: what the cell holds fixed.
    """
    fixed = {"epochs": 1, "order": "cyclic", **values}
    if kind == "a1":
        setting = {name: value for name, value in fixed.items() if name != "coupling"}
        return Target(
            f"a1 {values}", A1(), lambda point: coupled({**point, **fixed}), COUPLED, (), setting, ("epoch",)
        )
    setting = {"betas": BETAS, "inner_steps": 1, **fixed}
    axes = matrix_axes(2) + start_axes(2)
    return Target(f"b1_plus {values}", B1Plus(), scaled, axes, (), setting, ("B1+",))


def row(kind: str, cells: list[dict[str, Any]], budget: int, seed: int) -> dict[str, Any]:
    """The best ratio of every cell, how many instances that took, and the violations of the true theorem."""
    total, ratios = Archive(), []
    for values in cells:
        target, archive = cell(kind, values), Archive()
        ratio, _ = maximise(target, target.lines, archive, budget=budget, seed=seed, stop=1 - 1e-6)
        ratios.append(float(f"{ratio:.6g}"))
        total.evaluations += archive.evaluations
        total.violations += archive.violations
    return {"ratios": ratios, "evaluations": total.evaluations, "violations": total.violations}


def grids(grid: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The maps: kind, what is fixed, names and values of both axes (x, y)."""
    maps = [
        {
            "kind": "a1",
            "fixed": {"gamma": gamma},
            "x": "coupling",
            "y": "inner_steps",
            "xs": grid["coupling"],
            "ys": grid["inner_steps"],
        }
        for gamma in grid["gamma"]
    ]
    maps.append(
        {
            "kind": "b1_plus",
            "fixed": {"inner_steps": 1},
            "x": "eps",
            "y": "fraction",
            "xs": grid["eps"],
            "ys": grid["fraction"],
        }
    )
    maps.append(
        {
            "kind": "b1_plus",
            "fixed": {"fraction": 0.5},
            "x": "eps",
            "y": "inner_steps",
            "xs": grid["eps"],
            "ys": grid["inner_steps"],
        }
    )
    return maps


def cells_of(item: Mapping[str, Any], y: Any) -> list[dict[str, Any]]:
    """The cells of one row of a map."""
    return [{**item["fixed"], item["y"]: y, item["x"]: x} for x in item["xs"]]

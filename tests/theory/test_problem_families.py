"""Every family of conf/problem: no adversary refutes its constants, C holds what it must, bad values are refused."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from tests.theory.families import NAMES, family, instances, showcase
from theory.bounds.triangular import triangular_constant
from theory.problems import __main__ as entry
from theory.problems.__main__ import table
from theory.problems.sampling import compare, hessians, inside_points, sampled

LOCAL = {"deep_linear", "expcosh", "matfac", "mlp", "rosenbrock"}  # C is not R^d


def cases(name: str) -> list[Any]:
    """The showcase and four instances spread over the sweep, the last one included."""
    every = instances(name)
    return [showcase(name), *every[:: -max(1, len(every) // 4)][:4]]


CASES = pytest.mark.parametrize(
    "some", [slice(2), pytest.param(slice(2, None), marks=pytest.mark.slow)], ids=["two", "others"]
)


def violations(problem: Any) -> set[str]:
    """Constants that the adversary refutes, up to rounding."""
    size = {"-f_star": 1e-12 * float(problem.value_scale(problem.start)), "-pl": 1e-7 * problem.pl}
    return {
        constant
        for constant, bound, found in compare(problem, points=48, rounds=6)
        if not found <= bound + size.get(constant, 1e-9 * problem.L)
    }


@CASES
@pytest.mark.parametrize("name", NAMES)
def test_an_adversary_does_not_refute_the_constants(name: str, some: slice) -> None:
    for problem in cases(name)[some]:
        assert violations(problem) == set(), problem.parameters
        assert problem.mu >= -problem.L
        assert np.array_equal(problem.L_i, np.diag(problem.L_ij))
        assert np.array_equal(problem.L_ij, problem.L_ij.T)


@pytest.mark.parametrize("name", ["rosenbrock", "plsin", "logistic"])
def test_the_adversary_refutes_constants_that_are_too_small(name: str) -> None:
    true = showcase(name)
    found = sampled(true, points=48, rounds=6)
    for constant in ("L", "mu", "pl", "f_star", "L_ij"):
        false = copy.copy(true)
        if constant == "L":
            false.L, false.mu = 0.99 * found["L"], -10 * found["L"]
        elif constant == "L_ij":
            false.L_ij = true.L_ij.copy()
            false.L_ij[0, 1] = false.L_ij[1, 0] = 0.99 * found["L_01"]
        else:
            false.__dict__[constant] = -found[f"-{constant}"] + 0.01 * (1 + abs(found[f"-{constant}"]))
        assert violations(false) >= {
            {"mu": "-mu", "pl": "-pl", "f_star": "-f_star", "L_ij": "L_01"}.get(constant, "L")
        }
    monkey = copy.copy(true)
    monkey.L_ij = 0.5 * true.L_ij / np.linalg.norm(np.tril(true.L_ij, -1), 2) * found["Lambda"]
    assert "Lambda" in violations(monkey)


@CASES
@pytest.mark.parametrize("name", NAMES)
def test_lambda_covers_whole_epochs(name: str, some: slice) -> None:
    """Lemma T with finite displacements u, along which every row sees another Hessian."""
    for problem in cases(name)[some]:
        generator = np.random.default_rng(4)
        order = generator.permutation(len(problem.sizes))
        x, y = inside_points(problem, 400, generator).reshape(2, 200, -1)
        path = [x]
        for i in order:
            path.append(path[-1].copy())
            path[-1][:, problem.slices[i]] = y[:, problem.slices[i]]
        valid = np.all([problem.inside(point) for point in path], axis=0)
        first, moved = problem.gradient(x), np.zeros(len(x))
        for i, point in zip(order, path, strict=False):
            moved += ((problem.gradient(point) - first)[:, problem.slices[i]] ** 2).sum(axis=1)
        limit = triangular_constant(problem, order) * np.linalg.norm(y - x, axis=1)
        assert valid.any()
        assert np.all(np.sqrt(moved[valid]) <= limit[valid] * (1 + 1e-9) + 1e-9)


@CASES
@pytest.mark.parametrize("name", NAMES)
def test_the_minimum_is_above_f_star_and_the_sublevel_set_within_the_radius(name: str, some: slice) -> None:
    for problem in cases(name)[some]:
        generator = np.random.default_rng(5)
        starts = [problem.start, *inside_points(problem, 3, generator)]
        found = [
            minimize(problem.value, x, jac=problem.gradient, method="BFGS", options={"gtol": 1e-9}) for x in starts
        ]
        best = min(found, key=lambda result: result.fun)
        assert problem.f_star <= best.fun + 1e-12 * problem.value_scale(best.x)
        centre = problem.minimiser if problem.minimiser is not None else best.x
        if problem.minimiser is not None:
            assert np.linalg.norm(problem.gradient(centre)) <= 1e-10 * problem.gradient_scale(problem.start)
            assert problem.value(centre) <= best.fun + 1e-9 * problem.value_scale(best.x)
        farthest = max(farthest_on_rays(problem, centre, generator))
        assert farthest <= problem.radius * (1 + 1e-9)
        assert farthest >= np.linalg.norm(problem.start - centre) * (1 - 1e-9)


def farthest_on_rays(problem: Any, centre: np.ndarray, generator: np.random.Generator) -> Iterator[float]:
    """||x - centre|| of the last x with f(x) <= f(x^0) on a grid of each ray, x^0 among them."""
    level = problem.value(problem.start)
    eigenvectors = np.linalg.eigh(hessians(problem, centre[None])[0])[1].T
    directions = [problem.start - centre, *eigenvectors, *-eigenvectors, *generator.standard_normal((20, len(centre)))]
    for direction in directions:
        unit = direction / np.linalg.norm(direction)
        lengths = np.linalg.norm(problem.start - centre) * np.linspace(0, 20, 2001)  # holds the start itself
        points = centre + lengths[:, None] * unit
        with np.errstate(over="ignore"):
            within = problem.value(points) <= level * (1 + 1e-12) + 1e-12
        yield float(lengths[within].max(initial=0.0))


@pytest.mark.parametrize("name", ["quadratic", "nesterov"])
def test_the_radius_of_quadratics_is_attained(name: str) -> None:
    """So that the test above would refute a smaller one; the grid of a ray has steps of |x^0 - x*|/100."""
    problem = showcase(name)
    farthest = max(farthest_on_rays(problem, problem.minimiser, np.random.default_rng(5)))
    assert farthest >= problem.radius - np.linalg.norm(problem.start - problem.minimiser) / 99


@CASES
@pytest.mark.parametrize("name", NAMES)
def test_c_is_convex_and_holds_the_runs_of_descent_methods(name: str, some: slice) -> None:
    for problem in cases(name)[some]:
        generator = np.random.default_rng(6)
        assert problem.inside(problem.start)
        points = inside_points(problem, 200, generator)
        share = generator.uniform(size=(100, 1))
        assert problem.inside(share * points[:100] + (1 - share) * points[100:]).all()
        assert problem.inside(problem.start + 1e6) != (name in LOCAL)
        path = [x := problem.start]
        for step in range(40 * len(problem.sizes)):
            i = step % len(problem.sizes)
            path.append(x := x.copy())
            x[problem.slices[i]] -= 1.9 / problem.L_i[i] * problem.gradient(x)[problem.slices[i]]
            assert problem.inside(x)
        assert problem.decrease(problem.start, x) > 0
        # The sublevel set of the start lies in C, also far from the run.
        noise = generator.standard_normal((4000, len(x))) * 10 ** generator.uniform(-2, 1, (4000, 1))
        around = np.array(path)[generator.integers(len(path), size=4000)] + noise
        with np.errstate(over="ignore"):
            low = problem.value(around) <= problem.value(problem.start)
        assert low.sum() > 100
        assert problem.inside(around[low]).all()


@pytest.mark.parametrize("name", NAMES)
def test_families_identify_their_instances(name: str) -> None:
    sweep = family(name, seeds=2)
    problems = list(sweep.instances())
    rows = [problem.parameters for problem in problems]
    assert len({json.dumps(row) for row in rows}) == len(rows)
    assert len({tuple(row) for row in rows}) == 1, "columns of a record"
    assert {"num_blocks", "seed"} <= rows[0].keys()
    for problem, again in zip(problems, sweep.instances(), strict=True):
        assert np.array_equal(problem.start, again.start)
        assert sum(problem.sizes) == len(problem.start) <= 16
        assert len(problem.sizes) == problem.parameters["num_blocks"]


def test_the_command_prints_a_row_for_each_constant() -> None:
    rows = table("rosenbrock")
    assert [row.split()[1] for row in rows] == ["L", "mu", "L_00", "L_01", "L_11", "Lambda", "pl", "f_star"]
    assert float(rows[4].split()[-1]) == pytest.approx(1, abs=1e-3)  # d2_yy = 2b everywhere


def test_the_command_refuses_an_unknown_family_and_takes_one_twice_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["theory.problems", "rosenbrock", "rosenbrocks"])
    assert entry.main() == 2
    assert "error: problem='rosenbrocks' is not one of bilinear, deep_linear" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["theory.problems", "rosenbrock", "rosenbrock"])
    assert entry.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 9


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("quadratic", {"condition": 1e14}, "condition=1.* float64 certifies it up to"),
        ("plsin", {"condition": 1e14}, "condition=1.* float64 certifies it up to"),
        ("nesterov", {"condition": 1e14}, "condition=1.* float64 certifies it up to"),
        (
            "quadratic",
            {"condition": 1e12, "heterogeneity": 1e6, "coupling": 1.0},
            "condition=1.*the eigen",
        ),
        ("finite_sum", {"condition": 1e9}, "condition=1000000000.0 is not possible"),
        ("finite_sum", {"condition": float("inf")}, "condition=inf"),
        ("finite_sum", {"dominance": "0.5"}, "dominance='0.5'"),
        ("deep_linear", {"num_blocks": 1}, "num_blocks=1 .* at least 2 layers"),
        ("deep_linear", {"lam": 0.0}, "lam=0.0 .* above 0"),
        ("deep_linear", {"width": 0}, "width=0"),
        ("expcosh", {"height": 1.0}, "height=1.0 .* above 1"),
        ("expcosh", {"terms": 5}, "terms=5 .* at least 6"),
        ("huber", {"delta": -1.0}, "delta=-1.0"),
        ("huber", {"samples": 5}, "samples=5 .* at least 6"),
        ("logistic", {"ridge": 0.0}, "ridge=0.0 .* above 0"),
        ("logistic", {"samples": 2.5}, "samples=2.5"),
        ("matfac", {"num_blocks": 3}, "num_blocks=3 .* one of 1, 2, 4"),
        ("matfac", {"shape": [3]}, r"shape=\[3\]"),
        ("matfac", {"rank": 0}, "rank=0"),
        ("matfac", {"lam": float("inf")}, "lam=inf"),
        ("mlp", {"num_blocks": 5}, "num_blocks=5 .* one of 1, 2, 4"),
        ("mlp", {"lam": True}, "lam=True"),
        ("nesterov", {"condition": 1.0}, "condition=1.0 .* above 1"),
        ("nesterov", {"sizes": []}, r"sizes=\[\]"),
        ("plsin", {"condition": float("nan")}, "condition=nan"),
        ("quadcos", {"amplitude": 0}, "amplitude=0"),
        ("quadcos", {"terms": "6"}, "terms='6'"),
        ("quadratic", {"coupling": 2.0}, "coupling=2.0"),
        ("rosenbrock", {"num_blocks": 3}, "num_blocks=3 .* one of 1, 2"),
        ("rosenbrock", {"steepness": 0.0}, "steepness=0.0"),
    ],
)
def test_bad_arguments_are_refused_with_their_value(name: str, change: dict[str, Any], message: str) -> None:
    problem, example = type(family(name)).problem, family(name).example
    problem(**example)
    with pytest.raises(ValueError, match=message):
        problem(**{**example, **change})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("plsin", {"num_blocks": [0]}, "num_blocks=0"),
        ("plsin", {"num_blocks": 2}, "num_blocks=2 .* list"),
        ("plsin", {"block_sizes": [2, 1]}, r"block_sizes=\[2, 1\] .* list of lists"),
        ("plsin", {"block_sizes": [[]]}, r"block_sizes=\[\[\]\]"),
        ("plsin", {"condition": 2.0}, "condition=2.0 .* list"),
        ("plsin", {"condition": []}, r"condition=\[\]"),
        ("plsin", {"condition": [0.5]}, "condition=0.5"),
        ("plsin", {"seeds": 0}, "seeds=0"),
        ("rosenbrock", {"num_blocks": [3]}, "num_blocks=3"),
        ("rosenbrock", {"example": {"typo": 1}}, "example=.*typo"),
    ],
)
def test_sweeps_are_checked_when_they_are_made(name: str, change: dict[str, Any], message: str) -> None:
    sweep = family(name)
    with pytest.raises(ValueError, match=message):
        type(sweep)(**{**vars(sweep), **change})

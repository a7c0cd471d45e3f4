"""Worst cases by semidefinite programming: known values, PEPit, closed forms, refusals, the record."""

import json
import math
import warnings
from fractions import Fraction
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import records
from theory.bounds.a1 import kappa
from theory.worst_case import Case, SolverError, identity, sdp, solve, worst_case
from theory.worst_case.forms import Form, combine
from theory.worst_case.tables import largest_step, recursive_constant, step_limit


def fractions(*values: int | str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, values))


def sector(measure: str, blocks: int, steps: int, step: str, ratio: str) -> Case:
    return Case(measure, blocks, steps, 1, "sector", Fraction(step), Fraction("9/10"), Fraction(ratio))


@pytest.mark.parametrize("gamma", ["1/4", "1", "3/2", "19/10"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_one_block_gives_kappa(gamma: str, steps: int) -> None:
    found = worst_case(Case("epoch", 1, steps, step=Fraction(gamma)))
    theorem = 2 / kappa(float(Fraction(gamma)), steps)
    if gamma in ("1/4", "1") or steps == 1:
        assert found == pytest.approx(theorem, rel=1e-5)
    else:  # for long steps the theorem's kappa_K is a bound, not the worst case
        assert 0.6 * theorem < found < theorem


@pytest.mark.parametrize(("blocks", "expected"), [(2, 2.7553), (3, 3.0220), (4, 3.2336), (8, 3.8335)])
def test_block_epochs(blocks: int, expected: float) -> None:
    found = worst_case(Case("epoch", blocks))
    assert found == pytest.approx(expected, abs=1e-4)
    assert found < recursive_constant(blocks)


@pytest.mark.parametrize(("blocks", "expected"), [(2, 1.0), (4, 1.253), (8, 1.474)])
def test_lemma_t(blocks: int, expected: float) -> None:
    assert math.sqrt(worst_case(Case("triangular", blocks, rule="free"))) == pytest.approx(expected, abs=1e-3)


def test_many_long_steps_hurt_and_many_short_steps_do_not() -> None:
    long = [worst_case(Case("epoch", 2, K)) for K in (1, 2, 4)]
    short = [worst_case(Case("epoch", 2, K, step=Fraction(1, K))) for K in (1, 2, 4)]
    assert long == pytest.approx([2.7553, 3.1084, 4.6390], abs=1e-4)
    assert short == pytest.approx([2.7553, 2.6568, 2.6298], abs=1e-4)


def momentum_theorem(steps: int, step: float, decay: float) -> float:
    """1/coef with theta = 0 for momentum with reset and one block, L = 1; the derivation of theory.bounds."""
    p = 1 - decay ** np.arange(1, steps + 1)
    weights = np.array(
        [[decay ** (k - j) * p[j] / p[k] if j < k else 0.0 for j in range(steps)] for k in range(steps)]
    )
    sigma = np.linalg.norm(np.sqrt(p)[:, None] * weights * np.sqrt(p), 2)
    drift = np.sum(p[1:] * np.cumsum(p)[:-1])
    return 2 * (1 + step**2 * drift / (1 - step - (step * sigma) ** 2)) / (step * p.sum())


@pytest.mark.parametrize(("steps", "step", "decay", "ratio"), [(2, "1/2", "1/2", 0.649), (4, "1/4", "9/10", 0.569)])
def test_momentum_with_reset_lies_below_its_theorem(steps: int, step: str, decay: str, ratio: float) -> None:
    a, b = fractions(step, decay)
    found = worst_case(Case("epoch", 1, steps, 1, "momentum", a, b))
    assert found / momentum_theorem(steps, float(a), float(b)) == pytest.approx(ratio, abs=1e-3)


def test_a_second_factorisation_is_tried_and_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an exception of the solver and after a solution that is not accurate enough; not after "infeasible"."""
    given, first = cp.Problem.solve, iter([sdp.NumericalError("numerical"), None])
    calls: list[dict[str, Any]] = []

    def spoiled(problem: Any, **settings: Any) -> Any:
        calls.append(settings)
        if len(calls) % 2 == 0:
            return given(problem, **settings)
        if isinstance(error := next(first), Exception):
            raise error
        return given(problem, **settings, max_iter=3)

    monkeypatch.setattr(cp.Problem, "solve", spoiled)
    for _ in range(2):
        assert worst_case(Case("epoch", blocks=2)) == pytest.approx(2.7553, abs=1e-4)
    assert [call.get("direct_solve_method") for call in calls] == [None, "qdldl"] * 2

    def numerical(problem: Any, **settings: Any) -> Any:
        raise sdp.NumericalError("numerical")

    monkeypatch.setattr(cp.Problem, "solve", numerical)
    with pytest.raises(SolverError, match="no solution: numerical trouble"):
        worst_case(Case("epoch", blocks=2))


def test_momentum_without_decay_is_the_gradient_step() -> None:
    plain = Case("epoch", 2, 2, step=Fraction(1, 2))
    assert worst_case(Case("epoch", 2, 2, 1, "momentum", Fraction(1, 2))) == pytest.approx(worst_case(plain), rel=1e-6)


@pytest.mark.parametrize(
    ("case", "expected"),
    [(sector("epoch", 2, 4, "1/4", "2"), 3.41856), (sector("epoch", 3, 2, "2/5", "2"), 3.97003)],
)
def test_the_sector_of_adam(case: Case, expected: float) -> None:
    assert worst_case(case) == pytest.approx(expected, abs=1e-4)


def test_the_worst_step_of_a_sector_is_its_shortest() -> None:
    # With one step of one block the mean is the gradient; the factor between 1/2 and 1 is worst at 1/2.
    assert worst_case(sector("epoch", 1, 1, "1/2", "2")) == pytest.approx(2 / kappa(0.25, 1), rel=1e-5)


@pytest.mark.parametrize(
    ("lipschitz", "epochs", "expected"),
    [
        ((1, 1), 1, 0.22515),
        ((1, 1), 2, 2 / 13),
        ((1, 1), 4, 2 / 21),
        ((1, 1, 1), 1, 0.44339),
        ((1, 1, 1), 2, 0.27644),
        ((1, 1, 1), 3, 0.20530),
        ((1, 2, 10), 3, 1.48928),
    ],
)
def test_cyclic_convex(lipschitz: tuple[int, ...], epochs: int, expected: float) -> None:
    case = Case("convex", len(lipschitz), epochs=epochs, lipschitz=fractions(*lipschitz))
    assert worst_case(case) == pytest.approx(expected, abs=1e-5)


def pepit_convex(lipschitz: list[float], steps: int) -> float:
    from PEPit import PEP
    from PEPit.functions import BlockSmoothConvexFunctionCheap

    problem = PEP()
    partition = problem.declare_block_partition(d=len(lipschitz))
    f = problem.declare_function(BlockSmoothConvexFunctionCheap, L=lipschitz, partition=partition)
    minimiser, start = f.stationary_point(), problem.set_initial_point()
    problem.set_initial_condition((start - minimiser) ** 2 <= 1)
    x = start
    for n in range(steps):
        i = n % len(lipschitz)
        x = x - partition.get_block(f.gradient(x), i) / lipschitz[i]
    problem.set_performance_metric(f(x) - f(minimiser))
    return problem.solve(verbose=0, wrapper="cvxpy", solver="CLARABEL")


def pepit_epoch(blocks: int) -> float:
    """max ||grad f(x^0)||^2 for f(x^0) - f(x^N) <= 1: the constant of the measure epoch."""
    from PEPit import PEP
    from PEPit.functions import SmoothFunction

    problem = PEP()
    partition = problem.declare_block_partition(d=blocks)
    f = problem.declare_function(SmoothFunction, L=1.0)
    x = start = problem.set_initial_point()
    first, value = f.oracle(start)
    for i in range(blocks):
        x = x - partition.get_block(f.gradient(x), i)
    problem.set_initial_condition(value - f(x) <= 1)
    problem.set_performance_metric(first**2)
    return problem.solve(verbose=0, wrapper="cvxpy", solver="CLARABEL")


@pytest.mark.parametrize(
    ("lipschitz", "steps", "documented"),
    [
        ((1, 1), 4, 0.15385),
        ((1, 1, 1), 3, 0.44339),
        pytest.param((1, 2, 10), 9, 1.48928, marks=pytest.mark.slow),
    ],
)
def test_pepit_agrees_on_cyclic_convex(lipschitz: tuple[int, ...], steps: int, documented: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEPit and of the solver under it
        theirs = pepit_convex([float(value) for value in lipschitz], steps)
    case = Case("convex", len(lipschitz), epochs=steps // len(lipschitz), lipschitz=fractions(*lipschitz))
    assert theirs == pytest.approx(documented, abs=1e-5)
    assert worst_case(case) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("blocks", [2, 3])
def test_pepit_agrees_on_block_epochs(blocks: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pepit_epoch(blocks)
    assert worst_case(Case("epoch", blocks)) == pytest.approx(theirs, rel=1e-5)


def test_every_inequality_holds_for_a_quadratic_and_its_trajectory() -> None:
    """The forms at a random indefinite quadratic with |f''| <= 1: all are >= 0, and the measure is that of the run."""
    generator = np.random.default_rng(0)
    case = sector("epoch", 2, 3, "1/2", "4")
    basis, _ = np.linalg.qr(generator.normal(size=(6, 6)))
    hessian = basis @ np.diag([1.0, -1.0, 0.3, -0.2, 0.9, -0.6]) @ basis.T
    x, values, gradients, vectors = generator.normal(size=6), [], [], [{}, {}]
    means = np.zeros(3)
    for n in range(7):
        gradients.append(hessian @ x)
        values.append(x @ hessian @ x / 2)
        for i in range(2):
            vectors[i][f"g{n}"] = gradients[n][3 * i : 3 * i + 3]
        if n < 6:
            rows = slice(0, 3) if n < 3 else slice(3, 6)
            means = 0.9 * (means if n % 3 else 0) + 0.1 * gradients[n][rows]
            h = generator.uniform(1 / 4, 1, size=3)
            vectors[n // 3][f"s{n + 1}"] = step = -0.5 * h * means / (1 - 0.9 ** (n % 3 + 1))
            x = x.copy()
            x[rows] += step

    def at(form: Form) -> float:
        total = sum(float(c) * values[n] for n, c in form.values.items())
        for block, gram in form.grams.items():
            total += sum(float(c) * vectors[block][a] @ vectors[block][b] for (a, b), c in gram.items())
        return total

    data = identity(case)
    assert len(data.inequalities) == 7 * 6 + 6
    assert min(at(form) for form in data.inequalities.values()) >= -1e-12
    assert at(data.base) == pytest.approx(-gradients[0] @ gradients[0])
    assert at(data.scaled) == pytest.approx(values[0] - values[6])
    # A sector of half the width is left by these steps: the inequalities do say something.
    narrow = identity(sector("epoch", 2, 3, "1/2", "5/4")).inequalities
    assert min(at(narrow["sector", n]) for n in range(1, 7)) < -1e-3


def test_steps_that_are_too_long_have_no_constant() -> None:
    with pytest.raises(SolverError, match="no solution"):
        worst_case(Case("epoch", 1, step=Fraction(5, 2)))
    assert solve(identity(Case("epoch", 2)), Fraction(27, 10)).margin < 0  # below C* = 2.7553


def test_the_largest_step_lies_above_the_theorem_and_below_two() -> None:
    assert largest_step(1, Fraction(2)) == 199
    found = largest_step(4, Fraction(1000)) / 100
    assert found == 0.84
    assert step_limit(4) < found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measure": "x"}, "measure='x' is not possible"),
        ({"rule": "adam"}, "rule='adam' is not possible"),
        ({"blocks": 0}, "blocks=0 is not possible"),
        ({"step": Fraction(0)}, "step=0 is not possible"),
        ({"decay": Fraction(1), "rule": "momentum"}, "decay=1 is not possible"),
        ({"decay": Fraction(1, 2)}, "decay=1/2 is not possible"),
        ({"ratio": Fraction(1, 2), "rule": "sector"}, "ratio=1/2 is not possible"),
        ({"ratio": Fraction(2)}, "ratio=2 is not possible"),
        ({"measure": "triangular"}, "rule='gradient' is not possible"),
        ({"measure": "triangular", "rule": "free", "inner_steps": 2}, "inner_steps=1"),
        ({"measure": "convex"}, r"lipschitz=\(\) is not possible"),
        ({"measure": "convex", "rule": "momentum"}, "rule='momentum' is not possible"),
    ],
)
def test_impossible_cases_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Case(**{"measure": "epoch", "blocks": 2, **change})


def test_vectors_cancel() -> None:
    assert combine((1, {"a": Fraction(1)}), (-1, {"a": Fraction(1)})) == {}


def test_the_record_is_written_and_read_again(tmp_path, monkeypatch, capsys) -> None:
    from theory.worst_case import __main__ as entry

    monkeypatch.setattr(records, "OUTPUTS", tmp_path)
    small = {"blocks": [1, 2], "triangular_blocks": [2], "inner_steps": [1, 2], "inner_steps_blocks": 2, "ratios": [2]}
    monkeypatch.setattr(entry, "CONFIG", small)
    files = tmp_path / "certificates"
    files.mkdir()
    source = entry.FOLDER / "epoch-D2.json"
    (files / source.name).write_text(source.read_text())
    monkeypatch.setattr(entry, "FOLDER", files)
    assert entry.main([]) == 0
    (record,) = records.load_study("worst_case", kind="verify", folder=tmp_path)
    assert record.measurements["certificates"][0]["constant"] == "1377793/500000"
    assert record.measurements["epochs"]["worst_case"] == pytest.approx([2.0, 2.7553], abs=1e-4)
    capsys.readouterr()
    assert entry.main([]) == 0
    assert "finished before" in capsys.readouterr().out
    content = json.loads((files / source.name).read_text())
    content["multipliers"][0][0] = "1/7"
    (files / source.name).write_text(json.dumps(content))
    assert entry.main([]) == 1
    assert "REJECTED" in capsys.readouterr().out

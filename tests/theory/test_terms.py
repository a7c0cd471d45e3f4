"""Right sides that are sums: for each term an instance that needs it, or the word that none is known.

A line that holds with half of a term, and without it, on every instance does not test that term: a wrong factor there
would be seen by nothing.
"""

from typing import Any

import numpy as np
import pytest

from tests.cover import tiered
from tests.theory.test_bounds import PROBLEMS, Sweeps
from theory.adversary.targets import TARGETS
from theory.bounds.a4 import A4
from theory.bounds.b2 import B2, constants_of
from theory.bounds.c1 import C1
from theory.bounds.c2 import C2
from theory.bounds.c4 import C4, two_samples
from theory.bounds.d1 import D1
from theory.bounds.d2 import D2
from theory.bounds.f1 import F1
from theory.bounds.f1 import constants_of as constants_of_f1
from theory.bounds.f1_order import F1Order
from theory.bounds.f2 import F2
from theory.ledger import Ledger, Terms
from theory.measure import Part, cases, climb, instantiate
from theory.noise import VectorNoise
from theory.problems.finite_sum import FiniteSum
from theory.problems.quadratic import Quadratic

PROBES = 24
"""Random instances of every target of the adversary, beside the sweep."""

WITHOUT = ("a2", "a3", "a5", "a6_quadratic", "badam_d4_printed", "badam_d5_printed", "c_long", "d3")
"""Bounds of whose lines no right side is a sum."""

SUMS = [name for name in PROBLEMS if name not in WITHOUT]

HALF: dict[str, set[tuple[str, str]]] = {
    "a4": {("A4.5", "potential")},
    "b1": {("B1.12", "error")},
    "b1_plus": {("B1.12", "error")},
    "b2": {("B2.2", "error"), ("B2.5", "between")},
    "b3": {("B1.12", "error"), ("B1.8", "drift")},
    "badam_d4_repaired": {("B1.8", "drift")},
    "c1": {("bound", "noise"), ("tuned", "slow")},
    "d1": {("epoch", "decrease"), ("step", "curvature"), ("step", "decrease"), ("step", "noise"), ("young", "noise")},
    "d2": {("last", "descent"), ("last", "last"), ("step", "decrease"), ("step", "last")},
    "e": {("B1.12", "error")},
    "f1_order": {("bound", "visit")},
    "f2": {("step", "change"), ("step", "error")},
}
"""Bound -> line and term: half of it is enough on all of these instances, but it is needed."""

NOT_AT_ALL: dict[str, set[tuple[str, str]]] = {
    "b1_corollary": {("B1.12", "error")},
    "b2": {("B2.5", "inside"), ("bound", "between"), ("bound", "eps"), ("bound", "inside")},
    "badam_d4_repaired": {("B1.12", "error")},
    "c2": {("gradient", "noise")},
    "c4": {("square", "cross")},
    "d1": {
        ("epoch", "cross"),
        ("epoch", "curvature"),
        ("epoch", "error"),
        ("epoch", "noise"),
        ("step", "cross"),
        ("step", "error"),
        ("young", "error"),
    },
    "d2": {
        ("bound", "gap"),
        ("bound", "last"),
        ("bound", "step"),
        ("epoch", "decrease"),
        ("epoch", "last"),
        ("epoch", "step"),
        ("step", "step"),
        ("visit", "decrease"),
        ("visit", "last"),
        ("visit", "step"),
    },
    "f1": {("F1.5", "inside"), ("adam", "eps"), ("bound", "eps"), ("bound", "inside")},
    "f1_order": {("F1.7", "inside"), ("bound", "between"), ("bound", "eps"), ("bound", "inside")},
    "f2": {
        ("bound", "change"),
        ("bound", "eps"),
        ("bound", "error"),
        ("bound", "inside"),
        ("bound", "noise"),
        ("bound", "size"),
        ("step", "noise"),
        ("step", "size"),
        ("visit", "change"),
        ("visit", "error"),
        ("visit", "inside"),
        ("visit", "noise"),
        ("visit", "size"),
    },
}
"""Bound -> line and term that none of these instances needs: not tested."""


def runs(name: str, sweeps: Sweeps) -> Any:
    """Bound, problem and setting of every instance."""
    kind = type(instantiate(sweeps[name, PROBLEMS[name][0]].config)[0])
    for problem in PROBLEMS[name]:
        job = sweeps[name, problem]
        bound = instantiate(job.config)[0]
        for instance, setting in cases(job.config):
            yield bound, instance, setting
    if name == "c4":  # from the minimum all that a step has is its noise
        plain = two_samples()
        start = np.linalg.solve(plain.matrix, plain.linear)
        still = FiniteSum.from_parts(plain.matrices, plain.linears, sizes=[1, 1], start=start)
        yield C4(), still, {"gamma": 1.0, "inner_steps": 1, "order": "cyclic"}
    for target in (target for target in TARGETS if type(target.bound) is kind):
        upper = np.array([axis.upper for axis in target.axes])
        for coordinates in np.random.default_rng(0).uniform(size=(PROBES, len(upper))) * upper:
            yield (target.bound, *target.instance(coordinates))


def decisive(name: str, sweeps: Sweeps) -> Ledger:
    """All lines over all instances; a violation is decided in 60 digits."""
    total = Ledger()
    for bound, problem, setting in runs(name, sweeps):
        outcome = bound.evaluate(problem, **setting)
        ledger = outcome.ledger
        if ledger.violations and not bound.refuted:
            inside = {key: value for key, value in setting.items() if key != "epochs"}
            ledger = climb(bound, problem, inside, "", outcome, Part())
            assert not ledger.violations, [line.first_violation for line in ledger.lines.values()]
        total.merge(ledger)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("name", tiered(SUMS, [name for name in SUMS if name not in ("a1", "c4")]))
def test_every_term_is_needed_somewhere_or_is_said_to_be_untested(name: str, sweeps: Sweeps) -> None:
    lines = decisive(name, sweeps).lines
    counts = {(line, term): fails for line, found in lines.items() for term, fails in found.decisive.items()}
    assert {key for key, (half, whole) in counts.items() if whole and not half} == HALF.get(name, set())
    assert {key for key, (_, whole) in counts.items() if not whole} == NOT_AT_ALL.get(name, set())


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_a_term_that_is_too_small_is_refuted(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the drift in line B1.8, or none, is a violation on an instance that needs the term."""
    (target,) = [target for target in TARGETS if target.name == "b1_plus"]
    upper = np.array([axis.upper for axis in target.axes])
    points = np.random.default_rng(0).uniform(size=(PROBES, len(upper))) * upper

    def violations() -> int:
        ledgers = [bound.evaluate(problem, **setting).ledger for bound, problem, setting in instances]
        return sum(ledger.lines["B1.8"].violations for ledger in ledgers)

    instances = [(target.bound, *target.instance(point)) for point in points]
    assert not violations()
    true = Terms.__init__

    def changed(self: Terms, **terms: Any) -> None:
        true(self, **{name: factor * term if name == "drift" else term for name, term in terms.items()})

    monkeypatch.setattr(Terms, "__init__", changed)
    assert violations()


def right_sides(monkeypatch: pytest.MonkeyPatch, bound: Any, problem: Any, **setting: Any) -> dict[str, Any]:
    """The terms of every line at its last evaluation."""
    seen: dict[str, dict[str, np.ndarray]] = {}
    true = Ledger.check

    def spy(self: Ledger, name: str, lhs: Any, rhs: Any, **rest: Any) -> None:
        if isinstance(rhs, Terms):
            seen[name] = rhs.terms
        true(self, name, lhs, rhs, **rest)

    monkeypatch.setattr(Ledger, "check", spy)
    bound.evaluate(problem, **setting)
    return seen


PAIR = Quadratic.from_matrix(np.array([[2.0, 0.5], [0.5, 1.0]]), sizes=[1, 1], start=np.array([1.0, -2.0]))
GAP = float(PAIR.gap(PAIR.start))


def test_terms_that_nothing_needs_are_those_of_the_theorem_a4(monkeypatch: pytest.MonkeyPatch) -> None:
    found = right_sides(monkeypatch, A4(), PAIR, exponent=1.0, epochs=2)["A4.5"]
    p, k = np.array([2, 1]) / 3, np.arange(len(found["gap"]))
    psi = (PAIR.L_i / p * PAIR.start**2).sum() / 2
    assert found["potential"] == pytest.approx(psi / (k + 3))
    assert found["gap"] == pytest.approx(GAP * 3 / (k + 3))


def test_terms_that_nothing_needs_are_those_of_the_theorem_b2(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, eps, K, T = 0.3, 0.2, 3, 2
    setting = {"rate": rate, "eps": eps, "betas": (0.5, 0.9), "inner_steps": K, "order": "cyclic", "epochs": T}
    lines = right_sides(monkeypatch, B2(), PAIR, **setting)
    known, weighted = constants_of((0.5, 0.9), K), 3.0
    alpha, Lambda = rate * (GAP / weighted) ** 0.5, 0.5  # the lower triangle of the matrix
    each = {"visit": known.C * weighted, "inside": known.N * weighted, "between": K * known.R * 2 * Lambda}
    for name, value in each.items():
        assert lines["B2.5"][name] == pytest.approx([alpha**2 * value] * T), name
        assert lines["bound"][name] == pytest.approx([alpha * value / K] * T), name
    assert lines["B2.5"]["eps"] == pytest.approx([alpha * K * 2 * eps] * T)
    assert lines["bound"]["eps"] == pytest.approx([2 * eps] * T)
    assert lines["bound"]["gap"] == pytest.approx(GAP / (alpha * K * np.arange(1, T + 1)))
    assert lines["B2.2"]["error"][0] == pytest.approx(alpha**2 * PAIR.L_i[0] * known.tau * known.M)


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_terms_that_nothing_needs_are_those_of_the_theorems_d(beta1: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rate, eps, K, sigma, R, beta2 = 0.3, 0.2, 2, 0.1, 20.0, 0.9
    setting = {"rate": rate, "eps": eps, "inner_steps": K, "sigma": sigma, "p": 0.5, "order": "cyclic", "R": R}
    alpha = rate * (GAP / 3.0) ** 0.5
    if beta1:
        lines = right_sides(monkeypatch, D1(), PAIR, betas=(beta1, beta2), epochs=1, **setting)
        known = constants_of((beta1, beta2), K)
        s, h = eps**-0.5 - (R + eps) ** -0.5, (eps * (R + eps)) ** -0.5
        E = PAIR.L_i[:, None] * known.M
        wanted = {
            "noise": alpha * s**2 * (known.w**2).sum(axis=1) * sigma**2 * np.ones((2, 1)),
            "cross": alpha**2 * h * E * sigma,
            "error": alpha**3 * E**2 / eps,
            "curvature": alpha**2 * PAIR.L_i[:, None] * known.rho**2 / 2,
        }
        for name, value in wanted.items():
            assert lines["epoch"][name] == pytest.approx(value.sum()), name
            assert lines["step"][name] == pytest.approx(value[-1, -1]), name
        return
    lines = right_sides(monkeypatch, D2(), PAIR, beta2=beta2, epochs=1, **setting)
    tau = ((1 - beta2**K) / (1 - beta2)) ** 0.5
    Q = np.log(1 + R**2 * tau**2 / eps**2) - (K - 1) * np.log(beta2)
    last, step = Q * alpha * R * tau * np.ones(2), Q * alpha**2 * tau**2 / 2 * PAIR.L_i
    unit = 2 * (R + eps) / K
    for name, value in (("last", last), ("step", step)):
        assert lines["visit"][name] == pytest.approx(value[-1]), name
        assert lines["epoch"][name] == pytest.approx(value.sum()), name
        assert lines["bound"][name] == pytest.approx(unit * value.sum() / alpha), name
    assert np.ravel(lines["bound"]["gap"])[0] == pytest.approx(unit * GAP / alpha)


def test_terms_that_nothing_needs_are_those_of_the_theorems_c(monkeypatch: pytest.MonkeyPatch) -> None:
    gamma, K, sigma = 0.5, 2, 0.3
    setting = {"gamma": gamma, "inner_steps": K, "sigma": sigma, "epochs": 1}
    alpha, s2, V = gamma / 2, 2 * sigma**2, 3 * sigma**2
    moved = alpha * min(K * 0.5 + 2 * 1.0, PAIR.L * (K**2 + 1) ** 0.5)
    lines = right_sides(monkeypatch, C2(), PAIR, order="cyclic", p=0.5, **setting)
    assert lines["gradient"]["noise"] == pytest.approx(moved * s2**0.5)
    assert lines["gradient"]["drift"] == pytest.approx(moved * lines["gradient"]["gradients"])
    lines = right_sides(monkeypatch, C1(), PAIR, **setting)
    assert lines["bound"]["noise"] == pytest.approx(alpha * V * K / 2 / (1 - gamma / 2))
    assert lines["bound"]["gap"] == pytest.approx(2 * GAP / alpha / (1 - gamma / 2))
    assert lines["tuned"]["slow"] == pytest.approx(2 * (2 * 2 * GAP * K * V) ** 0.5)


def test_terms_that_nothing_needs_are_those_of_the_theorem_f1(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, eps, K = 0.3, 0.2, 3
    setting: dict[str, Any] = {"rate": rate, "eps": eps, "betas": (0.5, 0.9), "inner_steps": K, "epochs": 1}
    known, total, whole = constants_of_f1((0.5, 0.9), K), 3.0, 4.0  # l_i = 2, 1 and l = 2 + 1 + 2 0.5
    alpha = rate * (GAP / total) ** 0.5
    lines = right_sides(monkeypatch, F1(), PAIR, **setting)
    each = {"visit": known.c * total, "inside": known.n * total, "eps": 2 * eps / alpha}
    for name, value in each.items():
        assert lines["bound"][name] == pytest.approx(np.array([[alpha * value]])), name
        assert lines["F1.5"][name] == pytest.approx([alpha**2 * K * value]), name
    assert lines["bound"]["gap"] == pytest.approx(np.array([[2 * GAP / (alpha * K)]]))
    own = rate * (GAP / whole) ** 0.5
    wanted = {"gap": GAP / (own * K), "visit": own * known.c * whole, "eps": 2 * eps}
    assert lines["adam"] == {name: pytest.approx([value]) for name, value in wanted.items()}
    lines = right_sides(monkeypatch, F1Order(), PAIR, order="cyclic", **setting)
    each["between"] = known.rho.sum() * 0.5
    for name, value in each.items():
        assert lines["bound"][name] == pytest.approx([alpha * value]), name
        assert lines["F1.7"][name] == pytest.approx([alpha**2 * K * value]), name
    assert lines["bound"]["gap"] == pytest.approx([GAP / (alpha * K)])


def test_terms_that_nothing_needs_are_those_of_the_theorem_f2(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, eps, K, s, total = 0.3, 0.2, 3, 0.7, 3.0
    noise = VectorNoise((0.3,), ((0.2, -0.1),))
    sigma = noise.variances(np.ones(1)) ** 0.5
    setting: dict[str, Any] = {"rate": rate, "eps": eps, "betas": (0.5, 0.9), "inner_steps": K, "epochs": 1}
    setting |= {"s": s, "sigma": 1.0, "p": 0.3, "outcomes": 2, "noise": noise}
    lines = right_sides(monkeypatch, F2(), PAIR, **setting)
    known, alpha = constants_of_f1((0.5, 0.9), K), rate * (GAP / total) ** 0.5
    omega = (known.w**2).sum(axis=1) ** 0.5

    def terms(s: float) -> dict[str, float]:
        return {
            "error": alpha * total * ((2 * s + known.rho) * known.M).mean(),
            "change": s**2 * alpha * total * known.V.mean(),
            "step": alpha * total * (known.rho**2).mean() / 2,
            "noise": sigma.sum() * ((2 * s + known.rho) * omega).mean(),
            "size": s**2 * sigma.sum(),
            "eps": s**2 * 2 * eps,
        }

    inside = alpha * known.n * total
    for name, value in (terms(s) | {"inside": (2 * s - s**2) * inside}).items():
        assert lines["visit"][name] == pytest.approx([alpha * K * value]), name
    gap = 2 * GAP / (alpha * K)
    grid = np.linspace(0.01, 1, 9901)
    sides = np.array([(gap + sum(terms(t).values())) / (2 * t - t**2) for t in grid])
    best = grid[sides.argmin()]
    for name, value in (terms(best) | {"gap": gap}).items():
        assert lines["bound"][name].item() == pytest.approx(value / (2 * best - best**2), rel=1e-3), name
    assert lines["bound"]["inside"].item() == pytest.approx(inside)
    assert sum(lines["bound"].values()).item() == pytest.approx(sides.min() + inside, rel=1e-7)
    last, factor = lines["step"], 2 * s + known.rho[-1]  # the last step of block 1: l_i = 1
    assert last["noise"] == pytest.approx([factor * omega[-1] * sigma[1]])
    assert last["size"] == pytest.approx([s**2 * sigma[1]])
    assert last["error"] == pytest.approx([factor * alpha * known.M[-1]])
    assert last["change"] == pytest.approx([s**2 * alpha * known.V[-1]])
    assert last["eps"] == pytest.approx([s**2 * eps])

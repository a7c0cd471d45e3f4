"""The curves of the figures: known values, the theorems that they come from, simulations, refusals, the record."""

import itertools
import math

import numpy as np
import pytest

import records
from bcd import Adam
from theory.bounds import master
from theory.bounds.a5 import A5
from theory.bounds.b1_plus import B1Plus
from theory.bounds.b2 import B2
from theory.bounds.f1 import constants_of as constants_of_f1
from theory.bounds.f1 import visit
from theory.curves import __main__ as entry
from theory.curves import floor, match, steps, vacuous
from theory.curves.vacuous import Unit
from theory.problems.quadratic import Quadratic

EXAMPLE = entry.CONFIG["contraction"]["example"]


def test_blocks_and_gain() -> None:
    found = steps.blocks([2, 16])
    assert found["tau"] == pytest.approx([1.0, 2.7498], abs=1e-4)
    assert found["root"] == pytest.approx([1.0, math.sqrt(15)], rel=1e-12)
    assert found["constant"] == pytest.approx([5.2361, 21.7125], abs=1e-4)
    assert steps.gain([0.5], [1, 2])["kappa"] == {"0.5": [0.75, 0.9375]}


def test_the_constant_of_the_l1_norm_grows_with_the_steps() -> None:
    found = steps.l1((0.9, 0.999), [1, 10, 50, 100])
    assert found[0] == pytest.approx(0.5, rel=1e-9), "one step: tau M = V = N = 0, rho^2/2 = 1/2"
    assert all(later / before > 1.5 for before, later in itertools.pairwise(found))
    # what B2 adds for one visit of one block: alpha^2 L d (C + N)
    assert steps.l1((0.0, 0.5), [1]) == [0.5]


def test_many_steps_contract_as_exact_minimisation() -> None:
    found = steps.contraction(EXAMPLE, [1.0], [1, 4, 400])
    exact, theorem = found["exact"]["1"], found["theorem"]["1"]
    assert exact[0] > exact[1] > exact[2] == pytest.approx(found["minimisation"], rel=1e-6)
    assert all(low < high for low, high in zip(exact, theorem, strict=True))
    assert theorem[2] > theorem[0]  # the theorem's rate is worse for many long steps
    # no run contracts more slowly than the exact factor of exact minimisation
    series = np.array(A5().evaluate(Quadratic(**EXAMPLE), order="ascending", epochs=4).series["measured"])
    assert (series[1:] <= found["minimisation"] * series[:-1]).all()


@pytest.mark.parametrize(("inner_steps", "eps", "expected"), [(100, 1e-8, 1.3e7), (100, 1.0, 6.0)])
def test_epochs_of_b1_plus(inner_steps: int, eps: float, expected: float) -> None:
    assert vacuous.b1_plus(Unit(4, 1000, inner_steps), eps) == pytest.approx(expected, rel=0.06)


def test_the_constants_are_those_of_the_theorem() -> None:
    """coef of B1+ on a problem whose constants are the unit ones, at the step size that the count found best."""
    unit, eps = Unit(2, 2, 3), 0.3
    # f has eigenvalues 1 and -1 elsewhere; here only L_i = L = 1, mu = 0.9 and so a smaller Lambda
    best = 1 / (2 * vacuous.b1_plus(unit, eps))
    start = np.array([1.0, 1.0])
    problem = Quadratic.from_matrix(np.array([[1.0, 0.0], [0.0, 1.0]]), sizes=[1, 1], start=start)
    problem.L_ij[:] = 1e9  # nothing is known about the coupling
    problem.mu = -1.0
    problem.triangular = lambda order: math.inf  # type: ignore[method-assign]
    found = []
    for fraction in np.linspace(0.02, 0.98, 49):
        rule, lr = B1Plus().method(problem, fraction=fraction, eps=eps, betas=(0.9, 0.999), inner_steps=3)
        known = master.recipe_of(rule, 3)
        r = np.array([master.drift(problem, (0, 1), known)])
        a = lr[0] / eps
        c = 1 - a - a**2 * known.sigma**2
        p, q = np.array([lr[0] / (2 * (unit.G + eps))]), np.array(c * eps / (2 * lr[0]))
        part = np.array(c / (1 + a * known.sigma) ** 2)
        theta = master.best_theta(p, q, r, part)
        found.append(float(3 / (1 / (p * (1 + theta * part)) + r**2 / (q * (1 - theta)))[0]))
    assert max(found) == pytest.approx(best, rel=1e-3)


def test_epochs_of_b2_are_where_its_bound_meets_what_is_known() -> None:
    """The bound of Theorem B2 at its best step size, T a little above and a little below the count."""
    unit, eps = Unit(4, 1000, 8), 1e-3
    T = vacuous.b2_epochs(unit, eps)
    slope = float(unit.adam.C + unit.adam.N) / 8 * 1000 + float(unit.adam.R) * vacuous.tau(4) * 1000
    alpha = math.sqrt(1 / (8 * T * slope))
    assert 1 / (alpha * 8 * T) + alpha * slope + 1000 * eps == pytest.approx(math.sqrt(2000), rel=1e-9)
    assert vacuous.b2_epochs(unit, 0.1) == math.inf
    # the same terms as in the bound that is checked on trajectories: zero Lambda, one block
    one = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([math.sqrt(2)]))
    outcome = B2().evaluate(one, rate=1.0, eps=eps, betas=(0.9, 0.999), inner_steps=8, order="cyclic", epochs=5)
    known = Unit(1, 1, 8).adam
    assert outcome.bound == pytest.approx(1 / (8 * 5) + float(known.C + known.N) / 8 + eps, rel=1e-9)


def test_epochs_of_the_published_corollary() -> None:
    unit = Unit(4, 1000, 100)
    assert vacuous.published(unit, 1e-8) == pytest.approx(1.1e19, rel=0.02)
    assert vacuous.published(unit, 0.999) == pytest.approx(1.8e4, rel=0.02)
    assert vacuous.published(unit, 1.0) == math.inf


@pytest.mark.parametrize(
    ("ratio", "K", "expected"),
    [(1, 100, 1.82), (1, 1000, 0.75), (1, 10**4, 0.21), (1e8, 100, 8.10), (1e8, 1000, 2.23), (1e8, 10**4, 0.34)],
)
def test_floor_of_d2(ratio: float, K: int, expected: float) -> None:
    assert vacuous.d2(1.0, K, 1 / ratio) == pytest.approx(expected, abs=0.006)


def test_floor_of_d1() -> None:
    """omega_k against its definition, and where the largest noise, sigma = R, makes the floor vacuous."""
    w = Unit(1, 1, 20).adam.w
    mean = float((w**2).sum(axis=1).mean())
    assert vacuous.d1(1.5, 20, 0.5) == pytest.approx(2 * mean * vacuous.NOISE**2, rel=1e-12)
    assert vacuous.d1(15.7, 10**6, 1.0) / vacuous.NOISE**2 == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("D", "d", "K", "message"), [(0, 4, 1, "D=0"), (4, 6, 1, "d=6"), (4, 4, 0, "K=0")])
def test_impossible_units_are_refused(D: int, d: int, K: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Unit(D, d, K)


def test_simulated_runs_reach_the_zero_of_the_mean_field() -> None:
    known = floor.predicted([0.3], [1, 8], 1e-8)
    assert known["zero"]["0.3"] == pytest.approx([0.6547, 0.2742], abs=1e-3)
    small = [floor.simulate(0.3, 1, alpha, eps=1e-8, runs=200, seed=1)[0] for alpha in (0.1, 0.02)]
    assert 0.5 < small[0] < small[1] < 0.66
    # noise of the other sign has the floor on the other side, and none without skewness
    mean, error = floor.simulate(0.5, 1, 0.02, eps=1e-8, runs=400, seed=1)
    assert abs(mean) < 5 * error < 0.1
    assert floor.simulate(0.3, 1, 0.1, eps=1e-8, runs=50, seed=3) == floor.simulate(
        0.3, 1, 0.1, eps=1e-8, runs=50, seed=3
    )
    with pytest.raises(ValueError, match="alpha=0 is not possible"):
        floor.simulate(0.3, 1, 0, eps=1e-8, runs=10, seed=0)


MATCH = match.Setting(blocks=3, size=2, share=0.5, rates=[0.2, 0.1], longest=400, groups=2, runs=3)


def test_chi_of_the_matched_quadratics_is_known() -> None:
    for coupling in (0.0, 0.25, 1.0):
        assert match.chi(MATCH, coupling) == pytest.approx((1 + 2 * coupling) / 3, rel=1e-12)
    known = constants_of_f1((0.9, 0.999), 4)
    assert match.predicted(MATCH, 0.25, 4) == pytest.approx(2 * float((known.c + known.n) / known.c), rel=1e-12)
    assert match.predicted(MATCH, 0.25, 1) == pytest.approx(2.0, rel=1e-12), "n_1 = 0"
    # the matrix that the runs use is the Kronecker product of the text
    assert MATCH.matrix(0.5)[0].tolist() == [1.05, 1.0, 0.525, 0.5, 0.525, 0.5]


@pytest.mark.parametrize("full", [True, False])
def test_the_matched_runs_are_visits_of_the_theorem(full: bool) -> None:
    """One run against `theory.bounds.f1.visit`, whose blocks are those that were drawn."""
    setting = match.Setting(blocks=3, size=2, share=0.01, rates=[0.1], longest=12, groups=1, runs=1)
    H, K, generator = setting.matrix(0.3), 3, np.random.default_rng(7)
    found = match.slopes(setting, H, 0.1, K, full=full, longest=12, seed=7)[:, 0, 0]
    x, wanted = generator.standard_normal((1, 6)), []
    problem = Quadratic.from_matrix(H, sizes=[2, 2, 2], start=x[0])
    for _ in range(4):
        rows = slice(0, 6) if full else problem.slices[int(generator.integers(3, size=(1, 1))[0, 0])]
        run = visit(problem, problem, x, rows, 1.0, Adam(betas=(0.9, 0.999), eps=match.EPS), 0.1, K)
        points = run.z[0, :-1] if full else run.z[0, :1]
        wanted += abs(problem.gradient(points)).sum(axis=1).tolist()
        x = run.z[:, -1]
    assert found == pytest.approx(wanted, rel=1e-12)


def test_the_number_of_gradients_is_where_the_running_mean_has_fallen() -> None:
    seen = np.array([[8.0, 8.0], [4.0, 8.0], [0.0, 8.0], [0.0, 8.0]])  # means 8, 6, 4, 3
    assert match.gradients(seen, 0.5, 10).tolist() == [30.0, math.inf]
    found = match.tuned(MATCH, MATCH.matrix(0.3), 2, full=False)
    each = {}
    for rate in MATCH.rates:
        mean = match.slopes(MATCH, MATCH.matrix(0.3), rate, 2, full=False, longest=400).mean(axis=(1, 2))
        each[rate] = float(match.gradients(mean[:, None], 0.5, 2)[0])
    assert found["gradients"] == min(each.values())
    assert each[found["rate"]] == found["gradients"]
    assert len(found["groups"]) == 2


def test_without_coupling_random_blocks_need_as_many_times_the_gradients_as_there_are_blocks() -> None:
    setting = match.Setting(blocks=4, size=2, share=0.25, rates=[0.125, 0.09, 0.18], longest=400, groups=2, runs=32)
    (separate, coupled) = match.penalties(setting, [0.0, 1.0], [1])
    assert separate["predicted"] == pytest.approx(4.0)
    assert separate["measured"] == pytest.approx(4.0, rel=0.2)
    assert coupled["measured"] < 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": 0}, "blocks=0"),
        ({"share": 1.0}, r"share=1\.0"),
        ({"rates": []}, r"rates=\[\]"),
        ({"rates": [0.0]}, r"rates=\[0\.0\]"),
    ],
)
def test_settings_of_matched_runs_that_are_not_possible_are_refused(change: dict, message: str) -> None:
    numbers = {"blocks": 2, "size": 1, "share": 0.5, "rates": [0.1], "longest": 9, "groups": 1, "runs": 1}
    with pytest.raises(ValueError, match=message):
        match.Setting(**{**numbers, **change})


def test_matched_runs_that_do_not_arrive_are_refused() -> None:
    short = match.Setting(blocks=2, size=1, share=0.1, rates=[1e-6], longest=9, groups=1, runs=2)
    with pytest.raises(ValueError, match="longest=9 is not possible: no step size"):
        match.penalties(short, [0.0], [1])
    with pytest.raises(ValueError, match=r"coupling=1\.5"):
        short.matrix(1.5)


def test_the_record_is_written_and_read_again(tmp_path, monkeypatch, capsys) -> None:
    small = {
        "blocks": [2],
        "gammas": [1.0],
        "inner_steps": [1],
        "contraction": {"example": EXAMPLE, "gammas": [1.0]},
        "floor": {
            "chances": [0.3],
            "inner_steps": [1],
            "eps": 1e-8,
            "alphas": {"0.3": [0.2]},
            "simulated_steps": [1],
            "runs": 10,
        },
        "vacuous": {"blocks": 4, "coordinates": 8, "inner_steps": [1], "long": [1], "log_eps": [-8, 0]},
        "match": {
            "setting": {"blocks": 2, "size": 1, "share": 0.5, "rates": [0.1], "longest": 99, "groups": 1, "runs": 2},
            "couplings": [1.0],
            "inner_steps": [1],
            "floor_steps": [1],
        },
    }
    monkeypatch.setattr(records, "OUTPUTS", tmp_path)
    monkeypatch.setattr(entry, "CONFIG", small)
    assert entry.main([]) == 0
    (record,) = records.load_study("curves", kind="verify", folder=tmp_path)
    assert record.measurements["vacuous"]["maps"]["published"]["values"][1] == [None]
    assert "never" in capsys.readouterr().out
    assert entry.main([]) == 0
    assert "finished before" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(floor, "floor", lambda p, K: 2.0)
        assert entry.main(["--force"]) == 1
    assert "FAILS" in capsys.readouterr().out

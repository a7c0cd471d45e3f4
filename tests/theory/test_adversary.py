"""The adversary: what it must reach, what must die, and that a failure is one."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import records
from theory.adversary import __main__ as entry
from theory.adversary import maps, run
from theory.adversary.exact import largest_over_starts, worst_start
from theory.adversary.mutation import mutants, strengthened
from theory.adversary.search import Archive, judge, maximise
from theory.adversary.spaces import Axis, decode, matrix_axes, matrix_of
from theory.adversary.targets import TARGETS
from theory.bounds.a1 import A1, A1Statement, epoch_constants
from theory.bounds.b1_plus import B1Plus
from theory.ledger import Ledger
from theory.problems.quadratic import Quadratic

NAMED = {target.name: target for target in TARGETS}
EPOCH = {"gamma": 1.0, "inner_steps": 1, "order": "cyclic"}


def coupled_pair(coupling: float) -> Quadratic:
    matrix = np.array([[1.0, coupling], [coupling, 1.0]])
    return Quadratic.from_matrix(matrix, sizes=[1, 1], start=np.ones(2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "OUTPUTS", tmp_path)
    return tmp_path


def attacked(monkeypatch, **changes) -> None:
    """The run sees one target only: that of Theorem A1 on pairs, changed."""
    monkeypatch.setattr(run, "TARGETS", (replace(NAMED["a1_pair"], **changes),))


@pytest.mark.parametrize(
    "name",
    [
        *("c3_one", "a1_pair", "b1_plus_one", "b2_one", "f1_one", "f2_one"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("a4", "b1_plus_pair")),
    ],
)
def test_few_evaluations_reach_the_tightness_and_kill_the_mutants(name: str) -> None:
    found = run.attack_target(name, 32, 0)
    assert found["evaluations"] < 400
    assert not found["violations"]
    reached = [row for row in found["tightness"] if row["least"] is not None]
    assert reached
    assert all(row["least"] <= row["ratio"] <= 1 + 1e-9 for row in reached), reached
    required = [row for row in found["mutants"] if row["required"]]
    assert len(required) >= 2
    assert all(row["killed"] and row["ratio"] > 1 and row["true_ratio"] <= 1 + 1e-9 for row in required), required


def test_every_theorem_of_the_issue_is_attacked() -> None:
    lines = {(type(target.bound).__name__, line) for target in TARGETS for line in target.lines}
    wanted = [("A1", line) for line in ("A0", "A0'", "A0''", "A6", "A1a", "A1b", "epoch")]
    wanted += [("A4", f"A4.{n}") for n in (1, 2, 3)] + [("A3", "rate"), ("A5", "rate"), ("A6Quadratic", "rate")]
    wanted += [("B1Plus", f"B.{n}") for n in (1, 2, 3, 4, 5)] + [("B1Plus", "B1+"), ("B2", "bound"), ("B2", "B2.5")]
    wanted += [("C1", "random"), ("C3", "epoch"), ("E", "B1+")]
    wanted += [("F1", f"F1.{n}") for n in (1, 2, 3, 4, 5)] + [("F1", "bound"), ("F1", "adam"), ("F2", "bound")]
    wanted += [("F1Order", "F1.6"), ("F1Order", "F1.7")] + [
        ("F2", line) for line in ("split", "n", "xi", "step", "visit")
    ]
    assert set(wanted) <= lines
    least = {(target.name, line): value for target in TARGETS for line, value in target.least.items()}
    for key in (("a1_pair", "epoch"), ("b1_plus_one", "B1+"), ("b1_plus_pair", "B1+"), ("b2_one", "bound")):
        assert least[key] >= 0.98
    for key in (("a4", "A4.1"), ("a4", "A4.2"), ("c3_one", "epoch")):
        assert least[key] >= 0.9995


@pytest.mark.parametrize("coupling", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("gamma", [0.3, 1.0, 1.7])
def test_one_step_of_two_scalar_blocks_is_exactly_tight(coupling: float, gamma: float) -> None:
    problem, setting = coupled_pair(coupling), {**EPOCH, "gamma": gamma}
    assert largest_over_starts(problem, setting) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("order", ["cyclic", "descending"])
@pytest.mark.parametrize("inner_steps", [1, 4])
def test_the_exact_value_is_attained_at_the_worst_start_and_nowhere_exceeded(inner_steps: int, order: str) -> None:
    problem = Quadratic([1, 2], coupling=0.9, condition=10, seed=3)
    problem = Quadratic.from_matrix(problem.matrix, sizes=[1, 2], start=np.ones(3))
    setting = {"gamma": 0.8, "inner_steps": inner_steps, "order": order}
    exact = largest_over_starts(problem, setting)
    starts = [worst_start(problem, setting), *np.random.default_rng(0).standard_normal((20, 3))]
    ratios = []
    for start in starts:
        instance = Quadratic.from_matrix(problem.matrix, sizes=[1, 2], start=start)
        ratios.append(A1().evaluate(instance, epochs=1, **setting).ledger.lines["epoch"].largest_ratio)
    assert ratios[0] == pytest.approx(exact, rel=1e-9)
    assert max(ratios[1:]) < exact


def test_four_long_steps_of_a_coupled_pair_lose_half() -> None:
    # gamma = 1: the first step solves a scalar block and three do nothing, but the theorem pays for four
    problem = coupled_pair(0.95)
    one, four = (epoch_constants(problem, [0, 1], gamma=1.0, inner_steps=K)["C_matrix"] for K in (1, 4))
    found = largest_over_starts(problem, {**EPOCH, "inner_steps": 4})
    assert found == pytest.approx(one / four, rel=1e-9)
    assert found == pytest.approx(0.46, abs=5e-3)


def test_a_target_that_is_named_twice_is_attacked_once() -> None:
    assert [target.name for target in run.chosen(["a5_pair", "a1", "a5_pair"])] == ["a5_pair", "a1"]


def test_one_seed_gives_one_result() -> None:
    first, again, other = (run.attack_target("a5_pair", 20, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["tightness"] != other["tightness"]


@pytest.mark.slow
def test_a_survivor_makes_the_exit_code_one(folder, monkeypatch, capsys) -> None:
    assert entry.main(["a5_pair", "--workers", "1"]) == 0
    # the step of A2 loses a factor of 2 on this family
    monkeypatch.setattr(run, "TARGETS", (replace(NAMED["a2"], lines=("step",), loose=()),))
    assert entry.main(["a2", "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert "SURVIVES" in said
    assert "a2: the mutant 'left side x 2' of step survives" in said


@pytest.mark.integration
def test_a_line_that_is_not_as_tight_as_wanted_makes_the_exit_code_one(folder, monkeypatch, capsys) -> None:
    attacked(monkeypatch, least={"bound": 1.5}, lines=("epoch",))
    assert entry.main(["a1_pair", "--workers", "1"]) == 1
    assert "a1_pair: line bound reaches" in capsys.readouterr().out


@pytest.mark.integration
def test_a_theorem_that_is_false_is_found_out(folder, monkeypatch, capsys) -> None:
    class HalvedA1(A1):
        true = A1Statement(constant=0.5)

    attacked(monkeypatch, bound=HalvedA1())
    assert entry.main(["a1_pair", "--workers", "1"]) == 1
    assert "violated: a1_pair, epoch: " in capsys.readouterr().out


def test_the_record_is_written_and_read_again_and_unknown_names_are_refused(folder, capsys) -> None:
    assert entry.main(["a5_pair", "--workers", "1"]) == 0
    (path,) = folder.glob("adversary-quick-*/quick-seed0.json")
    found = records.load(path)
    assert found.kind == "verify"
    assert found.config["targets"] == ["a5_pair"]
    assert {row["line"] for row in found.measurements["tightness"]} == {"rate", "two"}
    assert capsys.readouterr().out.count("killed") >= 3
    assert entry.main(["a5_pair", "--workers", "1"]) == 0
    assert "finished before" in capsys.readouterr().out
    assert entry.main(["a7"]) == 2
    assert "target='a7' is not one of a1_pair, a1" in capsys.readouterr().err
    assert entry.main(["--workers", "0"]) == 2


def test_only_the_direction_that_strengthens_is_a_mutant() -> None:
    target, archive = NAMED["a1_pair"], Archive()
    maximise(target, ("epoch",), archive, budget=30, seed=0, stop=0.99)
    probes = [point for _, point in archive.best.values()]
    assert strengthened(target, A1Statement(constant=2.0), probes) == ()
    assert strengthened(target, A1Statement(constant=0.5), probes) == ("epoch",)
    names = [mutant.name for mutant in mutants(target, archive)]
    assert all(mutant.required for mutant in mutants(target, archive)[2:])
    assert names[2:] == ["constant = 0.5", "kappa = 2", "coupling = 0.5", "coupling = 0"]


@pytest.mark.integration
@pytest.mark.parametrize("line", ["A1a", "T"])
def test_a_line_that_is_compared_with_itself_is_a_failure(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubling its left side always refutes it, so that no mutant tells."""
    true = Ledger._add

    def same(self: Ledger, name: str, kind: str, lhs: object, rhs: object, *rest: object) -> None:
        true(self, name, kind, rhs if name == line else lhs, rhs, *rest)  # type: ignore[arg-type]

    target = replace(NAMED["a1"], lines=("epoch", line), loose=())
    monkeypatch.setattr(run, "TARGETS", (target,))
    assert run.measure(["a1"], {"budget": 8}, seed=0, workers=1)["indistinct"] == []
    monkeypatch.setattr(Ledger, "_add", same)
    found = run.measure(["a1"], {"budget": 8}, seed=0, workers=1)
    assert f"a1, line {line}: nothing tells its sides apart" in found["failures"]


def test_a_search_without_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget=0 is not possible"):
        maximise(NAMED["a1"], ("epoch",), Archive(), budget=0, seed=0, stop=1.0)


def test_the_stronger_line_of_a_ledger_is_stronger_everywhere() -> None:
    ledger = Ledger(stronger={"x": 2.0, "y": 2.0})
    ledger.check("x", [1.0, -1.0, 0.4], [1.0, -1.0, 1.0], scale=1.0)
    assert ledger.lines["x"].violations == 1  # -1 <= -1 stays as it was
    assert ledger.lines["x"].largest_ratio == 2.0
    ledger.check("other", [1.0], [1.0], scale=1.0)
    assert ledger.lines["other"].violations == 0
    ledger.equal("y", np.array([Fraction(1, 3)]), np.array([Fraction(1, 3)]), scale=1.0)
    assert ledger.lines["y"].violations == 1


def test_close_calls_are_decided_in_sixty_digits() -> None:
    target = NAMED["b1_plus_one"]
    point = np.array([0.0, 0.0])  # a tiny gradient and a short step
    assert target.instance(point)[0].start[0] == 1e-4
    screen = judge(target, point)
    precise = judge(target, point, lines=("B1.12",))
    assert screen.lines["B1.12"].largest_ratio != precise.lines["B1.12"].largest_ratio
    assert precise.lines["B1.12"].largest_ratio == pytest.approx(1, abs=1e-15)


def test_points_of_the_space_are_positive_definite_matrices() -> None:
    axes = matrix_axes(3)
    for coordinates in np.random.default_rng(0).uniform(size=(50, len(axes))):
        matrix = matrix_of(decode(axes, coordinates), 3)
        assert np.linalg.eigvalsh(matrix)[0] > 0
        assert matrix[0, 0] == pytest.approx(1)


@pytest.mark.parametrize(("low", "high", "log"), [(1.0, 1.0, False), (0.0, 1.0, True)])
def test_an_empty_range_is_refused(low: float, high: float, log: bool) -> None:
    with pytest.raises(ValueError, match=r"axis a: \[.*\] is not possible"):
        Axis("a", low, high, log)


def test_the_cells_of_the_maps_hold_what_they_say() -> None:
    target = maps.cell("a1", {"gamma": 1.0, "coupling": 0.6, "inner_steps": 2})
    problem, setting = target.instance(np.array([0.3, 0.8, 0.2, 0.4, 0.9]))
    assert problem.L_i == pytest.approx([1, 1])
    assert problem.L_ij[0, 1] == pytest.approx(0.6)
    assert setting == {"gamma": 1.0, "inner_steps": 2, "order": "cyclic", "epochs": 1}
    problem, setting = maps.cell("b1_plus", {"eps": 0.1, "fraction": 0.5}).instance(np.full(4, 0.7))
    assert np.sqrt(2 * problem.L_i.max() * problem.gap(problem.start)) == pytest.approx(1)
    assert B1Plus().evaluate(problem, **setting).ledger.violations == 0


def test_the_slack_of_the_map_grows_with_the_steps() -> None:
    one, four = (maps.row("a1", [{"gamma": 1.0, "coupling": 0.9, "inner_steps": K}], 12, 0) for K in (1, 4))
    assert one["ratios"][0] > 0.98
    assert 0.4 < four["ratios"][0] < 0.6
    assert not one["violations"] + four["violations"]

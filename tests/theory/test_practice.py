"""Resampled mean fields against exact ones, the predictions of a visit against visits, and the command on records."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import records
from bcd import Adam, Cyclic, minimise
from records.packed import pack
from theory import practice, promises
from theory.bounds.b2 import constants_of
from theory.bounds.d3 import first_order
from theory.bounds.f1 import constants_of as constants_of_f1
from theory.bounds.master import largest_a, recipe_of
from theory.mean_field import parts, zero
from theory.noise import TwoPoint
from theory.resampled import Noise, per_skewness

BETAS, EPS = (0.9, 0.999), 1e-8
TWO_POINT = TwoPoint.of(0.3, 1.0)
DEVIATION = 4.5
"""Standard errors that a resampled expectation may be off; seven in a million are further."""


def two_point(visits=20000, **options):
    """Noise with the two values of TWO_POINT, three examples up and seven down."""
    (up, down), _ = TWO_POINT.outcomes(np.ones(1))
    table = np.array([[up] * 3 + [down] * 7])
    return Noise(table, **({"batch": 1, "visits": visits, "inner_steps": 10, "seed": 1} | options))


@pytest.mark.parametrize("shift", [-0.8, 0.0, 0.2, 0.9])
def test_the_field_is_that_of_theory_mean_field(shift):
    steps = [1, 2, 5, 10]
    found = two_point().field(np.array([shift]), steps, EPS)
    for i, K in enumerate(steps):
        positive, negative = parts(shift, TWO_POINT, K, BETAS, EPS)
        off = abs(found.mean[i, 0] - (positive - negative))
        assert off <= DEVIATION * found.error[i, 0] + 1e-9
        assert found.error[i, 0] < 0.03  # so that a field that is off by a few percent is seen


def test_the_zero_is_that_of_theory_mean_field():
    noise = two_point(inner_steps=50, visits=5000)
    for K in (8, 12, 25, 50):
        exact = zero(TWO_POINT, K, BETAS, EPS)
        at = noise.zero(K, EPS)
        error = noise.field(at, [K], EPS).error[0, 0] / K
        assert abs(at[0] - exact) <= DEVIATION * error + 2e-4
        assert abs(at[0] - 1.3 * exact) > DEVIATION * error + 2e-4  # another floor is told apart


def test_symmetric_noise_has_no_floor():
    noise = Noise(np.array([[-2.0, -0.5, 0.5, 2.0]]), batch=2, visits=5000, inner_steps=10, seed=0)
    at = noise.zero(10, EPS)
    assert abs(at[0]) <= DEVIATION * noise.field(at, [10], EPS).error[0, 0] / 10 * noise.sigma[0]
    assert noise.skewness == pytest.approx([0.0], abs=1e-12)


def test_minibatches_have_the_moments_of_their_mean():
    table = np.random.default_rng(0).exponential(size=(3, 40)) + 1
    noise = Noise(table, batch=4, visits=20000, inner_steps=2, seed=0)
    drawn = noise.drawn.reshape(-1, 3)
    error = noise.sigma / np.sqrt(len(drawn))
    assert (abs(drawn.mean(axis=0)) <= DEVIATION * error).all()
    assert drawn.std(axis=0) == pytest.approx(noise.sigma, rel=0.03)
    assert (drawn**3).mean(axis=0) / noise.sigma**3 == pytest.approx(noise.skewness, abs=0.1)
    assert noise.signal == pytest.approx(table.mean(axis=1))


@pytest.mark.parametrize("inner_steps", [1, 2, 50])
def test_the_prediction_is_the_first_order_of_theorem_d3(inner_steps):
    assert two_point().skewness[0] * per_skewness(inner_steps) == pytest.approx(first_order(0.3, inner_steps))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ([1.0, 2.0], {}, "shape"),
        ([[1.0]], {}, "shape"),
        (np.zeros((0, 3)), {}, "shape"),
        ([[1.0, float("nan")]], {}, "not finite"),
        ([[1.0, 2.0], [3.0, 3.0]], {}, "coordinate 1 never change"),
        ([[1.0, 2.0]], {"batch": 0}, "batch=0"),
        ([[1.0, 2.0]], {"visits": 1}, "visits=1"),
        ([[1.0, 2.0]], {"inner_steps": 0}, "inner_steps=0"),
    ],
)
def test_impossible_noise_is_named(table, options, message):
    with pytest.raises(ValueError, match=message):
        Noise(np.array(table), **({"batch": 1, "visits": 4, "inner_steps": 2, "seed": 0} | options))


def visit(eigenvalues, start, rule, alpha, inner_steps):
    """(decrease, first gradient) of one visit on 1/2 sum lambda x^2, by bcd."""
    scale = torch.tensor(eigenvalues, dtype=torch.float64)

    def f(x):
        return (scale * x[0] ** 2).sum() / 2

    x = torch.tensor(start, dtype=torch.float64)
    steps = minimise(f, [x], rule=rule, order=Cyclic(), inner_steps=inner_steps, lr=alpha, visits=1)
    return steps[0].value - f(steps[-1].after).item(), steps[0].gradient.numpy()


@pytest.mark.parametrize("inner_steps", [1, 3, 10])
@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 0.1])
def test_theorem_b2_for_a_visit_is_below_the_decrease_and_tells_its_best_step(alpha, inner_steps):
    rule, L = Adam(), 2.0
    decrease, g = visit([L, L, 1.0, 0.1], [1.0, -2.0, 1.0, 3.0], rule, alpha, inner_steps)
    block = {"size": 4, "gradient": {"l1": abs(g).sum()}, "curvature": {"value": L}}
    assert promises.b2_visit(rule, block, alpha, inner_steps) <= decrease
    best, promised = promises.b2_best(rule, block, inner_steps)
    assert promises.b2_visit(rule, block, best, inner_steps) == pytest.approx(promised)
    assert all(promises.b2_visit(rule, block, best * x, inner_steps) < promised for x in (0.9, 1.1))
    known = constants_of(rule.betas, inner_steps)
    by_hand = alpha * inner_steps * (abs(g).sum() - 4e-8) - alpha**2 * L * 4 * (known.C + known.N)
    assert promises.b2_visit(rule, block, alpha, inner_steps) == pytest.approx(by_hand)
    nothing = block | {"gradient": {"l1": 1e-9}}
    assert promises.b2_best(rule, nothing, inner_steps) == (0.0, 0.0)


@pytest.mark.parametrize("inner_steps", [1, 3, 10])
def test_theorem_b1_for_a_visit_is_below_the_decrease_and_silent_for_large_steps(inner_steps):
    rule, L = Adam(eps=0.5), 2.0
    largest = largest_a(recipe_of(rule, inner_steps)) * rule.eps / L
    start = [0.01, 0.02]
    G = L * np.sqrt(sum(x * x for x in start))
    for share in (0.1, 0.5, 0.9):
        decrease, g = visit([L, L], start, rule, share * largest, inner_steps)
        assert 0 < promises.b1_visit(rule, L, G, share * largest, inner_steps) * (g @ g) <= decrease
    assert promises.b1_visit(rule, L, G, 1.01 * largest, inner_steps) == 0.0
    if inner_steps == 1:  # nearly attained: half of twice the first-order decrease, minus what the step costs
        decrease, g = visit([L, L], start, rule, 0.9 * largest, 1)
        assert promises.b1_visit(rule, L, G, 0.9 * largest, 1) * (g @ g) > 0.9 * decrease


def measured() -> records.Record:
    """A small record of experiments.curvature, with two blocks and one state."""
    draw = np.random.default_rng(0)
    skewed = draw.exponential(size=(5, 20)) * [[1], [-1], [2], [-2], [1]]
    norms = {"norm": 2.0, "l1": 3.0, "max": 1.0}
    blocks = [
        {"block": i, "size": 4, "gradient": norms, "curvature": {"value": 4.0 + i}, "slope": 3.0, "bend": 8.0}
        for i in (0, 3)
    ]
    state = {
        "steps": 0,
        "loss": 2.0,
        "blocks": blocks,
        "couplings": [{"i": 3, "j": 0, "value": 2.0}],
        "whole": {"blocks": 4, "gradient": norms | {"max": 1.5}, "curvature": {"value": 9.0}},
        "visits": [{"block": 3, "lr": 0.01, "gradients": "full", "losses": [1.9, 1.7]}],
        "noise": [{"block": 3, "gradients": pack([*skewed.tolist(), [1.0] * 20])}],
    }
    config = {
        "rule": {"_target_": "bcd.Adam", "betas": [0.9, 0.999], "eps": 1e-8},
        "batch_size": 2,
        "visits": {"inner_steps": [1, 2], "lr": [0.01]},
    }
    origin = {"date": "2026-01-02"}
    return records.Record("curvature", "practice", "small", "k", "finished", config, {"states": [state]}, origin)


def test_the_analysis_of_a_small_record(monkeypatch):
    monkeypatch.setattr(practice, "DRAWN", {"zero": 50, "field": 60})
    (state,) = practice.analyse(measured())["states"]
    known = state["constants"]
    assert known["largest_entry"] == 1.5
    assert known["L_max"] == 7.0
    assert known["G"] == pytest.approx(28**0.5)
    first = state["b1"][0]
    assert first["largest_alpha"] == pytest.approx(1e-8 / 7.0)
    assert first["orders_too_large"] == pytest.approx([np.log10(0.01 * 7.0 / 1e-8)])
    assert first["eps_needed"] == pytest.approx([0.07])
    pairs = state["coupling"]
    assert pairs["matrix"] == [[4.0, 2.0], [2.0, 7.0]]
    assert pairs["relative"] == pytest.approx([2 / 28**0.5])
    assert pairs["Lambda_measured"] == pytest.approx(2.0)
    assert pairs["L_tau_measured"] == pytest.approx(9.0)
    one, two = state["visits"]
    assert (one["observed"], two["observed"]) == pytest.approx((0.1, 0.3))
    assert one["quadratic"] == pytest.approx(0.01 * 3 - 1e-4 * 4)
    assert "quadratic" not in two
    (field,) = state["field"]
    assert field["coordinates"] == 5  # the one that never changes is left out
    assert all(value > 0.9 for value in field["correlation"][2:])
    json.dumps(state, allow_nan=False)


def test_chi_is_analysed_where_it_was_measured():
    source = measured()
    (state,) = source.measurements["states"]
    rule = practice.rule_of(source)
    assert "match" not in practice.compare(state, source.config, rule)
    chi = {"adam": None, "random": [0.3], "climbed": 0.5, "climbed_bend": 0.4}
    signs = {"whole": {}, "partitions": {"by_layer": {"blocks": 4, "chi": chi}}}
    found = practice.compare(state | {"signs": signs}, source.config, rule)["match"]["by_layer"]
    known = constants_of_f1(BETAS, 2)
    assert found == {
        "blocks": 4,
        "chi": {"adam": None, "climbed": 0.5},
        "inner_steps": [1, 2],
        "ratio": {"adam": None, "climbed": [2.0, pytest.approx(2 * float((known.c + known.n) / known.c))]},
    }
    state["signs"] = signs
    text = practice.report({"states": practice.analyse(source)["states"]}, [0.01])
    assert "by_layer, 4 blocks: chi adam --, climbed 0.500" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"rule": {"_target_": "bcd.SGD"}, "batch_size": 2}}, "the theorems are about Adam's rule"),
        ({"config": {"rule": {"_target_": "bcd.Adam", "weight_decay": 0.1}, "batch_size": 2}}, "Adam's rule"),
        ({"measurements": {"states": [{"steps": 0, "loss": 1.0}]}}, "lacks 'blocks'"),
        ({"measurements": {}}, "lacks 'states'"),
    ],
)
def test_a_record_that_does_not_fit_is_named(change, message):
    with pytest.raises(records.RecordError, match=message):
        practice.analyse(replace(measured(), **change))


def test_the_command_reads_the_newest_record_and_writes_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(practice, "DRAWN", {"zero": 20, "field": 20})
    with pytest.raises(records.RecordError, match=r"run `python -m experiments\.curvature`"):
        practice.newest([tmp_path])
    older = replace(measured(), name="older", provenance={"date": "2025-01-02"})
    path, _ = (records.write(record, tmp_path) for record in (measured(), older))
    assert practice.newest([tmp_path / "none", tmp_path]).name == "small"
    practice.main([str(path), "--records-dir", str(tmp_path / "out")])
    assert "orders of magnitude too large" in capsys.readouterr().out
    (written,) = records.load_study("practice", kind="verify", folder=tmp_path / "out")
    assert written.measurements["measured"]["name"] == "small"
    for wrong in (tmp_path / "missing.json", next((tmp_path / "out").rglob("*.json"))):
        with pytest.raises(SystemExit, match="2"):
            practice.main([str(wrong), "--records-dir", str(tmp_path)])
        assert "error: " in capsys.readouterr().err


def test_the_committed_analysis_is_of_the_committed_measurement():
    source = practice.newest([records.COMMITTED])
    (analysis,) = records.load_study("practice", kind="verify", folder=records.COMMITTED)
    assert analysis.measurements["measured"]["key"] == source.key
    rule = practice.rule_of(source)
    for state, kept in zip(source.measurements["states"], analysis.measurements["states"], strict=True):
        again = practice.compare(state, source.config, rule)
        for part in ("constants", "b1", "coupling", "visits"):
            text = json.dumps([again[part], kept[part]])
            assert "NaN" not in text
            for old, new in zip(numbers(kept[part]), numbers(again[part]), strict=True):
                assert new == pytest.approx(old, rel=1e-9, abs=1e-15)


def numbers(value):
    """All numbers inside a JSON value, in order."""
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in numbers(value[key])]
    if isinstance(value, list):
        return [x for item in value for x in numbers(item)]
    return [value] if isinstance(value, int | float) else []

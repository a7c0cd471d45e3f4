"""The algebra of the proofs: each identity is proved, each changed one is not, the formulas are those of the code."""

from itertools import islice

import numpy as np
import pytest
import sympy

import records
from bcd import Momentum
from tests.commands import run_module
from theory.bounds import master
from theory.bounds.a1 import kappa
from theory.bounds.b1_corollary import geometric
from theory.bounds.triangular import lower_norm, tau
from theory.moments import weights
from theory.symbolic import Equation, __main__, adaptive, proved
from theory.symbolic.__main__ import IDENTITIES
from theory.symbolic.identity import Identity, mutations, total

EACH = pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: f"{identity.theorem}-{identity.name}")


@EACH
def test_it_is_proved_and_belongs_to_a_theorem(identity: Identity) -> None:
    for equation in identity.build():
        assert proved(equation), equation
    assert (records.ROOT / "theory" / "bounds" / f"{identity.theorem}.py").exists()
    assert identity.statement


@EACH
@pytest.mark.parametrize("most", [5, pytest.param(None, marks=pytest.mark.slow, id="all")])
def test_no_changed_number_survives(identity: Identity, most: int | None) -> None:
    changed = [mutation for equation in identity.build() for mutation in islice(mutations(equation), most)]
    assert changed
    for mutation in changed:
        assert not proved(mutation), mutation


@EACH
def test_what_a_symbol_of_a_slack_stands_for_has_its_sign(identity: Identity) -> None:
    """At 20 points under the hypotheses: b, p, theta in (0, 1/2), 1 <= l < k <= K, everything else positive."""
    generator, whole = np.random.default_rng(0), {"l": 1, "j": 1, "k": 2, "n": 2, "t": 2, "K": 4}
    for equation in identity.build():
        for symbol, meaning in equation.where.items():
            for _ in range(20 if symbol.is_nonnegative else 0):
                values = {
                    free: whole[free.name] + int(generator.integers(2)) * (free.name in "kK")
                    if free.is_integer
                    else generator.uniform(0.01, 0.5)
                    for free in sorted(meaning.free_symbols, key=str)
                }
                assert meaning.subs(values) >= 0, (symbol, meaning, values)


def test_false_statements_are_not_proved() -> None:
    x, y = sympy.symbols("x y", positive=True)
    k = sympy.Symbol("k", integer=True, positive=True)
    assert not proved(Equation(x, y))
    assert not proved(Equation(1 / (x - x), 1 / (x - x))), "0/0"
    assert not proved(Equation(2 * x, x + y, slack=y - x)), "true, but the slack has no sign"
    assert not proved(Equation(x ** (k + 1), x**k))
    assert not proved(Equation(y, x, roots={y: x**2}, slack=-y)), "a negative slack"
    assert not proved(Equation(sympy.sqrt(x + y), sympy.sqrt(x) + sympy.sqrt(y)))
    assert not all(map(proved, total(k, k * (k - 1) / 2, k)))
    assert not all(map(proved, total(k, k * (k + 1) / 2 + 1, k)))
    assert all(map(proved, total(k, k * (k + 1) / 2, k)))


def test_the_weights_are_those_of_the_code() -> None:
    beta, last = 0.7, 6
    w = weights(beta, last)
    for k in range(1, last + 1):
        for length in range(1, k + 1):
            values = {adaptive.b: beta, adaptive.k: k, adaptive.l: length, adaptive.j: length}
            assert float(adaptive.w_kj.subs(values)) == pytest.approx(w[k - 1, length - 1], rel=1e-12)
            assert float(adaptive.W_kl.subs(values)) == pytest.approx(w[k - 1, :length].sum(), rel=1e-12)
        at = {adaptive.b: beta, adaptive.K: k}
        assert float(adaptive.S_K.subs(at)) == pytest.approx(geometric(beta, k), rel=1e-12, abs=1e-15)
        known = master.recipe_of(Momentum(beta), k)
        assert float(adaptive.K_EFF.subs(at)) == pytest.approx(float(known.total), rel=1e-12)
        assert float(known.inner) == pytest.approx(
            float(known.total**2 - (known.s**2).sum()) / 2, rel=1e-12, abs=1e-15
        )


@pytest.mark.parametrize("gamma", [1.2, 1.7, 1.95])
def test_the_closed_form_of_kappa_is_its_recursion(gamma: float) -> None:
    h = gamma * (2 - gamma)
    u, v = np.roots([4, -2 * h, -2 * h])  # the fixed points (h +- sqrt(h^2 + 8h))/4
    u, v = max(u, v), min(u, v)
    for K in (1, 2, 5, 30):
        power = ((1 + 2 * v) / (1 + 2 * u)) ** K * u / v
        assert (u - power * v) / (1 - power) == pytest.approx(kappa(gamma, K), rel=1e-12)


def test_the_norms_of_lemma_t_are_those_of_the_code() -> None:
    assert lower_norm(0.3, 1.1, 0.7) == pytest.approx(np.linalg.norm([[0.3, 0], [1.1, 0.7]], 2), rel=1e-12)
    for m in (1, 2, 4):
        assert lower_norm(tau(m), 1.0, tau(m)) == pytest.approx((1 + (1 + 4 * tau(m) ** 2) ** 0.5) / 2, rel=1e-12)


@pytest.mark.integration
def test_the_command_lists_every_identity_and_fails_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_module("theory.symbolic", "a1").returncode == 2, "there is nothing to choose"
    done = run_module("theory.symbolic")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" equations  PROVED\n") == len(IDENTITIES) >= 45
    assert done.stdout.endswith(f"\nPROVED: {len(IDENTITIES)} of {len(IDENTITIES)} identities\n")
    wrong = Identity("a1", "wrong", "1 = 2", lambda: [Equation(sympy.Integer(1), sympy.Integer(2))])
    monkeypatch.setattr(__main__, "IDENTITIES", [IDENTITIES[0], wrong])
    assert __main__.main([]) == 1
    assert "NOT PROVED\n    1 = 2" in (out := capsys.readouterr().out)
    assert out.endswith("FAILS: 1 of 2 identities\n")
    monkeypatch.setattr(__main__, "IDENTITIES", [Identity("a1", "empty", "nothing", list)])
    assert __main__.main() == 1, "without an equation nothing is proved"

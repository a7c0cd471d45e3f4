"""Theorem E: heavy-ball momentum with reset; without momentum, gradient descent.

Assumptions. f with f >= f*, L, L_i as in `theory.problems.Problem`. Every visit starts with an empty buffer and takes
K steps m <- b m + g, x <- x - lr m with b in [0, 1); abar = lr/(1-b) for every block, any order of the blocks.
With sigma, S, drift of the master lemma (`theory.bounds.master`), a = abar L_max < a_max.

Theorem. f(x^t) - f(x^{t+1}) >= coef_t ||grad f(x^t)||^2 with coef_t of the master lemma for hmin = hmax = 1, and

    min_{0<=t<=T} ||grad f(x^t)||^2 <= (f(x^0) - f*) / ( sum_{t<T} coef_t + 1/(2L) );

if f has a Polyak-Lojasiewicz constant mu_PL > 0, also f(x^{t+1}) - f* <= (1 - 2 mu_PL coef_t)(f(x^t) - f*).
Cases of equality: D = K = 1 on an eigenvector of L.
S = K - b(1-b^K)/(1-b): a reset costs b(1-b^K)/(1-b) effective steps a visit, nine for b = 0.9 and large K.

Proof. The master lemma; E.PL, E.rate and E.bound are the lines of Theorem B3 (`theory.bounds.b3`) for problems with
PL, S and bound those of Theorem B1+.
Source: momentum as an average of gradients is standard; resets with all constants are worked out in this project.
In the paper: thm:e, proof in app:e.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bcd import Momentum, Rule
from theory.bounds import master
from theory.bounds.b3 import linear_rate
from theory.bounds.bound import Bound, Control, require_between
from theory.bounds.master import MasterStatement, largest_a, recipe_of
from theory.ledger import Ledger
from theory.numbers import Array
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import Trajectory, require_order


class E(Bound):
    """Theorem E."""

    true = MasterStatement()

    def require(self, *, fraction: float, momentum: float, inner_steps: int, order: str) -> None:
        """Raise ValueError unless Theorem E covers the setting.

        Args:
            fraction: abar L_max/a_max, in (0, 1).
            momentum: b in [0, 1).
            inner_steps: K.
            order: a name in `ORDERS`.
        """
        require_between("fraction", fraction, 0, 1, who="Theorem E")
        require_between("momentum", momentum, 0, 1, closed=True, who="Theorem E")
        positive_integer("inner_steps", inner_steps)
        require_order(order)

    def method(
        self, problem: Problem, *, fraction: float, momentum: float, inner_steps: int, **_: Any
    ) -> tuple[Rule, list[float]]:
        rule = Momentum(float(momentum))
        abar = fraction * largest_a(recipe_of(rule, inner_steps)) / float(problem.L_i.max())
        return rule, [abar * (1 - momentum)] * len(problem.sizes)

    def prove(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: MasterStatement, **_: Any
    ) -> tuple[Array, Array]:
        epochs = master.check(problem, path, ledger, statement)
        if problem.pl > 0:
            named = {name.removeprefix("E."): value for name, value in ledger.stronger.items() if name[:2] == "E."}
            rates = Ledger(ledger.label, keep_series=ledger.keep_series, stronger=named)
            linear_rate(problem, path, rates, epochs, 2.0)
            ledger.lines |= {f"E.{name}": line for name, line in rates.lines.items()}
        return master.conclude(problem, path, ledger, epochs, epochs.coef)

    def controls(self) -> Iterator[Control]:
        top = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        once = {"order": "cyclic", "epochs": 1}
        double = MasterStatement(constant=2.0)
        yield self.control("coef doubled", "B1+", top, double, fraction=0.95, momentum=0.5, inner_steps=1, **once)

        # slow steps on a flat function: the first gradient stays, S of the K steps count
        slow = {"fraction": 0.01, "momentum": 0.9, "inner_steps": 4, **once}
        counted = MasterStatement(effective=False)
        yield self.control("S replaced by K", "B1.8", top, counted, **slow)

        steep = MasterStatement(a=0.3)
        far = {"momentum": 0.9, "inner_steps": 10, **once}
        yield self.control("abar = 8 a_max", "B.5", top, steep, true={"fraction": 0.9}, fraction=8.0, most=10.5, **far)

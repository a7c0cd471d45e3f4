"""What Theorems C1, C2 and C3 have in common: hypotheses on the step size and the noise."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.c1 import C1
from theory.bounds.c2 import C2
from theory.bounds.c3 import C3
from theory.bounds.stochastic import StochasticBound
from theory.noise import TwoPoint
from theory.problems.quadratic import Quadratic

BOUNDS: list[tuple[StochasticBound, dict[str, Any]]] = [
    (C1(), {}),
    (C2(), {"order": "cyclic"}),
    (C3(), {"order": "uniform"}),
]
LINE = Quadratic.from_matrix(np.eye(1) * 2, sizes=[1], start=np.array([3.0]))


@pytest.mark.parametrize(("bound", "more"), BOUNDS, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 2.0}, r"gamma=2\.0.*alpha < 2/L_max"),
        ({"gamma": 0.0}, r"gamma=0\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"sigma": -1.0}, r"sigma=-1\.0"),
        ({"sigma": float("inf")}, "sigma=inf"),
        ({"noise": TwoPoint.of(0.3, 1.1)}, "its variance is above"),
        ({"arithmetic": "exact"}, "arithmetic='exact'"),
    ],
)
def test_hypotheses_are_checked(
    bound: StochasticBound, more: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    setting = {"gamma": 0.5, "inner_steps": 1, "sigma": 1.0, "epochs": 2, **more}
    assert bound.evaluate(LINE, **setting).ledger.violations == 0
    with pytest.raises(ValueError, match=message):
        bound.evaluate(LINE, **{**setting, **change})

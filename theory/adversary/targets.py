"""Which theorem is attacked where: one entry a theorem, family and number of blocks."""

from typing import Any

import numpy as np

from theory.adversary.exact import largest_over_starts
from theory.adversary.search import Target
from theory.adversary.spaces import Axis, Point, matrix_axes, quadratic, start_axes
from theory.bounds.a1 import A1
from theory.bounds.a2 import A2, worst_huber
from theory.bounds.a3 import A3
from theory.bounds.a4 import A4
from theory.bounds.a5 import A5
from theory.bounds.a6_quadratic import A6Quadratic
from theory.bounds.b1 import B1
from theory.bounds.b1_corollary import B1Corollary
from theory.bounds.b1_plus import B1Plus
from theory.bounds.b2 import B2
from theory.bounds.c1 import C1
from theory.bounds.c2 import C2
from theory.bounds.c3 import C3
from theory.bounds.e import E
from theory.bounds.f1 import F1
from theory.bounds.f1_order import F1Order
from theory.bounds.f2 import F2
from theory.problems import Problem
from theory.problems.plsin import PLSin
from theory.problems.quadratic import Quadratic

HALVES = Axis("sizes", values=((2,), (1, 1)))
PARTITIONS = Axis("sizes", values=((3,), (1, 2), (2, 1), (1, 1, 1)))
GAMMA = Axis("gamma", 0.05, 1.95)
EQUAL = 0.9995
"""What a case of equality must reach: 1.000 in three decimals."""

STEPS = Axis("inner_steps", values=(1, 2, 3, 4))
ORDER = Axis("order", values=("cyclic", "descending"))
FRACTION = Axis("fraction", 1e-3, 0.999, log=True)
BETAS = Axis("betas", values=((0.0, 0.9), (0.5, 0.9), (0.9, 0.999)))
FROM_TINY_TO_HUGE = (1e-4, 1e4)


def pair(point: Point) -> Quadratic:
    """Two blocks of one coordinate."""
    return quadratic(point, (1, 1))


def triple(point: Point) -> Quadratic:
    """Three coordinates in the partition of the point, by default one block each."""
    return quadratic(point, (1, 1, 1))


def single(point: Point) -> Quadratic:
    """L x^2/2 in one variable."""
    start = np.array([point["size"]])
    return Quadratic.from_matrix(np.array([[point.get("L", 1.0)]]), sizes=[1], start=start)


def wave(point: Point) -> Problem:
    """The nonconvex u^2 + 3 sin(u)^2, one block."""
    problem = PLSin([1], condition=1.0, seed=0)
    problem.start = np.array([point["u"]]) / problem.rows[0]
    return problem


def ramp(point: Point) -> Problem:
    """Huber's function of one variable with the kink that is worst for T block epochs."""
    return worst_huber(epochs=point["kink"])


ONCE: dict[str, Any] = {"epochs": 1}
PAIR, TRIPLE = matrix_axes(2) + start_axes(2), matrix_axes(3) + start_axes(3)
ADAM_PAIR = matrix_axes(2) + start_axes(2, sizes=FROM_TINY_TO_HUGE)
ADAM_TRIPLE = (*matrix_axes(3), *start_axes(3, sizes=FROM_TINY_TO_HUGE), PARTITIONS)
SIZE = Axis("size", *FROM_TINY_TO_HUGE, log=True)
VISIT = ("A0", "A0*", "A0'", "A0''", "A6", "A1a", "T", "A1b", "epoch")
MASTER = ("B.1", "B.2", "B.3", "B.3'", "B.4", "B.5")
ADAM_ONCE = {**ONCE, "eps": 1.0, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic"}
ADAM_AXES = (
    Axis("rate", 0.01, 10.0, log=True),
    Axis("eps", 1e-8, 1.0, log=True),
    Axis("betas", values=((0.5, 0.9), (0.9, 0.999))),
    STEPS,
)
F_VISIT = ("B.1", "B.7", "B2.1", "F1.1", "F1.2", "F1.3", "F1.4")

TARGETS = (
    Target(
        "a1_pair",
        A1(),
        pair,
        PAIR,
        (GAMMA, ORDER),
        {**ONCE, "inner_steps": 1},
        ("epoch",),
        least={"epoch": 0.98},
        exact=largest_over_starts,
        loose=("bound",),
        equal=("A0", "A0*", "A0'", "A0''", "A6", "A1a"),
    ),
    Target("a1", A1(), triple, (*TRIPLE, PARTITIONS), (GAMMA, STEPS, ORDER), ONCE, VISIT, loose=("bound",)),
    Target(
        "a2",
        A2(),
        ramp,
        (Axis("kink", values=(1, 2, 4, 8)),),
        (Axis("epochs", values=(1, 2, 4, 8)),),
        {"gamma": 1.0, "inner_steps": 1, "order": "cyclic"},
        (),
        loose=("bound", "step", "convex"),
        equal=("epoch", "C_BT"),
    ),
    Target("a3", A3(), pair, (*PAIR, HALVES), (GAMMA, STEPS, ORDER), ONCE, ("PL", "rate")),
    Target(
        "a3_wave",
        A3(),
        wave,
        (Axis("u", -3.0, 3.0),),
        (GAMMA, STEPS),
        {**ONCE, "order": "cyclic"},
        ("PL",),
        loose=("rate",),
    ),
    Target(
        "a4",
        A4(),
        triple,
        (*TRIPLE, PARTITIONS),
        (Axis("exponent", values=(0.0, 1.0)),),
        ONCE,
        ("A4.0", "A4.1", "A4.2", "A4.3", "A4.4"),
        least={"A4.1": EQUAL, "A4.2": EQUAL},
        loose=("A4.5", "A4.S"),
        by_hand=("largest",),
        equal=("convex",),
    ),
    Target("a5", A5(), triple, TRIPLE, (Axis("order", values=("ascending", "descending")),), {"epochs": 2}, ("rate",)),
    Target(
        "a5_pair",
        A5(),
        pair,
        PAIR,
        (Axis("order", values=("ascending", "descending")),),
        {"epochs": 2},
        ("rate", "two"),
        equal=("two",),
    ),
    Target("a6", A6Quadratic(), pair, (*PAIR, HALVES), (GAMMA, STEPS, ORDER), ONCE, ("rate",), loose=("A3",)),
    Target(
        "b1_plus_one",
        B1Plus(),
        single,
        (SIZE,),
        (FRACTION,),
        ADAM_ONCE,
        ("B1+",),
        least={"B1+": 0.98},
        loose=("bound",),
        equal=("B.1", "B.6", "B1.8", "B1.12", "S"),
    ),
    Target(
        "b1_plus_pair",
        B1Plus(),
        pair,
        ADAM_PAIR,
        (FRACTION,),
        ADAM_ONCE,
        ("B1+", "B1.8", "B1.9"),
        least={"B1+": 0.98},
        loose=("bound",),
        equal=("B1.12",),
    ),
    Target(
        "b1_plus",
        B1Plus(),
        triple,
        ADAM_TRIPLE,
        (FRACTION, BETAS, STEPS, ORDER),
        {**ONCE, "eps": 1.0},
        MASTER,
        loose=("B1.11", "B1.12", "B1+", "B1.10", "bound"),
        spared=("coupling",),
    ),
    Target(
        "b1",
        B1(),
        triple,
        ADAM_TRIPLE,
        (FRACTION, BETAS, STEPS, ORDER),
        {**ONCE, "eps": 1.0},
        (),
        loose=("B1.10", "bound"),
    ),
    Target(
        "b1_corollary",
        B1Corollary(),
        triple,
        ADAM_TRIPLE,
        (BETAS, STEPS, ORDER),
        {**ONCE, "eps": 1.0},
        (),
        loose=("D", "bound"),
    ),
    Target(
        "b2_one",
        B2(),
        single,
        (SIZE, Axis("L", 0.1, 10.0, log=True)),
        (Axis("rate", 0.1, 10.0, log=True), Axis("eps", 1e-8, 1.0, log=True)),
        {**ONCE, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic"},
        ("bound",),
        least={"bound": 0.98},
        equal=("B2.4",),
    ),
    Target(
        "b2",
        B2(),
        triple,
        ADAM_TRIPLE,
        (*ADAM_AXES, ORDER),
        ONCE,
        ("B.1", "B.7", "B2.1", "B2.e", "B2.2", "B2.3", "B2.4", "B2.5"),
        loose=("bound",),
    ),
    Target(
        "c1",
        C1(),
        triple,
        TRIPLE,
        (GAMMA, STEPS, Axis("sigma", 1e-3, 10.0, log=True)),
        {"epochs": 4},
        ("step", "visit", "random"),
        loose=("bound", "tuned"),
        by_hand=("pathwise",),
    ),
    Target(
        "c2",
        C2(),
        triple,
        TRIPLE,
        (GAMMA, STEPS, Axis("sigma", 1e-3, 10.0, log=True), ORDER),
        {"epochs": 4},
        (),
        loose=("step", "epoch", "drift", "gradient", "bound"),
    ),
    Target(
        "c3",
        C3(),
        pair,
        PAIR,
        (GAMMA, STEPS, Axis("sigma", 1e-3, 10.0, log=True)),
        {"epochs": 4, "order": "uniform"},
        ("PL", "epoch", "bound"),
    ),
    Target(
        "c3_one",
        C3(),
        single,
        (SIZE,),
        (GAMMA, Axis("sigma", 1e-3, 10.0, log=True)),
        {"epochs": 4, "order": "uniform", "inner_steps": 1},
        ("PL", "epoch", "bound"),
        least={"epoch": EQUAL},
        equal=("PL", "epoch", "bound"),
    ),
    Target(
        "e",
        E(),
        triple,
        (*TRIPLE, PARTITIONS),
        (FRACTION, Axis("momentum", values=(0.0, 0.5, 0.9)), STEPS, ORDER),
        ONCE,
        (*MASTER[:1], *MASTER[2:], "B1.8", "B1.9", "B1+"),
        loose=("bound",),
        spared=("coupling",),
    ),
    Target(
        "e_pair",
        E(),
        pair,
        PAIR,
        (FRACTION, Axis("momentum", values=(0.0, 0.5, 0.9)), Axis("inner_steps", values=(1, 2)), ORDER),
        ONCE,
        ("B1+", "E.PL"),
        loose=("E.rate",),
        equal=("B.3", "B.4"),
    ),
    Target(
        "f1_one",
        F1(),
        single,
        (SIZE, Axis("L", 0.1, 10.0, log=True)),
        (Axis("rate", 0.1, 10.0, log=True), Axis("eps", 1e-8, 1.0, log=True)),
        {**ONCE, "betas": (0.9, 0.999), "inner_steps": 1},
        ("bound", "adam", "F1.5"),
        least={"bound": 0.98, "adam": 0.98},
        equal=("chi",),
    ),
    Target(
        "f1",
        F1(),
        triple,
        ADAM_TRIPLE,
        ADAM_AXES,
        {"epochs": 2},
        F_VISIT,
        loose=("F1.5", "bound", "adam", "chi"),
    ),
    Target(
        "f1_order",
        F1Order(),
        triple,
        ADAM_TRIPLE,
        (*ADAM_AXES, ORDER),
        ONCE,
        (*F_VISIT, "F1.6", "F1.7"),
        loose=("bound",),
    ),
    Target(
        "f2_one",
        F2(),
        single,
        (SIZE, Axis("L", 0.1, 10.0, log=True)),
        (Axis("rate", 0.1, 10.0, log=True), Axis("eps", 1e-8, 1.0, log=True)),
        {**ONCE, "betas": (0.9, 0.999), "inner_steps": 1, "s": 1.0, "sigma": 0.0, "p": 0.5, "outcomes": 2},
        ("rho", "size", "step", "visit", "bound"),
        least={"bound": 0.98},
        equal=("m_hat", "size"),
    ),
    Target(
        "f2",
        F2(),
        triple,
        ADAM_TRIPLE,
        (
            *ADAM_AXES[:-1],
            Axis("inner_steps", values=(1, 2)),
            Axis("s", 0.05, 1.0),
            Axis("sigma", 1e-3, 10.0, log=True),
            Axis("p", 0.05, 0.95),
            Axis("outcomes", values=(2, 3)),
        ),
        ONCE,
        ("m_hat", "rho", "e", "split", "size", "descent", "inside", "n", "xi", "step"),
        loose=("visit", "bound"),
    ),
)

"""The reference and the package in arithmetic that rounds nothing, or fifty digits later."""

from fractions import Fraction

import mpmath
import pytest
import torch

import bcd
from bcd import Cyclic, minimise, reference
from tests.bcd.conftest import by_name

# f(x) = x'Ax/2 - b'x in two blocks of one number, with dyadic entries: a few steps with a dyadic step size have short
# binary expansions, so float64 makes no rounding error at all and must equal the Fractions bit for bit.
A = [[Fraction(2), Fraction(1, 2)], [Fraction(1, 2), Fraction(1)]]
B = [Fraction(1), Fraction(-3, 4)]
START = [[Fraction(3, 2)], [Fraction(-5, 4)]]
LR = [Fraction(1, 4), Fraction(1, 2)]
VISITS = [(0,), (1,), (0,)]


def rational_gradient(i, x):
    return [A[i][0] * x[0][0] + A[i][1] * x[1][0] - B[i]]


def in_floats(rule, inner_steps):
    matrix, b = torch.tensor([list(map(float, row)) for row in A]).double(), torch.tensor(list(map(float, B))).double()

    def f(x):
        y = torch.cat(list(x))
        return y @ matrix @ y / 2 - b @ y

    start = [torch.tensor([float(number) for number in block], dtype=torch.float64) for block in START]
    lr = list(map(float, LR))
    steps = minimise(f, start, rule=rule, order=Cyclic(), inner_steps=inner_steps, lr=lr, visits=len(VISITS))
    return [[[number.item()] for number in step.after] for step in steps]


def in_fractions(update, inner_steps):
    return reference.descend(rational_gradient, START, VISITS, update=update, inner_steps=inner_steps, lr=LR)


def closed_form(beta, nesterov, inner_steps):
    """Every visit is a linear recursion of (x - x*, m), x* the block's minimiser given the other block."""
    x, iterates = [block[0] for block in START], []
    for (i,) in VISITS:
        a, lr, other = A[i][i], LR[i], 1 - i
        target = (B[i] - A[i][other] * x[other]) / a
        error, m = x[i] - target, Fraction(0)
        c, d = ((1 + beta) * a, beta * beta) if nesterov else (a, beta)  # the step is c error + d m
        for _ in range(inner_steps):
            error, m = (1 - lr * c) * error - lr * d * m, a * error + beta * m
            x[i] = target + error
            iterates.append([[x[0]], [x[1]]])
    return iterates


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("beta", [Fraction(0), Fraction(1, 2), Fraction(1, 3)])
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_sgd_are_exact_in_fractions(nesterov, beta, inner_steps):
    exact = in_fractions(reference.momentum(momentum=beta, nesterov=nesterov), inner_steps)
    assert exact == closed_form(beta, nesterov, inner_steps)
    assert all(isinstance(number, Fraction) for x in exact for block in x for number in block)
    if beta == 0:
        assert exact == in_fractions(reference.sgd(), inner_steps)


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize(
    ("rule", "update"),
    [
        (bcd.SGD(), reference.sgd()),
        (bcd.SGD(weight_decay=0.25), reference.sgd(weight_decay=Fraction(1, 4))),
        (bcd.Momentum(momentum=0.5), reference.momentum(momentum=Fraction(1, 2))),
        (bcd.Momentum(momentum=0.5, nesterov=True), reference.momentum(momentum=Fraction(1, 2), nesterov=True)),
        (bcd.Sign(weight_decay=0.5), reference.sign(weight_decay=Fraction(1, 2))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_optimizer_is_bitwise_the_fractions_where_nothing_is_rounded(rule, update, inner_steps):
    exact = in_fractions(update, inner_steps)
    assert all(Fraction(float(number)) == number for x in exact for block in x for number in block)
    assert in_floats(rule, inner_steps) == exact


def test_cyclic_sgd_with_exact_steps_is_gauss_seidel_bitwise():
    # Step 1 / A_ii minimises over the block; the diagonal holds powers of two, so nothing is rounded.
    assert [1 / lr for lr in (Fraction(1, 2), Fraction(1))] == [A[0][0], A[1][1]]
    matrix = torch.tensor([list(map(float, row)) for row in A]).double()
    b = torch.tensor(list(map(float, B))).double()
    steps = minimise(
        lambda x: torch.cat(list(x)) @ matrix @ torch.cat(list(x)) / 2 - b @ torch.cat(list(x)),
        [torch.zeros(1, dtype=torch.float64)] * 2,
        rule=bcd.SGD(), order=Cyclic(), inner_steps=1, lr=[0.5, 1.0], visits=12,
    )  # fmt: skip
    x = [Fraction(0), Fraction(0)]
    for t, step in enumerate(steps):
        i = t % 2
        x[i] = (B[i] - A[i][1 - i] * x[1 - i]) / A[i][i]
        assert torch.cat(step.after).tolist() == x


REFERENCE = {bcd.Adam: reference.adam, bcd.AdamW: reference.adamw}


@pytest.mark.parametrize("rule", [bcd.Adam(weight_decay=0.1), bcd.AdamW(weight_decay=0.1)], ids=["adam", "adamw"])
def test_adam_in_float64_is_adam_in_fifty_digits(rule):
    with mpmath.workdps(50):
        exact = reference.descend(
            lambda i, x: [sum(mpmath.mpf(float(a)) * y[0] for a, y in zip(A[i], x, strict=True)) - float(B[i])],
            [[mpmath.mpf(float(number)) for number in block] for block in START],
            VISITS * 2,
            update=REFERENCE[type(rule)](**in_digits(rule), sqrt=mpmath.sqrt),
            inner_steps=20,
            lr=[mpmath.mpf(float(lr)) for lr in LR],
        )
        floats = reference.descend(
            lambda i, x: [float(A[i][0]) * x[0][0] + float(A[i][1]) * x[1][0] - float(B[i])],
            [[float(number) for number in block] for block in START],
            VISITS * 2,
            update=REFERENCE[type(rule)](**by_name(rule)),
            inner_steps=20,
            lr=list(map(float, LR)),
        )
        package = in_floats(rule, 20)
        assert len(exact) == len(floats) == 2 * len(package) == 120
        for found in (floats, package):
            for x, y in zip(exact, found, strict=False):
                assert all(abs(p[0] - q[0]) <= 1e-13 * max(1, abs(p[0])) for p, q in zip(x, y, strict=True))
        # Fifty digits are not the float's own: the comparison does compare two arithmetics.
        assert any(mpmath.mpf(float(block[0])) != block[0] for block in exact[-1])


def in_digits(rule):
    """The rule's hyperparameters in mpmath's numbers."""
    return {name: mpmath.mpf(value) for name, value in by_name(rule).items()}

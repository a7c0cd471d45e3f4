"""Every family of conf/problem: f, its gradient, decrease and gap agree with torch and in every number type."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch

from tests.theory.families import NAMES, instances, showcase
from theory.numbers import DIGITS, lift, norm
from theory.problems.ridge import RidgeSum
from theory.problems.sampling import hessians, inside_points

RATIONAL = ("deep_linear", "huber", "matfac", "nesterov", "quadratic", "rosenbrock")


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_agree_with_autograd(name: str) -> None:
    for problem in instances(name):
        points = inside_points(problem, 12, np.random.default_rng(1)).reshape(3, 4, -1)
        values, gradients = problem.value(points), problem.gradient(points)
        assert values.shape == (3, 4)
        for x, value, gradient in zip(points.reshape(12, -1), values.ravel(), gradients.reshape(12, -1), strict=True):
            blocks = [torch.tensor(x[part], requires_grad=True) for part in problem.slices]
            loss = problem.objective(blocks)
            assert loss.item() == pytest.approx(value, rel=1e-9, abs=1e-12 * problem.value_scale(x))
            found = np.concatenate([part.numpy() for part in torch.autograd.grad(loss, blocks)])
            assert found == pytest.approx(gradient, rel=1e-9, abs=1e-12 * problem.gradient_scale(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_hessians_of_the_adversary_are_those_of_torch(name: str) -> None:
    problem = showcase(name)
    points = inside_points(problem, 30, np.random.default_rng(2))
    for x, matrix in zip(points, hessians(problem, points), strict=True):
        split = torch.from_numpy(x)
        found = torch.autograd.functional.hessian(lambda y: problem.objective(y.split(problem.sizes)), split)
        assert matrix == pytest.approx(found.numpy(), rel=1e-9, abs=1e-9 * problem.L)


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_multi_precision_up_to_the_stated_rounding(name: str) -> None:
    problem = showcase(name)
    points = inside_points(problem, 6, np.random.default_rng(3))
    with mpmath.workdps(DIGITS):
        for copied in (problem, problem.lifted(mpmath.mpf)):
            x = lift(points)
            value, gradient = copied.value(x), copied.gradient(x)
            assert isinstance(value[0], mpmath.mpf)
            error = (abs(problem.value(points) - value) / problem.value_scale(points)).max()
            assert error < 64 * 2.0**-53
            assert (norm(problem.gradient(points) - gradient) / problem.gradient_scale(points)).max() < 64 * 2.0**-53
            assert (abs(copied.gap(x) - problem.gap(points)) / problem.value_scale(points)).max() < 1e-13
            assert np.array_equal(copied.inside(x), problem.inside(points))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1.0, 1e-3, 1e-8, 1e-14])
def test_decreases_do_not_cancel(name: str, length: float) -> None:
    problem = showcase(name)
    x, towards = inside_points(problem, 24, np.random.default_rng(7)).reshape(2, 12, -1)
    y = x + length * (towards - x)
    scale = (problem.gradient_scale(x) + problem.gradient_scale(y)) * np.linalg.norm(x - y, axis=1)
    with mpmath.workdps(DIGITS):
        change = problem.decrease(lift(x), lift(y))
        difference = problem.value(lift(x)) - problem.value(lift(y))
        # Products, not quotients: at a minimiser in 0 both sides are 0.
        assert (abs(change - difference) <= mpmath.mpf(10) ** (5 - DIGITS) * problem.value_scale(x)).all()
        assert (abs(problem.decrease(x, y) - change) <= 64 * 2.0**-53 * scale).all()


@pytest.mark.parametrize("name", ["expcosh", "huber", "logistic", "plsin", "quadcos"])
def test_the_second_derivative_of_a_ridge_is_that_of_its_slope_in_sixty_digits(name: str) -> None:
    problem = showcase(name)
    assert isinstance(problem, RidgeSum)
    points = inside_points(problem, 6, np.random.default_rng(5))
    with mpmath.workdps(DIGITS):
        u, h = problem.directions(lift(points)), mpmath.mpf(10) ** -25
        found = problem.bend(u)
        difference = (problem.slope(u + h) - problem.slope(u - h)) / (2 * h)
        assert (abs(found - difference) < mpmath.mpf(10) ** -30).all()
        assert np.asarray(found, dtype=np.float64) == pytest.approx(problem.bend(problem.directions(points)), rel=1e-9)


@pytest.mark.parametrize("name", ["quadratic", "nesterov", "logistic", "expcosh", "quadcos"])
def test_the_gap_of_strongly_convex_problems_has_fifty_digits(name: str) -> None:
    problem = showcase(name)
    if name == "quadcos":  # strongly convex for small amplitudes only
        problem = type(problem)([1, 2], amplitude=0.002, terms=3, seed=1)
        assert problem.convex
    with mpmath.workdps(DIGITS):
        near = lift(problem.minimiser) + mpmath.mpf(10) ** -9
        gap = problem.gap(near)
    with mpmath.workdps(3 * DIGITS):
        assert abs(problem.gap(near) / gap - 1) < mpmath.mpf(10) ** -40  # the gap is 1e-18 of the values
        assert gap >= problem.gap(near) * (1 - mpmath.mpf(10) ** -40) > 0


@pytest.mark.parametrize("name", RATIONAL)
def test_rational_problems_are_exact_in_fractions(name: str) -> None:
    problem = showcase(name)
    exact = problem.lifted(Fraction)
    x = exact.start
    y = x - exact.gradient(x) / 1024
    assert {type(number) for number in (*exact.gradient(x), exact.value(y))} == {Fraction}
    assert exact.decrease(x, y) == exact.value(x) - exact.value(y)
    assert float(exact.gap(x)) == pytest.approx(problem.gap(problem.start), rel=1e-9)
    assert float(exact.value(x)) == pytest.approx(problem.value(problem.start), rel=1e-9)

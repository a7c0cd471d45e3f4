"""Lemma T: how far the block gradients move while the other blocks are visited.

For an order 1, ..., D of one block epoch, x^{i-1} the point before the visit of block i and u_i its displacement,

    sum_i ||grad_i f(x^0) - grad_i f(x^{i-1})||^2 <= Lambda^2 sum_i ||u_i||^2,
    Lambda = min{ R tau(D), ||strictly lower triangle of (L_ij)||_2, the problem's own exact value },

with the cross constant R = (L - mu)/2 and tau(1) = 0, tau(D) = min_{1<=a<D} || [[tau(a), 0], [1, tau(D-a)]] ||_2.

Proof of R tau(D). Split the order into a left part (its first a blocks) and a right part. Every averaged Hessian H
(of a mollified f, if f has no second derivative) has mu <= H <= L, and for disjoint sets of coordinates P, Q:
||H_PQ|| = ||(H - (L+mu)/2 I)_PQ|| <= (L-mu)/2 = R.
So moving the left part by u_left moves the right gradients by at most R||u_left||. For right rows, the change up to
x^{i-1} is that change plus a change inside the right part: with induction, the vector of the two norms is at most
[[R tau(a), 0], [R, R tau(D-a)]] applied to (||u_left||, ||u_right||). Take the best a. QED
mu = -L gives R = L for any L-smooth f; a = D-1 gives tau <= sqrt(D-1), halving gives tau <= ceil(log2 D).

In the paper: lem:T, proof in app:triangular.
Source: proved in this project. Searched in public web pages and source repositories for cyclic block coordinate
descent with a logarithmic dependence on the number of blocks: found for quadratics, log^2 D (Sun and Hong, arXiv
1512.04680), and a factor of at most sqrt(D) for general operators (Song and Diakonikolas, arXiv 2102.13244); log2 D
for every smooth f was not found.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from theory.problems import Problem


def lower_norm(p: float, r: float, q: float) -> float:
    """|| [[p, 0], [r, q]] ||_2 for nonnegative p, r, q.

    >>> lower_norm(0.0, 1.0, 0.0)
    1.0
    """
    total = p * p + q * q + r * r
    return math.sqrt((total + math.sqrt(max(total * total - (2 * p * q) ** 2, 0.0))) / 2)


def recursion(leaf: float, cross: float, num_blocks: int) -> float:
    """m(D) of m(1) = leaf, m(n) = min_{1<=a<n} || [[m(a), 0], [cross, m(n-a)]] ||_2."""
    m = [math.nan, leaf]
    for n in range(2, num_blocks + 1):
        m.append(min(lower_norm(m[a], cross, m[n - a]) for a in range(1, n)))
    return m[num_blocks]


@functools.cache
def tau(num_blocks: int) -> float:
    """tau(D) of Lemma T.

    >>> [round(tau(D), 3) for D in (1, 2, 4, 8, 16)]
    [0.0, 1.0, 1.618, 2.194, 2.75]
    """
    return recursion(0.0, 1.0, num_blocks)


def cross_constant(problem: Problem) -> float:
    """R = (L - mu)/2: bound of the Hessian between disjoint sets of coordinates."""
    return (problem.L - problem.mu) / 2


def triangular_constant(problem: Problem, order: Sequence[int]) -> float:
    """Lambda of Lemma T for one block epoch in this order."""
    lower = np.tril(problem.L_ij[np.ix_(order, order)], -1)
    return min(
        cross_constant(problem) * tau(len(problem.sizes)),
        float(np.linalg.norm(lower, 2)),
        problem.triangular(order),
    )

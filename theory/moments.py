"""What a rule does with the gradients of one visit, recomputed from the gradients alone.

Every rule here moves the active block by Delta x^k = -lr s_k H^k m_hat^k with

    SGD        m_hat^k = g^k,                                                        H = 1,  s_k = 1
    Momentum   m^k = b m^{k-1} + (1-b) g^k,  m_hat^k = m^k/(1-b^k),                  H = 1,  s_k = (1-b^k)/(1-b)
    Adam       m_hat^k as with b = beta1,  v^k = beta2 v^{k-1} + (1-beta2) (g^k)^2,
               v_hat^k = v^k/(1-beta2^k),  H^k = 1/(sqrt(v_hat^k) + eps),                    s_k = 1

and m^0 = v^0 = 0 at the start of the visit (state is reset). So m_hat^k = sum_j w_kj g^j with `weights`.
"""

from dataclasses import dataclass

import numpy as np

from bcd import SGD, Adam, Momentum, Rule
from theory.numbers import Array, like, sqrt


@dataclass(frozen=True)
class Moments:
    """Shapes: V visits, K steps, d coordinates; every array has the number type of the gradients.

    Attributes:
        m_hat: (V, K, d), bias-corrected mean.
        H: (V, K, d) or (1, 1, 1), the diagonal preconditioner.
        factor: (K,), the s_k.
        v_hat: (V, K, d), None for rules without it.
    """

    m_hat: Array
    H: Array
    factor: Array
    v_hat: Array | None = None


def require_plain(rule: Rule) -> None:
    """Raise ValueError for rules and options whose steps have not the form above."""
    decay = rule.hyperparameters().get("weight_decay", 0.0)
    nesterov = rule.hyperparameters().get("nesterov", False)
    if not isinstance(rule, SGD | Momentum | Adam) or decay or nesterov:
        raise ValueError(
            f"rule={rule!r} is not possible: the theory has SGD, heavy ball and Adam, without weight decay"
        )


def weights(beta: float, inner_steps: int, number: Array | None = None) -> Array:
    """w_kj = (1-b) b^{k-j}/(1-b^k) for j <= k, else 0; shape (K, K), rows sum to one.

    Args:
        beta: b in [0, 1).
        number: an array whose number type the weights get, float64 by default.

    >>> weights(0.5, 2)
    array([[1.        , 0.        ],
           [0.33333333, 0.66666667]])
    """
    b = beta if number is None else like(beta, number)
    w = np.zeros((inner_steps, inner_steps), dtype=object) + 0 * b  # zeros of the number type of b
    for k in range(inner_steps):
        for j in range(k + 1):
            w[k, j] = (1 - b) * b ** (k - j) / (1 - b ** (k + 1))
    return w if number is not None and number.dtype == object else w.astype(np.float64)


def moving_mean(beta: float, g: Array) -> Array:
    """Bias-corrected exponential mean along axis 1 by its recursion; g has shape (V, K, ...)."""
    b, m, rows = like(beta, g), 0 * g[:, 0], []
    for k in range(g.shape[1]):
        m = b * m + (1 - b) * g[:, k]
        rows.append(m / (1 - b ** (k + 1)))
    return np.stack(rows, axis=1)


def moments(rule: Rule, g: Array) -> Moments:
    """Moments of `rule` after each of the gradients g of shape (V, K, d).

    Raises:
        ValueError: for a rule that the theory does not have.
    """
    require_plain(rule)
    K = g.shape[1]
    one = like(np.ones((1, 1, 1)), g)
    factor = like(np.ones(K), g)
    if isinstance(rule, Momentum):
        b = like(rule.momentum, g)
        factor = np.array([(1 - b ** (k + 1)) / (1 - b) for k in range(K)], dtype=g.dtype)
        return Moments(moving_mean(rule.momentum, g), one, factor)
    if isinstance(rule, Adam):
        v_hat = moving_mean(rule.betas[1], g * g)
        return Moments(moving_mean(rule.betas[0], g), 1 / (sqrt(v_hat) + like(rule.eps, g)), factor, v_hat)
    return Moments(g, one, factor)

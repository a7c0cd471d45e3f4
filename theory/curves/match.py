"""When block descent matches Adam: the ratio of Theorem F1 beside measured runs, and the floor of Theorem F2.

f(x) = x'Hx/2 with H = ((1-c) I + c 11') x (11' + 0.05 I), the Kronecker product: D equal blocks whose coupling c goes
from none to full. Every entry is nonnegative, so that l is the sum of all of them and chi = (1 + (D-1) c)/D exactly.

What is measured is the left side of the theorem: for BAdam on random blocks the running mean of E||grad f||_1 over the
starts of visits, for Adam, its state reset every K steps, over all its steps. N is the least number of gradients whose
running mean is a share of its first value, for the best of some step sizes. Expectations are means over runs, each
with its own start and blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.bounds.f1 import penalty
from theory.bounds.f2 import floor
from theory.numbers import Array
from theory.problems.sup import block_sup_norms, sup_norm
from theory.problems.validation import positive_integer

RIDGE = 0.05
"""Of the diagonal of a block, whose other entries are 1."""

EPS = 1e-8

SLACK = 1.5
"""The slowest group may need so many times the gradients of all together."""


@dataclass(frozen=True)
class Setting:
    """What all runs share.

    Attributes:
        blocks: D.
        size: coordinates of a block.
        share: of its first value to which the running mean has to fall.
        rates: step sizes that are tried, first those that are likely to be the best.
        longest: gradients after which a run is given up.
        groups: groups of runs, each of which gives a number of gradients of its own.
        runs: runs of a group.
        betas: Adam's.

    Raises:
        ValueError: when a number is not possible.
    """

    blocks: int
    size: int
    share: float
    rates: Sequence[float]
    longest: int
    groups: int
    runs: int
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        for name in ("blocks", "size", "longest", "groups", "runs"):
            positive_integer(name, getattr(self, name))
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share!r} is not possible: it is between 0 and 1")
        if not self.rates or not all(rate > 0 for rate in self.rates):
            raise ValueError(f"rates={list(self.rates)} are not possible: at least one, all positive")

    def matrix(self, coupling: float) -> Array:
        """H.

        Raises:
            ValueError: when the coupling is not in [0, 1].
        """
        if not 0 <= coupling <= 1:
            raise ValueError(f"coupling={coupling!r} is not possible: it must be in [0, 1]")
        outer = (1 - coupling) * np.eye(self.blocks) + coupling * np.ones((self.blocks, self.blocks))
        return np.kron(outer, np.ones((self.size, self.size)) + RIDGE * np.eye(self.size))


def chi(setting: Setting, coupling: float) -> float:
    """l/(D sum_i l_i) of H."""
    H, D = setting.matrix(coupling), setting.blocks
    return sup_norm(H) / (D * float(np.trace(block_sup_norms(H, [setting.size] * D))))


def predicted(setting: Setting, coupling: float, inner_steps: int) -> float:
    """The ratio of Theorem F1."""
    return penalty(setting.betas, inner_steps, chi(setting, coupling))


def slopes(
    setting: Setting, H: Array, rate: float, inner_steps: int, *, full: bool, longest: int, seed: int = 0
) -> Array:
    """||grad f||_1 that the theorem averages, of all runs, until every group has fallen, (n, groups, runs).

    Args:
        rate: alpha.
        full: Adam on all coordinates, at every step; else BAdam on random blocks, at every start of a visit.
        longest: gradients after which it ends in any case.
        seed: of the starts and of the blocks.
    """
    generator, (b1, b2) = np.random.default_rng(seed), setting.betas
    R, D = setting.groups * setting.runs, setting.blocks
    x = generator.standard_normal((R, len(H)))
    block, seen = np.repeat(np.arange(D), setting.size), []
    total = np.zeros(setting.groups)
    for _visit in range(-(-longest // inner_steps)):
        mask = np.ones(1) if full else block == generator.integers(D, size=(R, 1))
        m, v = np.zeros_like(x), np.zeros_like(x)
        for k in range(1, inner_steps + 1):
            g = x @ H
            if full or k == 1:
                seen.append(abs(g).sum(axis=1).reshape(setting.groups, setting.runs))
                total += seen[-1].mean(axis=1)
            g = g * mask
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            x = x - rate * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + EPS)
        if (total / len(seen) <= setting.share * seen[0].mean(axis=1)).all():
            break
    return np.array(seen)


def gradients(seen: Array, share: float, each: int) -> Array:
    """N of every column of (n, columns): each time has `each` gradients; infinity where the mean never falls so far.

    >>> gradients(np.array([[4.0], [1.0], [0.0], [0.0]]), 0.5, 10).tolist()
    [30.0]
    """
    means = np.cumsum(seen, axis=0) / np.arange(1, len(seen) + 1)[:, None]
    fallen = means <= share * seen[0]
    return np.where(fallen.any(axis=0), each * (fallen.argmax(axis=0) + 1.0), np.inf)


def tuned(setting: Setting, H: Array, inner_steps: int, *, full: bool) -> dict[str, Any]:
    """The best step size for all runs, its N, and N of every group at it.

    Raises:
        ValueError: when no step size reaches the share.
    """
    best: dict[str, Any] = {"gradients": np.inf}
    longest, each = setting.longest, 1 if full else inner_steps
    for rate in setting.rates:
        seen = slopes(setting, H, rate, inner_steps, full=full, longest=longest)
        N = float(gradients(seen.mean(axis=(1, 2))[:, None], setting.share, each)[0])
        if best["gradients"] > N:
            of_groups = gradients(seen.mean(axis=2), setting.share, each)
            best = {"gradients": N, "rate": float(rate), "groups": of_groups.tolist()}
            longest = min(longest, int(SLACK * N) + inner_steps)  # a better step size needs fewer
    if not np.isfinite([best["gradients"], *best.get("groups", [])]).all():
        raise ValueError(
            f"longest={setting.longest} is not possible: no step size brings every mean to {setting.share} of its "
            "first value"
        )
    return best


def penalties(setting: Setting, couplings: Sequence[float], steps: Sequence[int]) -> list[dict[str, Any]]:
    """The predicted and the measured ratio N_BAdam/N_Adam for every coupling and K, that of every group too."""
    rows = []
    for K in steps:
        for coupling in couplings:
            H = setting.matrix(coupling)
            block, full = (tuned(setting, H, K, full=whole) for whole in (False, True))
            ratios = np.array(block["groups"]) / np.array(full["groups"])
            rows.append(
                {
                    "coupling": coupling,
                    "inner_steps": K,
                    "chi": chi(setting, coupling),
                    "predicted": predicted(setting, coupling, K),
                    "measured": block["gradients"] / full["gradients"],
                    "groups": ratios.tolist(),
                    "badam": {name: block[name] for name in ("gradients", "rate")},
                    "adam": {name: full[name] for name in ("gradients", "rate")},
                }
            )
    return rows


def floors(steps: Sequence[int], betas: tuple[float, float]) -> dict[str, Any]:
    """The floor of Theorem F2 over sigma_1, for these betas and with beta1 = 1 - 1/K."""
    return {
        "inner_steps": list(steps),
        "betas": list(betas),
        "fixed": [floor(betas, K) for K in steps],
        "growing": [floor((1 - 1 / K, betas[1]), K) for K in steps],
    }

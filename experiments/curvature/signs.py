"""Curvature along vectors of signs, and from it chi of Theorem F1 for several partitions.

For one point the constants of the theorem are l = max ||Hs||_1 over sign vectors s, which is max s'Hs for a positive
semidefinite H, and l_i the same of H_ii. Neither maximum can be computed for a model. What is measured, for all
coordinates together and summed over the blocks of each partition, is `bend` s'Hs and `norm` ||Hs||_1 along

    adam     the first step of Adam, s = g/(|g| + eps), a vector of signs nearly
    random   some vectors of random signs: their mean of s'Hs is the trace of H, the same for every partition, so that
             chi along them is near 1/D whatever the coupling
    climbed  s <- sign(Hs) from sign(g) and from random signs: ||Hs||_1 does not fall, and for a positive semidefinite
             H neither does s'Hs; the largest values on the way are kept

Every `norm` along signs is a lower estimate of l or of sum_i l_i at this one point; the constants of the theorem are
suprema over a region besides. So chi = l/(D sum_i l_i) is a ratio of two lower estimates, and itself neither a lower
nor an upper one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.curvature.hessian import Hessian, Vector, dot

MEANING = {
    "adam": "s = g/(|g| + eps), the first step of Adam",
    "random": "s of random signs; the mean of s'Hs is the trace of H for every partition",
    "climbed": "largest values of s <- sign(Hs) from sign(g) and from random signs",
    "bend": "s'Hs; of a partition summed over the diagonal blocks",
    "norm": "||Hs||_1, summed the same; along signs a lower estimate of l or of sum_i l_i at this point",
    "chi": "whole/(blocks x sum of a partition): of two lower estimates, so no bound of chi from any side",
}
"""What the record says of its own entries."""

Blocks = Sequence[Sequence[int]]
"""Indices of the tensors of each block."""


def signs(x: Sequence[Tensor], otherwise: Sequence[Tensor]) -> Vector:
    """The signs of x; where it is 0, those of `otherwise`."""
    return [torch.where(a == 0, b, a.sign()) for a, b in zip(x, otherwise, strict=True)]


def draw_signs(like: Sequence[Tensor], generator: torch.Generator) -> Vector:
    """Random signs; drawn on the CPU, so that they are the same on every device."""
    return [(2 * torch.randint(2, p.shape, generator=generator) - 1).to(p) for p in like]


def along(hessian: Hessian, block: Sequence[int], s: Vector) -> tuple[dict[str, float], Vector]:
    """s'Hs and ||Hs||_1 in one block, and Hs.

    Args:
        hessian: whose blocks are single tensors.
        block: their indices.
        s: one tensor for each.
    """
    image = [part[0] for part in hessian.product(block, {i: [v] for i, v in zip(block, s, strict=True)})]
    size = sum(part.double().abs().sum().item() for part in image)
    return {"bend": dot(s, image), "norm": size}, image


def climbed(hessian: Hessian, block: Sequence[int], s: Vector, iterations: int) -> dict[str, float]:
    """The largest s'Hs and ||Hs||_1 of so many iterations s <- sign(Hs), fewer when s comes back."""
    best = {"bend": float("-inf"), "norm": 0.0}
    for _ in range(iterations):
        found, image = along(hessian, block, s)
        best = {name: max(best[name], found[name]) for name in best}
        following = signs(image, s)
        if all(torch.equal(a, b) for a, b in zip(following, s, strict=True)):
            break
        s = following
    return best


def total(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums over blocks."""
    return {name: sum(part[name] for part in parts) for name in ("bend", "norm")}


def measure(
    hessian: Hessian,
    partitions: Mapping[str, Blocks],
    *,
    eps: float,
    generator: torch.Generator,
    drawn: int,
    iterations: int,
) -> dict[str, Any]:
    """All directions for everything and for each partition.

    Args:
        hessian: whose blocks are single tensors, those of every partition.
        partitions: name -> the tensors of each block; every partition has all tensors.
        eps: Adam's.
        generator: of the random signs.
        drawn: how many of them.
        iterations: most of them from each start, at least 1.

    Returns:
        `meaning`, the texts of `MEANING`; `whole` and for each of `partitions`: `adam` {bend, norm}, `random` a list
        of such, `climbed` {bend, norm}; partitions also have `blocks`, their number D, and `chi`: `adam` and each of
        `random` by bends, `climbed` by norms and `climbed_bend` by bends.
    """
    gradient = [part[0] for part in hessian.gradient]
    steps = [torch.nan_to_num(g / (g.abs() + eps)) for g in gradient]  # 0/0 is no step
    random = [draw_signs(gradient, generator) for _ in range(drawn)]
    starts = [signs(gradient, draw_signs(gradient, generator)), *random[:1]]

    def directions(block: Sequence[int]) -> dict[str, Any]:
        def of_block(v: Vector) -> Vector:
            return [v[i] for i in block]

        tops = [climbed(hessian, block, of_block(start), iterations) for start in starts]
        return {
            "adam": along(hessian, block, of_block(steps))[0],
            "random": [along(hessian, block, of_block(s))[0] for s in random],
            "climbed": {name: max(top[name] for top in tops) for name in ("bend", "norm")},
        }

    whole = directions(range(len(gradient)))
    result: dict[str, Any] = {"meaning": MEANING, "whole": whole, "partitions": {}}
    for name, blocks in partitions.items():
        each, D = [directions(block) for block in blocks], len(blocks)
        sums = {
            "adam": total([part["adam"] for part in each]),
            "random": [total([part["random"][k] for part in each]) for k in range(drawn)],
            "climbed": total([part["climbed"] for part in each]),
        }
        chi = {
            "adam": ratio(whole["adam"]["bend"], D * sums["adam"]["bend"]),
            "random": [
                ratio(w["bend"], D * part["bend"]) for w, part in zip(whole["random"], sums["random"], strict=True)
            ],
            "climbed": ratio(whole["climbed"]["norm"], D * sums["climbed"]["norm"]),
            "climbed_bend": ratio(whole["climbed"]["bend"], D * sums["climbed"]["bend"]),
        }
        result["partitions"][name] = {"blocks": D, **sums, "chi": chi}
    return result


def ratio(whole: float, parts: float) -> float | None:
    """None where the curvature of the blocks is not positive, so that the ratio says nothing."""
    return whole / parts if parts > 0 else None

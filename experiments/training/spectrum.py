"""The change that training made: its size, and the singular values of every matrix of it, which tell its rank."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from experiments.methods import Trainable

SHARE = 0.9
KEPT = 33
"""Singular values of a matrix that are recorded: evenly spaced indices, the largest and the smallest among them."""


def of_change(untrained: Any, trainable: Trainable) -> dict[str, Any]:
    """`movement` and, as `matrices`, `spectra` of the trained model against the model that it was.

    Adapters are merged, which uses the trainable up; an average takes the place of the weights where a method
    evaluates one. The embedding is left out of the spectra: its side of the vocabulary is no rank that a layer could
    have.
    """
    with trainable.evaluating():
        merged = trainable.merged()
        after, before = matrices(merged), matrices(untrained)
        changes = {name: after[name].double() - before[name].to(after[name].device).double() for name in before}
        return {"movement": movement(untrained, merged), "matrices": spectra(changes)}


def movement(before: Any, after: Any) -> dict[str, float]:
    """How far training moved all weights, embedding and norms included.

    norm = ||x - x_0||        relative = ||x - x_0|| / ||x_0||        Euclidean, over all weights together
    """
    first = dict(before.named_parameters())
    changed, start = 0.0, 0.0
    for name, parameter in after.named_parameters():
        old = first[name].detach().to(parameter.device).double()
        changed += (parameter.detach().double() - old).square().sum().item()
        start += old.square().sum().item()
    return {"norm": changed**0.5, "relative": (changed / start) ** 0.5}


def matrices(model: Any) -> dict[str, Tensor]:
    """The matrices of a model that are neither embedding nor head, by name."""
    outside = {id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer}
    return {name: p.detach() for name, p in model.named_parameters() if p.ndim == 2 and id(p) not in outside}


def spectra(changes: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """For every matrix: shape, stable rank, rank that holds `SHARE`, and the singular values.

        stable_rank = ||M||_F^2 / ||M||_2^2        rank_90 = fewest singular values with 90 % of the squared sum

    values: `KEPT` of them at evenly spaced indices (all, when there are fewer), relative to the largest.
    A matrix that did not change has stable rank 0, rank 0 and no values.
    """
    by_name = {}
    for name, values in singular_values(changes).items():
        squares = values.square()
        total = squares.sum()
        shape = list(changes[name].shape)
        if total == 0:
            by_name[name] = {"shape": shape, "stable_rank": 0.0, "rank_90": 0, "values": []}
            continue
        enough = int((squares.cumsum(0) < SHARE * total).sum()) + 1
        places = torch.linspace(0, len(values) - 1, min(KEPT, len(values)), dtype=torch.float64).round().long()
        relative = (values[places] / values[0]).tolist()
        by_name[name] = {
            "shape": shape,
            "stable_rank": float(f"{(total / squares[0]).item():.6g}"),
            "rank_90": enough,
            "values": [float(f"{value:.3g}") for value in relative],
        }
    return by_name


def singular_values(matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All singular values of each matrix, descending, on the CPU.

    They are the roots of the eigenvalues of the smaller Gram matrix, all of one shape at a time, in float64: what is
    below 1e-8 of the largest is rounding, and becomes 0 where its square came out negative.
    """
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, matrix in matrices.items():
        shapes.setdefault(tuple(matrix.shape), []).append(name)
    by_name = {}
    for (rows, columns), names in shapes.items():
        stacked = torch.stack([matrices[name].double() for name in names])
        gram = stacked @ stacked.mT if rows <= columns else stacked.mT @ stacked
        roots = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt().flip(-1).cpu()
        by_name |= dict(zip(names, roots, strict=True))
    return {name: by_name[name] for name in matrices}

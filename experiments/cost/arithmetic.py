"""The floor of a step's time: the arithmetic that no implementation can leave out, over the rate that matrices reach.

For T tokens in sequences of S, layers 0 .. D-1 with N_i weights in matrices, a head with H, and a the lowest layer
with an active parameter (-1 when the embedding is active):

    forward           2 T (sum of N_i + H) + sum of A              A = 2 T S d_attention, causal attention as half
    input gradients   2 T H + sum over i >= a of (2 T N_i + 2.5 A)
    weight gradients  2 T x the active matrices

What an expansion moves meanwhile counts as active. Nothing is recomputed. Layer a counts whole: its first norm is
active as well, and needs the gradient of all matrices.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bcd import Part
from bcd.partitions import find_layers
from experiments.methods import Trainable

BACKWARD_OF_ATTENTION = 2.5


def must_run(model: Any, visit: Sequence[Part], *, tokens: int, sequence: int) -> float:
    """FLOPs of one step that trains `visit`, as above; adapters count as matrices of their layer.

    Args:
        tokens: of the whole step.
        sequence: tokens of one sequence.
    """
    _, layers = find_layers(model)
    active = {id(part.parameter): part.numel for part in visit if part.parameter.ndim > 1}
    place = {id(p): i for i, layer in enumerate(layers) for p in layer.parameters()}
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    places = [place[id(part.parameter)] for part in visit if id(part.parameter) in place]
    lowest = -1 if id(embedding) in active and embedding is not head else min(places, default=len(layers))
    attention = 2.0 * tokens * sequence * attention_width(model.config)
    matrices = [sum(p.numel() for p in layer.parameters() if p.ndim > 1) for layer in layers]
    forward = 2.0 * tokens * (sum(matrices) + head.numel()) + attention * len(layers)
    below = places or id(embedding) in active
    inputs = 2.0 * tokens * head.numel() if below else 0.0
    for size in matrices[max(lowest, 0) :]:
        inputs += 2.0 * tokens * size + BACKWARD_OF_ATTENTION * attention
    looked_up = embedding.numel() if id(embedding) in active and embedding is not head else 0
    return forward + inputs + 2.0 * tokens * (sum(active.values()) - looked_up)


def computed(trainable: Trainable, visit: int) -> list[Part]:
    """The parts whose gradients a step of a visit needs: the active ones, and what moves beside them."""
    active = list(trainable.visits[visit])
    parameters = {id(part.parameter) for part in active}
    beside = [p for p in trainable.footprint.differentiated(visit) if id(p) not in parameters]
    return [*active, *(Part("beside the active ones", p) for p in beside)]


def attention_width(config: Any) -> int:
    """Width of all query heads together."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return width * config.num_attention_heads


def products(model: Any) -> list[tuple[int, int]]:
    """(outputs, inputs) of every linear map of one layer, as often as the model has layers, and of the head."""
    _, layers = find_layers(model)
    one = [tuple(m.weight.shape) for m in layers[0].modules() if isinstance(m, nn.Linear)]
    return [*one * len(layers), tuple(model.get_output_embeddings().weight.shape)]  # pyright: ignore[reportReturnType]


def sustained_rate(
    shapes: Sequence[tuple[int, int]], tokens: int, dtype: torch.dtype, device: str, seconds: float
) -> float:
    """FLOP/s of the products of a step, forward and input gradient in turn, sustained for `seconds`.

    Args:
        shapes: from `products`. The time of each shape counts as often as it occurs. The products are torch's own, on
            normal random numbers, as a GPU multiplies zeros faster.
    """
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=device, dtype=dtype)

    operands = {}
    for rows, columns in dict.fromkeys(shapes):
        operands[rows, columns] = normal(tokens, columns), normal(rows, columns), normal(tokens, rows)
    outputs = {size: torch.empty(tokens, size, device=device, dtype=dtype) for shape in operands for size in shape}

    def once() -> float:
        flops = 0.0
        for rows, columns in shapes:
            x, weight, y = operands[rows, columns]
            torch.mm(x, weight.t(), out=outputs[rows])
            torch.mm(y, weight, out=outputs[columns])
            flops += 4.0 * tokens * rows * columns
        _wait(device)
        return flops

    once()
    done, begin = 0.0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        done += once()
    return done / (time.perf_counter() - begin)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

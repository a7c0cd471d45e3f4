"""Cost of an optimizer step and its share of a switch, against peers, without any forward or backward.

    python -m experiments.overhead [--device cuda] [--shape llama3_8b] [--inner-steps 50 5] [--repeats 7]

Four blocks of one decoder layer's shapes get ready-made gradients. Each figure is the time of whole visits over their
steps, so a switch (dropping state, freezing, thawing) is spread over the K steps of a visit. Peers run in turn with
ours, pair by pair; the ratio is the median over the pairs.

    float32    torch.optim.AdamW with the same kernel variant, restricted to the same parameters, never switching
    bfloat16   torch.optim.AdamW on a float32 master of them, with the copies of gradients and weights
    badam      PyPI badam 1.4 on the same blocks, when it is installed
"""

import argparse
import contextlib
import io
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from bcd import AdamW, Block, BlockCoordinateDescent, Cyclic, Partition

SHAPES = {
    "smollm2_135m": [(576, 576), (192, 576), (192, 576), (576, 576), *[(1536, 576)] * 2, (576, 1536), (576,), (576,)],
    "llama3_8b": [
        *[(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)],
        *[(14336, 4096), (14336, 4096), (4096, 14336), (4096,), (4096,)],
    ],
}
BLOCKS = 4
LR = 1e-5
Visit = Callable[[], None]


def layers(shape: str, dtype: torch.dtype, device: str) -> tuple[list[dict[str, nn.Parameter]], list[list[Tensor]]]:
    """Parameters and gradients of `BLOCKS` layers, named as in a Hugging Face decoder."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(size: tuple[int, ...]) -> Tensor:
        return torch.randn(size, generator=generator, device=device).mul_(0.02).to(dtype)

    parameters = [
        {f"model.layers.{i}.w{j}": nn.Parameter(normal(size)) for j, size in enumerate(SHAPES[shape])}
        for i in range(BLOCKS)
    ]
    return parameters, [[normal(size) for size in SHAPES[shape]] for _ in range(BLOCKS)]


def ours(shape: str, dtype: torch.dtype, device: str, inner_steps: int) -> Visit:
    """One visit of `BlockCoordinateDescent`, with the exact master where the weights are bfloat16."""
    parameters, gradients = layers(shape, dtype, device)
    blocks = tuple(Block(f"layer {i}", block) for i, block in enumerate(parameters))
    optimizer = BlockCoordinateDescent(
        Partition(blocks, {}, {}),
        # With a master, naming no variant leaves the choice to bcd: one compiled kernel on a GPU.
        rule=AdamW(fused=True) if dtype == torch.float32 or device == "cpu" else AdamW(),
        order=Cyclic(),
        inner_steps=inner_steps,
        lr=LR,
        master="discard" if dtype == torch.bfloat16 else "off",
    )

    def visit() -> None:
        (index,) = optimizer.active_blocks
        active = list(parameters[index].values())
        for _ in range(inner_steps):
            for parameter, gradient in zip(active, gradients[index], strict=True):
                parameter.grad = gradient
            optimizer.step()

    return visit


def full(shape: str, dtype: torch.dtype, device: str, inner_steps: int) -> Visit:
    """As many steps of torch.optim.AdamW on the parameters of one layer, through a float32 master for bfloat16."""
    (parameters, *_), (gradients, *_) = layers(shape, dtype, device)
    weights = list(parameters.values())
    master = [w.detach().float().requires_grad_() for w in weights] if dtype == torch.bfloat16 else weights
    optimizer = torch.optim.AdamW(master, lr=LR, fused=True)

    def visit() -> None:
        for _ in range(inner_steps):
            for parameter, gradient in zip(master, gradients, strict=True):
                parameter.grad = gradient.to(parameter.dtype)
            optimizer.step()
            if master is not weights:
                with torch.no_grad():
                    for weight, parameter in zip(weights, master, strict=True):
                        weight.copy_(parameter)

    return visit


def badam(shape: str, dtype: torch.dtype, device: str, inner_steps: int) -> Visit:
    """One visit of PyPI badam 1.4's BlockOptimizer on the same layers."""
    from badam import BlockOptimizer

    parameters, gradients = layers(shape, dtype, device)
    named = [item for block in parameters for item in block.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every float32 weight
        optimizer = BlockOptimizer(
            base_optimizer=torch.optim.AdamW([p for _, p in named], lr=LR, fused=True),
            named_parameters_list=named,
            block_prefix_list=[[f"model.layers.{i}."] for i in range(BLOCKS)],  # pyright: ignore[reportArgumentType]
            switch_block_every=inner_steps,
            switch_mode="ascending",
            verbose=0,
        )

    def visit() -> None:
        for _ in range(inner_steps):
            for block, values in zip(parameters, gradients, strict=True):
                for parameter, gradient in zip(block.values(), values, strict=True):
                    if parameter.requires_grad:
                        parameter.grad = gradient
            with contextlib.redirect_stdout(io.StringIO()):  # it prints at every switch
                optimizer.step()
            optimizer.zero_grad()

    return visit


def seconds(visit: Visit, device: str) -> float:
    """Wall time of one call, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    visit()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default cpu")
    parser.add_argument(
        "--shape", choices=list(SHAPES), default="smollm2_135m", help="whose layer; default smollm2_135m"
    )
    parser.add_argument(
        "--inner-steps", type=int, nargs="+", default=[50, 5], help="K, the steps a visit; default 50 and 5"
    )
    parser.add_argument("--repeats", type=int, default=7, help="pairs of visits that are timed; default 7")
    options = parser.parse_args()
    peers = {"AdamW": full} | ({"badam 1.4": badam} if find_spec("badam") else {})
    print(f"{'weights':10}{'K':>4}  {'peer':10}{'ours ms':>10}{'peer ms':>10}{'ours/peer':>11}")
    for dtype in (torch.float32, torch.bfloat16):
        for inner_steps in options.inner_steps:
            for name, peer in peers.items():
                pair = [make(options.shape, dtype, options.device, inner_steps) for make in (ours, peer)]
                for visit in pair:  # warm-up: kernels, allocator, first state
                    visit()
                times = [
                    [seconds(visit, options.device) / inner_steps for visit in pair] for _ in range(options.repeats)
                ]
                mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
                ratio = statistics.median(a / b for a, b in times)
                label = str(dtype).removeprefix("torch.")
                print(
                    f"{label:10}{inner_steps:>4}  {name:10}{1e3 * mine:>10.3f}{1e3 * theirs:>10.3f}{ratio:>11.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

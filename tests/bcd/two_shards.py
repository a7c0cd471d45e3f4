"""Models that fully_shard (FSDP2) shards over two processes: what `test_processes.py` starts with torchrun."""

import sys
import warnings
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

from bcd import Adam, BlockCoordinateDescent, Cyclic, Expansion, Factored, Greedy, by_layer, by_ratio

STEPS = 9
CASES = {
    "plain": {},
    "clipped": {"clip": 1e-3},
    "greedy": {"order": Greedy},
    "skip": {"nonfinite": "skip"},
    "tracked": {"track_unchanged": True},
    "state on the host": {"state": "host"},
    "state on the device": {"state": "device"},
    "expansion": {"expansion": Expansion()},
    "warm-up": {"switch_warmup": 2},
    "master": {"master": "discard", "dtype": torch.bfloat16},
    "master on the host": {"master": "host", "state": "host", "dtype": torch.bfloat16},
    "averaging off": {"process_group": False},
}


def net(sharded, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4)]).to(dtype)
    if sharded:
        for layer in model:
            fully_shard(layer)
        fully_shard(model)
    return model


def bcd(model, partition=by_layer, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(partition(model), **settings)


def train(model, optimizer, ranks, steps=range(STEPS), clip=None):
    dtype = next(model.parameters()).dtype
    for step in steps:
        for rank in ranks:
            x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1000 * step + rank)).to(dtype)
            (model(x).float().square().mean() / len(ranks)).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()


def whole(model):
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach().clone() for p in model.parameters()]


def trained(ranks, dtype=torch.float32, clip=None, **options):
    """The whole weights at the end, of a sharded model for one rank."""
    if isinstance(options.get("order"), type):
        options["order"] = options["order"]()
    model = net(len(ranks) == 1, dtype)
    train(model, bcd(model, **options), ranks, clip=clip)
    return whole(model)


def resumed(rank, **options):
    """As `trained`, with a file in the middle of a visit, one a process."""
    dtype = options.pop("dtype", torch.float32)
    model = net(True, dtype)
    optimizer = bcd(model, **options)
    train(model, optimizer, [rank], range(5))
    state = [p.to_local().clone() for p in model.parameters()], optimizer.state_dict()
    torch.save(state, f"{sys.argv[1]}/resume{rank}.pt")
    weights, state = torch.load(f"{sys.argv[1]}/resume{rank}.pt", weights_only=False)
    model = net(True, dtype)
    optimizer = bcd(model, **options)
    with torch.no_grad():
        for p, weight in zip(model.parameters(), weights, strict=True):
            p.to_local().copy_(weight)
    optimizer.load_state_dict(state)
    train(model, optimizer, [rank], range(5, STEPS))
    return whole(model)


def refused(**options):
    try:
        bcd(net(True), **options)
    except ValueError as error:
        return str(error)
    return None


def too_early():
    """The warning of an optimizer that is made before fully_shard."""
    model = net(False)
    optimizer = bcd(model)
    for layer in model:
        fully_shard(layer)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(model, optimizer, [distributed.get_rank()])
    return [str(each.message) for each in said]


def main(folder):
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    results = {case: trained([rank], **options) for case, options in CASES.items()}
    results["resumed"] = {case: resumed(rank, **CASES[case]) for case in ("plain", "master on the host")}
    results["refused"] = {
        "rows": refused(partition=lambda model: by_ratio(model, 2)),
        "rank": refused(expansion=Expansion(rank=2)),
        "backward": refused(expansion=Expansion(when="backward"), process_group=False),
        "whole tensors": refused(rule=Factored()),
    }
    results["too early"] = too_early()
    torch.save(results, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])

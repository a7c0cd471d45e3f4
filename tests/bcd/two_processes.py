"""Training in two processes beside the same training in one: what `test_processes.py` starts with torchrun.

    torchrun --nproc-per-node 2 -m tests.bcd.two_processes FOLDER

writes what every case of `CASES` ends with to FOLDER/0.pt and FOLDER/1.pt.
"""

import copy
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bcd import Adam, BlockCoordinateDescent, Cyclic, Expansion, Fixed, Greedy, by_layer, by_ratio
from bcd.execution import step_in_backward

PROCESSES = 2
STEPS = 9


class Net(nn.Module):
    """Four layers, of which the second process leaves out the third if it is told to."""

    def __init__(self, leave_out=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.leave_out = leave_out

    def forward(self, x, rank=0):
        for i, layer in enumerate(self.layers):
            if not (self.leave_out and rank == 1 and i == 2):
                x = torch.tanh(layer(x))
        return x


def net(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(**options)


def bcd(model, partition=by_layer, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(partition(model), **settings)


def batch(step, rank, bad=None):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1000 * step + rank))
    return x * float("inf") if (step, rank) == bad else x


def trained(
    ranks, *, ddp=None, made="after", clip=None, accumulate=1, bad=None, copied=False, leave_out=False, **options
):
    """Weights, counters and norms after `STEPS` steps on the batches of `ranks`, whose mean loss is minimised.

    Args:
        ranks: one, of this process; or all, which stands for them in one process.
        ddp: options of DistributedDataParallel; None: without.
        made: "after" or "before" the optimizer; DistributedDataParallel.
        clip: norm of the gradient.
        accumulate: batches a step.
        bad: step and rank of a batch that is not finite.
        copied: train a copy of model and optimizer.
        leave_out: see `Net`.
        **options: of the optimizer.
    """
    model = net(leave_out=leave_out)
    parallel = ddp is not None and len(ranks) == 1
    if parallel and made == "before":
        called = DistributedDataParallel(model, **ddp)
    optimizer = bcd(model, **options)
    if copied:
        model, optimizer = copy.deepcopy((model, optimizer))
    if not (parallel and made == "before"):
        called = DistributedDataParallel(model, **ddp) if parallel else model
    norms = []
    for step in range(STEPS):
        for part in range(accumulate):
            for rank in ranks:
                x = batch(step + 100 * part, rank, bad)
                (called(x, rank).square().mean() / len(ranks)).backward()
        if clip is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), clip))
        optimizer.step()
        optimizer.zero_grad()
    return {
        "weights": [p.detach().clone() for p in model.parameters()],
        "norms": norms,
        "counters": [optimizer.visits_started, optimizer.steps_in_visit, optimizer.skipped_steps],
        "active": optimizer.active_blocks,
    }


UNUSED = {"find_unused_parameters": True}
CASES = {
    "no DDP": {},
    "DDP after the optimizer": {"ddp": {}},
    "DDP after it, unused parameters": {"ddp": UNUSED},
    "DDP before it, unused parameters": {"ddp": UNUSED, "made": "before"},
    "DDP whose gradients are views of its buckets": {"ddp": UNUSED | {"gradient_as_bucket_view": True}},
    "greedy": {"order": Greedy},
    "greedy, DDP": {"order": Greedy, "ddp": UNUSED},
    "clipped": {"clip": 1e-3},
    "clipped, DDP": {"clip": 1e-3, "ddp": {}},
    "accumulated": {"accumulate": 3},
    "accumulated and clipped, DDP": {"accumulate": 2, "clip": 1e-3, "ddp": {}},
    "not finite in one process": {"nonfinite": "skip", "bad": (3, 1)},
    "rows": {"partition": lambda model: by_ratio(model, 2)},
    "state on the host": {"state": "host"},
    "expansion": {"expansion": Expansion()},
    "some blocks always": {"always_active": ["layers.3"]},
    "a layer that one process does not use": {"leave_out": True, "always_active": ["layers.3"]},
}
ONLY_BEFORE_STEP = {"a copy": {"copied": True}}  # without hooks: averaged in the step


def options_of(case):
    options = dict((CASES | ONLY_BEFORE_STEP)[case])
    if isinstance(options.get("order"), type):
        options["order"] = options["order"]()
    return options


def refused(call):
    """The error's type and message."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        return type(error).__name__, str(error)
    return None


def one_backward(model, **options):
    optimizer = bcd(model, **options)
    model(batch(0, 0)).square().mean().backward()
    return optimizer


def sparse():
    model = nn.Sequential(nn.Embedding(4, 4, sparse=True), nn.Linear(4, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    optimizer = bcd(model)
    model(torch.tensor([1])).sum().backward()
    return optimizer


def late(optimizer, model):
    """An optimizer that is older than the process group."""
    for step in range(STEPS):
        model(batch(step, distributed.get_rank())).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach().clone() for p in model.parameters()]


def main(folder):
    early_model = net()
    early = bcd(early_model)
    stepped = net()
    moving = bcd(stepped)
    step_in_backward(moving)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    results = {case: trained([rank], **options_of(case)) for case in CASES | ONLY_BEFORE_STEP}
    results["early"] = late(early, early_model)
    results["off"] = trained([rank], process_group=False)["weights"]
    results["refused"] = {
        "weights": refused(lambda: one_backward(net(seed=rank))),
        "sizes": refused(lambda: one_backward(net() if rank else nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))),
        "blocks": refused(lambda: one_backward(net(), order=Fixed([rank]))),
        "lr": refused(lambda: one_backward(net(), lr=0.1 + rank)),
        "rank": refused(lambda: bcd(net(), expansion=Expansion(rank=2))),
        "backward": refused(lambda: bcd(net(), expansion=Expansion(when="backward"))),
        "sparse": refused(sparse),
        "step_in_backward": refused(lambda: step_in_backward(bcd(net()))),
        "step_in_backward before the group": refused(lambda: stepped(batch(0, 0)).sum().backward()),
    }
    torch.save(results, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])

"""What several files of tests share: a loop over a tiny decoder, and an optimizer of its layers."""

import torch
from torch import nn

from bcd import Adam, BlockCoordinateDescent, Cyclic, by_layer
from bcd.precision import split

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])


def loss_of(model):
    return nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten())


def train(model, optimizer, steps):
    for _ in range(steps):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def bcd(model, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), **settings)


def round_half_up(master):
    """The bfloat16 weight that `split` stores for `master`."""
    weight = torch.empty_like(master, dtype=torch.bfloat16)
    split(master.clone(), weight, torch.empty_like(master, dtype=torch.int16))
    return weight


def by_name(rule):
    """The rule's hyperparameters; a pair such as betas is beta1 and beta2."""
    values = rule.hyperparameters()
    pairs = {name: value for name, value in values.items() if isinstance(value, tuple)}
    single = {name: value for name, value in values.items() if name not in pairs}
    return single | {f"{name[:-1]}{i}": number for name, pair in pairs.items() for i, number in enumerate(pair, 1)}

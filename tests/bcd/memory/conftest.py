"""Partitions of a tiny decoder, and what the tests of bytes share."""

import torch
from torch import nn

from bcd import by_groups, by_layer, by_matrix, by_module, by_ratio, by_regex

TOKENS = torch.tensor([[1, 2, 3, 4]])
PARTITIONS = {
    "by_layer": by_layer,
    "by_module": by_module,
    "by_matrix": by_matrix,
    "by_groups": lambda model: by_groups(model, 2),
    "by_ratio": lambda model: by_ratio(model, 3),
    "by_regex": lambda model: by_regex(model, [r"layers\.[01]\..*", "head.*"], rest="train"),
}


def backward(model):
    nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()


def split_parts(optimizer):
    """The parts of the current visit, and all others."""
    active = [part for i in optimizer.active_blocks for part in optimizer.partition.blocks[i].parts]
    inactive = [i for i in range(optimizer.num_blocks) if i not in optimizer.active_blocks]
    return active, [part for i in inactive for part in optimizer.partition.blocks[i].parts]

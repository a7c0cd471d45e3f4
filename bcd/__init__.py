"""Block coordinate descent for training large language models.

partition (which blocks) x order (which block when) x rule (how the active block moves)
    -> BlockCoordinateDescent, a torch.optim.Optimizer
"""

from bcd.blocks import Block, Part, Partition
from bcd.expansion import Expansion
from bcd.minimise import InnerStep, minimise
from bcd.optimizer import BlockCoordinateDescent
from bcd.orders import (
    CostAware,
    Cyclic,
    Descending,
    Fixed,
    Greedy,
    Order,
    RandomReshuffle,
    SlidingWindow,
    Uniform,
    Weighted,
)
from bcd.partitions import by_groups, by_layer, by_matrix, by_module, by_ratio, by_regex, single
from bcd.rules import SGD, Adam, AdamW, Momentum, Rule, Sign

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Block",
    "BlockCoordinateDescent",
    "CostAware",
    "Cyclic",
    "Descending",
    "Expansion",
    "Fixed",
    "Greedy",
    "InnerStep",
    "Momentum",
    "Order",
    "Part",
    "Partition",
    "RandomReshuffle",
    "Rule",
    "Sign",
    "SlidingWindow",
    "Uniform",
    "Weighted",
    "by_groups",
    "by_layer",
    "by_matrix",
    "by_module",
    "by_ratio",
    "by_regex",
    "minimise",
    "single",
]

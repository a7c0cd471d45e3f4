"""Block coordinate descent for training large language models.

partition (which blocks) x order (which block when) x rule (how the active block moves)
    -> BlockCoordinateDescent, a torch.optim.Optimizer
"""

from bcd.blocks import Block, Partition, by_layer, by_module, single
from bcd.minimise import InnerStep, minimise
from bcd.optimizer import BlockCoordinateDescent
from bcd.orders import Cyclic, Descending, Order, RandomReshuffle
from bcd.rules import SGD, Adam, Rule

__all__ = [
    "SGD",
    "Adam",
    "Block",
    "BlockCoordinateDescent",
    "Cyclic",
    "Descending",
    "InnerStep",
    "Order",
    "Partition",
    "RandomReshuffle",
    "Rule",
    "by_layer",
    "by_module",
    "minimise",
    "single",
]

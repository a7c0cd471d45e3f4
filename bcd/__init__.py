"""Block coordinate descent for training large language models.

partition (which blocks) x order (which block when) x rule (how the active block moves)
    -> BlockCoordinateDescent, a torch.optim.Optimizer
"""

from bcd import orders, partitions, rules
from bcd.blocks import Block, Part, Partition
from bcd.expansion import Expansion
from bcd.minimise import InnerStep, minimise
from bcd.optimizer import BlockCoordinateDescent
from bcd.orders import *  # noqa: F403  each axis says in one place what it offers: its __all__
from bcd.partitions import *  # noqa: F403
from bcd.published import badam, recommended_inner_steps
from bcd.rules import *  # noqa: F403

__version__ = "0.1.0"

__all__ = ["Block", "BlockCoordinateDescent", "Expansion", "InnerStep", "Part", "Partition", "minimise"]
__all__ += ["badam", "recommended_inner_steps"]
__all__ += orders.__all__
__all__ += partitions.__all__
__all__ += rules.__all__

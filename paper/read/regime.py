"""The studies of options over whole epochs: their cells in print."""

from paper.read.axes import steps_in_print
from paper.read.studies import Row

USUAL = f"random reshuffle, {steps_in_print(7)}"
"""The cell of the main study over whole epochs."""
UNCLIPPED = "no clipping"


def order_and_steps(row: Row) -> str:
    """The order of the blocks and the steps of a visit."""
    return f"{row.choice('order').replace('_', ' ')}, {steps_in_print(row.value('method.inner_steps'))}"


def clipping(row: Row) -> str:
    """The bound on the norm of the gradient."""
    bound = row.config.get("max_grad_norm")
    return UNCLIPPED if bound is None else f"clipping at {bound:g}"

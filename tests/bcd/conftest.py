"""What several files of tests share."""

import torch

from bcd.precision import split


def round_half_up(master):
    """The bfloat16 weight that `split` stores for `master`."""
    weight = torch.empty_like(master, dtype=torch.bfloat16)
    split(master.clone(), weight, torch.empty_like(master, dtype=torch.int16))
    return weight

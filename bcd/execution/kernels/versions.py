"""What the versions of torch, from 2.11, differ in."""

import torch

_VERSION = tuple(map(int, torch.__version__.split(".")[:2]))

FUNCTIONS_ARE_RECOMPUTED = _VERSION >= (2, 13)
"""Whether checkpointing inside a compiled graph recomputes a torch.autograd.Function too: 2.11 keeps its outputs."""

SOFTMAX_COMPILES_ON_CPU = _VERSION >= (2, 12)
"""Whether inductor can make the loss's kernel for CPUs: that of 2.11 ends with KeyError 'buf1'."""

"""Bytes of training by category: predicted from shapes, and measured on the live tensors, in the same units.

    run           `Bytes`, the peaks of a whole run: weights, gradients, optimizer state while active
    visit         `Held`, one visit with everything that `BlockCoordinateDescent` keeps, on the device and on the host
    phases        one step: scratch, the update, and both beside activations
    activations   what autograd holds for backward and the peak of any code; they depend on the batch
    tensors       what these count by

All figures are bytes (1 GB = 10^9).
"""

from bcd.memory.phases import Phases, phases, scratch_bytes, update_bytes
from bcd.memory.run import Bytes, measured
from bcd.memory.tensors import ON_HOST, nbytes, on_host
from bcd.memory.visit import FLOAT32_BYTES, REMAINDER_BYTES, STEP_BYTES, Held, expansion_bytes, held, measured_held

__all__ = [
    "FLOAT32_BYTES",
    "ON_HOST",
    "REMAINDER_BYTES",
    "STEP_BYTES",
    "Bytes",
    "Held",
    "Phases",
    "expansion_bytes",
    "held",
    "measured",
    "measured_held",
    "nbytes",
    "on_host",
    "phases",
    "scratch_bytes",
    "update_bytes",
]

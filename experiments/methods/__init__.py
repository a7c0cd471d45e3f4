"""Methods: everything that turns a model and a loss into new weights."""

from experiments.methods.block import BlockMethod
from experiments.methods.full import FullMethod
from experiments.methods.interface import Foreign, Method, Trainable

__all__ = ["BlockMethod", "Foreign", "FullMethod", "Method", "Trainable"]

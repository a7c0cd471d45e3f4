"""Methods: everything that turns a model and a loss into new weights."""

from experiments.methods.block import BlockMethod
from experiments.methods.footprint import Footprint
from experiments.methods.full import FullMethod
from experiments.methods.interface import Method, Trainable

__all__ = ["BlockMethod", "Footprint", "FullMethod", "Method", "Trainable"]

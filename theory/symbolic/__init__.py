"""The algebra of the proofs, checked for symbolic parameters: `python -m theory.symbolic` lists what holds."""

from theory.symbolic.identity import Equation, Identity, proved

__all__ = ["Equation", "Identity", "proved"]

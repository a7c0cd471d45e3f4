"""Theorems: one file each, all with the interface `Bound`."""

from theory.bounds.bound import Bound, Control, Outcome, Statement

__all__ = ["Bound", "Control", "Outcome", "Statement"]

"""Settings that other libraries need so that block coordinate descent keeps its savings. Nothing is imported."""

from bcd.execution.recompute import checkpoint_active_layers

__all__ = ["checkpoint_active_layers"]

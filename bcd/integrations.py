"""Settings that other libraries need so that block coordinate descent keeps its savings. Nothing is imported."""

from torch import nn

from bcd.execution.recompute import recompute_layers


def checkpoint_active_layers(model: nn.Module) -> None:
    """Turn activation checkpointing on, with a backward pass that stops at the active block.

    transformers makes the embedding's output require gradients together with its own checkpointing, for adapters; with
    frozen lower layers, backward would then recompute and run through all of them. This is `recompute_layers` with the
    budget 0 and leaves the embedding alone; a budget in bytes recomputes less, see `bcd.execution`.

    model: any module with layers. For transformers.Trainer and trl.SFTTrainer call this before training and leave
        their own argument off (``activation_checkpointing=False``, which is not trl's default).

    Raises ValueError for a model without layers, or one that recomputes already.
    """
    recompute_layers(model, 0)

"""Settings that other libraries need so that block coordinate descent keeps its savings. Nothing is imported."""

from torch import nn


def checkpoint_active_layers(model: nn.Module) -> None:
    """Turn activation checkpointing on for a Hugging Face model, with a backward pass that stops at the active block.

    transformers makes the embedding's output require gradients together with checkpointing, for adapters; with frozen
    lower layers, backward would then recompute and run through all of them. This turns checkpointing on in its
    non-reentrant form, which needs no such input, and takes the requirement back.

    model: a transformers.PreTrainedModel. For transformers.Trainer and trl.SFTTrainer call this before training and
        leave their own argument off (``activation_checkpointing=False``, which is not trl's default), because they
        would turn the input gradients on again.

    Raises TypeError for a model without transformers' checkpointing functions.
    """
    enable = getattr(model, "activation_checkpointing_enable", None)  # transformers 5.23 renamed it
    enable = enable or getattr(model, "gradient_checkpointing_enable", None)
    disable_inputs = getattr(model, "disable_input_require_grads", None)
    if enable is None or disable_inputs is None:
        raise TypeError(f"{type(model).__name__} has no activation checkpointing of transformers to turn on")
    enable({"use_reentrant": False})
    disable_inputs()

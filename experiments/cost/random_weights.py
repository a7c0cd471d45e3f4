"""Random weights on a device in place of a checkpoint: time and memory of a step do not depend on their values."""

from typing import Any

import torch

STD = 0.02  # of every matrix, as transformers initialises Llama


def materialise(model: Any, device: str, seed: int) -> Any:
    """Fill a model on the meta device with normal matrices and vectors of ones, on `device`; returns it.

    Tied parameters stay tied. The numbers come from a generator of their own.
    """
    model.to_empty(device=device)
    model.tie_weights()
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, STD, generator=generator)
            else:
                parameter.fill_(1.0)
        for module in model.modules():
            if hasattr(module, "original_inv_freq"):  # frequencies of rotary embeddings are buffers that nobody saves
                model._init_weights(module)
    return model.train()

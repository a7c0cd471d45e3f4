"""Models and data of runs, loaded for each of them, or once for all runs of a process."""

import copy
import gc
from typing import Any

import torch
from torch import nn

from experiments.training.planning import Plan


class Loading:
    """What a run starts from.

    A copy is bitwise what loading again would give, and shares nothing with the models of other runs.

    Args:
        keep: loaded weights stay in the host's memory, and later runs get copies.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self._models: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._data: dict[tuple[str, str], Any] = {}

    def model(self, planned: Plan) -> tuple[Any, Any]:
        """The model on the run's device, in train mode, and what prepares its inputs, such as a tokenizer."""
        key = (planned.model_key, planned.config.dtype)
        if key not in self._models:
            loaded = planned.workload.model.load(getattr(torch, planned.config.dtype))
            if not self.keep:
                loaded[0].to(planned.device)  # pyright: ignore[reportArgumentType]
                return loaded
            self._models[key] = loaded
        model, tokenizer = self._models[key]
        return copied(model, planned.device), tokenizer

    def data(self, planned: Plan, processor: Any) -> Any:
        """The examples, ready for the workload's task, which nothing changes."""
        key = (planned.data_key, planned.model_key)
        if key not in self._data:
            examples = planned.workload.data.load(processor)
            if not self.keep:
                return examples
            self._data[key] = examples
        return self._data[key]

    @staticmethod
    def clear(device: torch.device) -> None:
        """Give what the last run held back to the device."""
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def copied(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of `model` on `device`; what is tied stays tied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        data = parameter.detach().to(device, copy=True)
        memo[id(parameter)] = nn.Parameter(data, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to(device, copy=True)
    return copy.deepcopy(model, memo)

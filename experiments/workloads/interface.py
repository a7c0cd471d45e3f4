"""What the training loop, the records and the studies ask of a workload."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bcd.execution import Execution
from experiments.methods import Trainable
from experiments.workloads.target import Target


class Source(Protocol):
    """Where a model comes from."""

    def skeleton(self, dtype: torch.dtype) -> Any:
        """The model on the meta device: names, shapes and dtype, no memory."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides its weights."""
        ...

    def load(self, dtype: torch.dtype) -> tuple[Any, Any]:
        """The model in train mode on the CPU, and what prepares its inputs (a tokenizer), None for nothing."""
        ...

    def processor(self) -> Any:
        """What prepares the inputs alone, as `load` gives it; no weight is loaded."""
        ...


class DataSource(Protocol):
    """Where examples come from, in disjoint parts."""

    @property
    def train_size(self) -> int: ...

    @property
    def heldout_size(self) -> int: ...

    @property
    def tokens_per_example(self) -> int: ...  # positions that each weight multiplies, for estimates of time

    @property
    def test(self) -> bool: ...  # whether the final evaluation reads the test part

    def fingerprint(self) -> str:
        """SHA-256 of the examples to train on and to validate with; the test part is not read for it."""
        ...

    def load(self, processor: Any) -> Any:
        """The examples to train on and those held out, as the task of the workload takes them."""
        ...


class Batch(Protocol):
    """What one optimizer step is computed from."""

    @property
    def terms(self) -> int:
        """Terms that the loss is a mean over."""
        ...

    def parts(self, count: int) -> Sequence["Batch"]:
        """The batch in `count` parts with as many examples each.

        Raises:
            ValueError: when it cannot be divided so.
        """
        ...


@dataclass(frozen=True)
class Setting:
    """How a run draws its batches.

    Attributes:
        seed: of the run.
        batch_size: examples a step.
        accumulation: parts of a batch that go forward and backward one after another.
        steps: optimizer steps of the run.
        device: where batches are put.
    """

    seed: int
    batch_size: int
    accumulation: int
    steps: int
    device: torch.device


class Task(Protocol):
    """A workload whose data are loaded: batches, loss and metrics of one run.

    Every method call that takes a model takes the one in training; nothing here knows the method.
    """

    @property
    def about(self) -> dict[str, Any]:
        """What was counted of the data, JSON values for the record."""
        ...

    def announce(self, name: str) -> None:
        """Say on stderr what was counted, for the run of this name."""
        ...

    def shown(self) -> list[str]:
        """Lines for who looks at a plan: what the data are, and an example as it is trained on."""
        ...

    def require_model(self, model: nn.Module) -> None:
        """Raise UserError unless the loaded model can take the examples."""
        ...

    def batches(self, start: int) -> Iterator[Any]:
        """The stream of batches after the first `start`, on the run's device; the same for every method."""
        ...

    def seen(self, steps: int) -> dict[str, int]:
        """What the first `steps` batches hold, by name, for example tokens."""
        ...

    def loss(self, model: nn.Module, batch: Any, execution: Execution) -> Tensor:
        """The mean loss over the terms of the batch, computed as `execution` says."""
        ...

    def evaluate(self, model: nn.Module, label: str) -> dict[str, float | int]:
        """Metrics on the held-out examples, `heldout_loss` among them; `label` names the progress bar."""
        ...

    def test(self, model: nn.Module, label: str) -> tuple[dict[str, Any], str]:
        """The same on the test part, which is read now, with what it was for each example if the workload has it, and
        the SHA-256 of its examples.
        """
        ...

    def export(self, trainable: Trainable, folder: Path) -> None:
        """Write the trained model to an empty folder."""
        ...


class Workload(Protocol):
    """A model, data, a loss and metrics, and optionally a target; made before any weight is loaded."""

    @property
    def model(self) -> Source: ...

    @property
    def data(self) -> Any: ...  # a `DataSource`

    @property
    def target(self) -> Target | None: ...

    @property
    def forward_passes(self) -> int: ...  # over each held-out example in an evaluation, for estimates of time

    @property
    def sequence(self) -> int | None: ...  # tokens of the longest example; None where examples are no token sequences

    def require(self, config: Any) -> None:
        """Raise UserError for options of the run that this workload does not have."""
        ...

    def task(self, processor: Any, dataset: Any, setting: Setting) -> Task:
        """The loaded data as batches, loss and metrics of one run."""
        ...

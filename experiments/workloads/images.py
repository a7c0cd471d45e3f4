"""Classifying images of handwritten digits: a workload that is no language model and runs in seconds on a CPU."""

import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bcd.checks import require_whole
from bcd.execution import Execution
from experiments.errors import UserError
from experiments.methods import Trainable
from experiments.randomness import DATA_ORDER, seeded, stream_seed
from experiments.workloads.interface import Setting
from experiments.workloads.target import Target
from experiments.workloads.vision import VisionTransformer
from records import digest


@dataclass(frozen=True)
class RandomVisionTransformer:
    """A small vision transformer with random weights.

    Attributes:
        architecture: arguments of `VisionTransformer`.
        seed: of the weights.
    """

    architecture: dict[str, int]
    seed: int

    def _made(self, dtype: torch.dtype) -> VisionTransformer:
        return VisionTransformer(**self.architecture).to(dtype).train()

    def skeleton(self, dtype: torch.dtype) -> VisionTransformer:
        """The model on the meta device."""
        with torch.device("meta"):
            return self._made(dtype)

    def fingerprint(self) -> str:
        """SHA-256 of the seed and the architecture, which decide the weights."""
        return digest({"architecture": dict(self.architecture), "seed": self.seed})

    def load(self, dtype: torch.dtype) -> tuple[VisionTransformer, None]:
        """The model on the CPU; its images need no preparation."""
        with seeded(self.seed):
            return self._made(dtype), None

    def processor(self) -> None:
        """Its images need no preparation."""


@dataclass(frozen=True)
class Images:
    """Images and their labels.

    Attributes:
        pixels: of shape (images, height, width), in [0, 1].
        labels: of shape (images,).
    """

    pixels: Tensor
    labels: Tensor

    @property
    def terms(self) -> int:
        """The loss is a mean over images."""
        return len(self.labels)

    def parts(self, count: int) -> list["Images"]:
        """The images in `count` parts of the same size.

        Raises:
            ValueError: when the images cannot be divided so.
        """
        if len(self.labels) % count:
            raise ValueError(f"{len(self.labels)} images cannot be divided into {count} parts")
        return [Images(*pair) for pair in zip(self.pixels.chunk(count), self.labels.chunk(count), strict=True)]

    def __getitem__(self, places: Any) -> "Images":
        return Images(self.pixels[places], self.labels[places])

    def to(self, device: torch.device) -> "Images":
        """The images on `device`."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Parts:
    """The images to train on, those held out, and those of the final test."""

    train: Images
    heldout: Images
    test: Images


class Digits:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships (UCI, licence CC BY 4.0).

    Args:
        heldout_size: images for the metrics before, during and after training.
        test_size: images for the final evaluation.
        test: whether the final evaluation reads the test part.
        split_seed: of the parts, the same for all runs that are compared.

    Raises:
        UserError: when nothing is left to train on.
    """

    SIZE = 1797
    PATCHES = 16  # of 2 x 2 pixels

    def __init__(self, heldout_size: int, test_size: int, test: bool, split_seed: int) -> None:
        for name, value in (("heldout_size", heldout_size), ("test_size", test_size)):
            require_whole(f"data.{name}", value, least=1)
        if heldout_size + test_size >= self.SIZE:
            raise UserError(
                f"data.heldout_size={heldout_size} and data.test_size={test_size} leave none of {self.SIZE} images"
            )
        self.heldout_size, self.test_size, self.test, self.split_seed = heldout_size, test_size, test, split_seed
        self.train_size = self.SIZE - heldout_size - test_size
        self.tokens_per_example = self.PATCHES

    @functools.cached_property
    def _parts(self) -> Parts:
        from sklearn.datasets import load_digits  # takes seconds, and wrong values should be told at once

        shipped: Any = load_digits()
        order = np.random.default_rng(self.split_seed).permutation(self.SIZE)
        images = Images(torch.from_numpy(shipped.images[order] / 16), torch.from_numpy(shipped.target[order]).long())
        test_begins = self.train_size + self.heldout_size
        slices = (slice(self.train_size), slice(self.train_size, test_begins), slice(test_begins, None))
        return Parts(*(images[part] for part in slices))

    def fingerprint(self) -> str:
        """SHA-256 of the pixels and labels to train on and to validate with."""
        parts = (self._parts.train, self._parts.heldout)
        return digest([[part.pixels.tolist(), part.labels.tolist()] for part in parts])

    def load(self, processor: None) -> Parts:
        """All three parts."""
        return self._parts


@dataclass(frozen=True)
class ImageClassification:
    """Images, a classifier, its cross-entropy, and the share of images that it names right.

    Attributes:
        model: where the classifier comes from.
        data: where the images come from.
        evaluation: see `Accuracy`.
        target: see `Target`; None for runs that end after their steps.
    """

    model: RandomVisionTransformer
    data: Digits
    evaluation: "Accuracy"
    target: Target | None = None
    forward_passes: int = field(default=1, init=False)
    sequence: None = field(default=None, init=False)

    def require(self, config: Any) -> None:
        """Raise UserError for options of a step that only language models have."""
        for key, plain in (("loss", "plain"), ("embedding", "device"), ("frozen_products", "plain")):
            if (value := config.execution.get(key, plain)) != plain:
                raise UserError(f"execution.{key}={value} is not possible: it is of language models; give {plain}")

    def task(self, processor: None, dataset: Parts, setting: Setting) -> "ClassificationTask":
        """Batches, loss and metrics of one run."""
        return ClassificationTask(self, dataset, setting)


class ClassificationTask:
    """The batches, loss and metrics of one run, see `experiments.workloads.Task`."""

    def __init__(self, workload: ImageClassification, parts: Parts, setting: Setting) -> None:
        self._workload, self._parts, self._setting = workload, parts, setting
        self.about = {"train_examples": len(parts.train.labels), "heldout_examples": len(parts.heldout.labels)}

    def announce(self, name: str) -> None:
        """The sizes of the parts are in the configuration."""

    def shown(self) -> list[str]:
        """The sizes of the parts."""
        counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in self.about.items())
        return [f"data: {counts}"]

    def require_model(self, model: nn.Module) -> None:
        """Every image has the one size that the model is made for."""

    def batches(self, start: int) -> Iterator[Images]:
        """Every image once in a random order, then all again in another; what does not fill a batch is left out."""
        size = self._setting.batch_size
        in_epoch = len(self._parts.train.labels) // size
        for step in itertools.count(start):
            epoch, place = divmod(step, in_epoch)
            order = _order(stream_seed(self._setting.seed, f"{DATA_ORDER} {epoch}"), len(self._parts.train.labels))
            yield self._parts.train[order[place * size : (place + 1) * size]].to(self._setting.device)

    def seen(self, steps: int) -> dict[str, int]:
        """Images of the first `steps` batches."""
        return {"images": steps * self._setting.batch_size}

    def loss(self, model: nn.Module, batch: Images, execution: Execution) -> Tensor:
        """Cross-entropy, the mean over the images."""
        with execution.autocasting(batch.labels.device):
            return F.cross_entropy(_logits(model, batch), batch.labels)

    def evaluate(self, model: nn.Module, label: str) -> dict[str, float | int]:
        """`heldout_loss`, `accuracy` and `items` of the held-out images."""
        return self._workload.evaluation(model, self._parts.heldout.to(self._setting.device))

    def test(self, model: nn.Module, label: str) -> tuple[dict[str, float | int], str]:
        """The same of the test images, and the SHA-256 of their pixels."""
        images = self._parts.test
        return self._workload.evaluation(model, images.to(self._setting.device)), digest(images.pixels.tolist())

    def export(self, trainable: Trainable, folder: Path) -> None:
        """`config.json` and `model.safetensors`; adapters are merged."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True)
        model = trainable.merged()
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors"
        )
        config = json.dumps(dict(self._workload.model.architecture), indent=1)
        (folder / "config.json").write_text(config + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Accuracy:
    """Cross-entropy and the share of images whose largest logit is the label's.

    Attributes:
        batch_size: images a forward pass.
    """

    batch_size: int

    def __post_init__(self) -> None:
        require_whole("evaluation.batch_size", self.batch_size, least=1)

    def __call__(self, model: nn.Module, images: Images) -> dict[str, float | int]:
        """`heldout_loss` (nats an image), `accuracy` (share of images) and `items`."""
        was_training = model.training
        model.eval()
        losses: list[Tensor] = []
        right: list[Tensor] = []
        with torch.no_grad():
            for part in _chunks(images, self.batch_size):
                logits = _logits(model, part)
                losses.append(F.cross_entropy(logits, part.labels, reduction="sum").double())
                right.append((logits.argmax(dim=1) == part.labels).sum())
        model.train(was_training)
        items = len(images.labels)
        return {
            "heldout_loss": torch.stack(losses).sum().item() / items,
            "accuracy": torch.stack(right).sum().item() / items,
            "items": items,
        }


def _logits(model: nn.Module, images: Images) -> Tensor:
    """Logits, never less precise than float32."""
    weights = next(model.parameters())
    logits = model(images.pixels.to(weights.dtype))
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _chunks(images: Images, size: int) -> Sequence[Images]:
    return [images[start : start + size] for start in range(0, len(images.labels), size)]


@functools.lru_cache(maxsize=2)
def _order(seed: int, size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))

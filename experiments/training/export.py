"""A trained model as a folder, written whole or not at all."""

import shutil
from pathlib import Path

from experiments.methods import Trainable
from experiments.workloads import Task
from records import ROOT


def export(task: Task, trainable: Trainable, folder: Path) -> str:
    """Write the model that was evaluated to `folder`, whole or not at all; an older export there is replaced.

    The weights are those that training ends with, in their dtype: an exact master is stored as the weight and what
    rounding it took away, so the weight is the rounded master already. Adapters are merged into the weights, tied
    heads stay tied. What the folder holds is the workload's affair: for a language model the Hugging Face format.

    Returns:
        The path, below the repository's root if it is there.
    """
    place = folder.resolve()  # behind a link, which may lead to another disk and stays
    partial = place.with_name(place.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    task.export(trainable, partial)
    if place.exists():
        shutil.rmtree(place)
    partial.rename(place)
    return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)

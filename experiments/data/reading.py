"""The parts of one's own data: rows of a file, of the files of a folder or of a data set on the hub."""

import functools
import re
from pathlib import Path
from typing import Any

from experiments.configuration import input_path
from experiments.data.source import SUFFIXES, read_file
from experiments.errors import UserError, first_line
from experiments.hub import one_try

PARTS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""Word in the name of a file -> part that its rows are."""

Rows = list[dict[str, Any]]


def read(path: str | None, subset: str | None, revision: str | None) -> dict[str, list[tuple[str, Rows]]]:
    """Name and rows of every file of each part; train is always there.

    Args:
        path: a file, which is train; a folder, whose file names have the part as a word (chat.train.jsonl,
            test-00000-of-00002.parquet), or with one file, which is train; or OWNER/NAME on the hub.
        subset: of the hub's data set, where it has several.
        revision: of the hub's data set, a commit or tag.

    Raises:
        UserError: when there is nothing of that name, or its rows cannot be read.
    """
    if not path:
        raise UserError("data=file needs data.path=FILE_FOLDER_OR_HUB_NAME")
    local = input_path(path)
    if local.is_file():
        if not local.name.endswith(SUFFIXES):
            raise UserError(f"data.path={path}: the name ends in none of {', '.join(SUFFIXES)}")
        files = {"train": [local]}
    elif local.is_dir():
        files = _of_folder(local)
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path) and not path.endswith(SUFFIXES):
        return _hub(path, subset, revision)
    else:
        raise UserError(f"data.path={path}: there is no such file or folder, and it is no OWNER/NAME of the hub")
    if subset is not None or revision is not None:
        raise UserError(f"data.subset and data.revision are of data sets on the hub, and data.path={path} is local")
    read_parts = {part: [(str(file), read_file(file)) for file in paths] for part, paths in files.items()}
    for part, named in read_parts.items():
        if not any(rows for _, rows in named):
            raise UserError(f"{named[0][0]} has no rows, so the part {part} is empty")
    return read_parts


def _of_folder(folder: Path) -> dict[str, list[Path]]:
    every = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    parts: dict[str, list[Path]] = {}
    for path in every:
        words = re.split(r"[\W_]+", path.name.lower())
        part = next((PARTS[word] for word in words if word in PARTS), "")
        parts.setdefault(part, []).append(path)
    if len(every) == 1:
        return {"train": every}
    if unnamed := parts.get(""):
        raise UserError(
            f"{folder}: {unnamed[0].name} is of no part; put train, validation or test into the name of each file, "
            f"or give one file: data.path={unnamed[0]}"
        )
    if "train" not in parts:
        there = ", ".join(path.name for path in every) or f"no file that ends in {', '.join(SUFFIXES)}"
        raise UserError(f"{folder} has {there}; it needs a file with train in its name")
    return parts


@functools.lru_cache(maxsize=2)
def _hub(name: str, subset: str | None, revision: str | None) -> dict[str, list[tuple[str, Rows]]]:
    try:
        from datasets import disable_progress_bars, load_dataset
    except ImportError as error:
        raise UserError(
            f"data.path={name} is no file and no folder; the hub needs the package datasets (pip install datasets)"
        ) from error
    disable_progress_bars()
    try:
        with one_try():
            loaded: Any = load_dataset(name, subset, revision=revision)
    except Exception as error:  # the hub client raises many kinds; each means that the data are not there
        raise UserError(
            f"data.path={name} is no file and no folder, and cannot be had from the hub ({first_line(error)})"
        ) from error
    splits = list(loaded)
    if "train" not in splits and len(splits) > 1:
        raise UserError(
            f"data.path={name} has the splits {', '.join(splits)} and none of the name train; save the one to train "
            "on as a file: load_dataset(...)[split].to_json(FILE)"
        )
    names = {split: PARTS.get(split) for split in splits} if "train" in splits else {splits[0]: "train"}
    return {part: [(f"{name} ({split})", loaded[split].to_list())] for split, part in names.items() if part}

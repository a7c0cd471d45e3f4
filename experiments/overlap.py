"""Entry point: `python -m experiments.overlap data=NAME` looks for evaluation items in the texts to train on.

It prints a table and writes a record. With exclude=FILE it lists the prompts that share more than `coverage` with some
item, for `data.exclude=FILE` of a training run.

    python -m experiments.overlap data=gsm8k
    python -m experiments.overlap data=gsm8k data.source.local=FOLDER local=FOLDER        # the same with local files
    python -m experiments.overlap data=alpaca exclude=FILE    # then train with data=alpaca data.exclude=FILE
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "overlap", "experiments.overlap", __doc__)  # before what takes seconds to import

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from bcd.checks import require_number
from experiments import configuration, sources
from experiments.command import command
from experiments.data.ngrams import NEAR, Index, Overlap, require_gram_sizes
from experiments.data.source import Source
from experiments.data.splits import identity
from experiments.errors import UserError
from records import Record, digest, run_key, write
from records.provenance import provenance

SHOWN = 3  # items with the largest coverage whose texts are recorded
CUT = 160  # characters of them


def items(source: Source, split: str, fields: Sequence[str]) -> list[list[str]]:
    """The texts of every item.

    Args:
        source: where the items are.
        split: of the source.
        fields: of the texts; a field may be a text or a list of texts.

    Raises:
        UserError: when a field is missing or is no text.
    """
    texts_of_items = []
    for number, row in enumerate(source.rows(split, ()), 1):
        texts: list[Any] = []
        for name in fields:
            value = row.get(name)
            texts += value if isinstance(value, list) else [value]
            if not all(isinstance(text, str) for text in texts):
                raise UserError(
                    f"{source.name(split)}, row {number}: the field {name!r} is {value!r}, no text "
                    f"(it has {', '.join(row)})"
                )
        texts_of_items.append(texts)
    return texts_of_items


def compare(train: Sequence[tuple[str, str]], index: Index) -> list[float]:
    """Compare every training example with the items.

    Returns:
        The largest coverage of each example.
    """
    with tqdm(train, desc="compare", unit="example", leave=False) as bar:
        return [index.add(number, texts) for number, texts in enumerate(bar)]


def measurements(
    overlaps: dict[str, Overlap], sets: dict[str, list[list[str]]], train: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Counts of each set, and the items that are covered most."""
    result = {}
    for name, shared in overlaps.items():
        first = sorted(shared.coverage, key=lambda number: (-shared.coverage[number], number))[:SHOWN]
        result[name] = {
            "items": shared.items,
            "untested": shared.untested,
            "touched": shared.touched,
            "near": shared.near,
            "largest": [
                {
                    "item": sets[name][number][0][:CUT],
                    "coverage": shared.coverage[number],
                    "prompt": train[shared.example[number]][0][:CUT],
                }
                for number in first
            ],
        }
    return result


def table(overlaps: dict[str, Overlap], n: int) -> str:
    """One line for each evaluation set."""
    width = max(map(len, overlaps))
    rows = [
        f"{'evaluation set':{max(width, 14)}}  {'items':>6}  {'too short':>9}  {f'some {n}-gram':>12}  "
        f"{f'>= {NEAR:.0%} of them':>14}"
    ]
    for name, shared in overlaps.items():
        shares = [
            f"{count} ({count / max(1, shared.items - shared.untested):.1%})"
            for count in (shared.touched, shared.near)
        ]
        rows.append(
            f"{name:{max(width, 14)}}  {shared.items:>6}  {shared.untested:>9}  {shares[0]:>12}  {shares[1]:>14}"
        )
    return "\n".join(rows)


def overlap(config: DictConfig, choice: str) -> tuple[Record, str]:
    """Compare, write the list to exclude where asked for, and write the record.

    Args:
        config: of the command.
        choice: name of the data, for the name of the record.

    Returns:
        The record and the text to print.

    Raises:
        ValueError: for impossible values.
        UserError: for data that cannot be had.
    """
    require_number("coverage", config.coverage, least=0, below=1, why="it must be a share, at least 0 and below 1")
    require_gram_sizes(config.n, config.shortest)
    data = configuration.build(config.data)
    texts = data.texts()
    train = texts["train"]
    sets = {"validation": [[prompt] for prompt, _ in texts["heldout"]]}
    for name, part in config.sets.items():
        try:
            sets[str(name)] = items(configuration.build(part.source), part.split, list(part.fields))
        except UserError as error:
            raise UserError(f"sets.{name}: {error}; ~sets.{name} leaves the set out") from error
    index = Index(sets, config.n, config.shortest)  # pyright: ignore[reportArgumentType]
    covered = compare(train, index)
    excluded = sorted({identity(train[i][0]) for i, share in enumerate(covered) if share > config.coverage})
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    identified = {str(key): value for key, value in resolved.items() if key != "how"}
    inputs = {
        "code": sources.code_hash(("experiments.data.ngrams", *sources.targets(identified))),
        "data": data.fingerprint(),
        "sets": digest(sets),
    }
    record = Record(
        kind="overlap",
        study="overlap",
        name=f"{choice}-{digest(identified)[:8]}",
        key=run_key(identified, inputs),
        status="finished",
        config=identified,
        measurements={
            "train_examples": len(train),
            "train_touched": sum(share > 0 for share in covered),
            "train_excluded": sum(share > config.coverage for share in covered),
            "sets": measurements(index.overlaps, sets, train),
        },
        provenance=provenance("cpu"),
    )
    lines = [table(index.overlaps, config.n)]
    lines.append(
        f"{record.measurements['train_excluded']} of {len(train)} examples to train on have more than "
        f"{config.coverage:.0%} of the {config.n}-grams of an item"
    )
    if config.how.exclude is not None:
        lines.append(_write_list(configuration.output_path(config.how.exclude), excluded))
    lines.append(str(write(record, configuration.folder(config))))
    return record, "\n".join(lines)


def _write_list(path: Path, excluded: Sequence[str]) -> str:
    if not excluded:
        return f"nothing to exclude: {path} is not written"
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text("".join(f"{line}\n" for line in excluded), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"exclude={path} cannot be written ({error.strerror})") from error
    return f"{len(excluded)} prompts written: train with data.exclude={path}"


@command("overlap")
def main(config: DictConfig) -> None:
    print(overlap(config, configuration.choices(HydraConfig.get())["data"])[1])


if __name__ == "__main__":
    main()

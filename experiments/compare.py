"""Differences of two runs, cells of studies or evaluations: `python -m experiments.compare A B [C ...]`.

    python -m experiments.compare headline/gsm8k-adamw headline/gsm8k-badam       # cells of a study, paired by seed
    python -m experiments.compare outputs/records/single/A.json outputs/records/single/B.json
    python -m experiments.compare evaluate/untrained-reasoning_gym evaluate/trained-reasoning_gym

Every other record is compared with the first. What both have for the same items is paired item by item, what they
have for the same seeds seed by seed. Each difference comes with its 95 % interval, the number of pairs, the p of the
test and, of several, the p adjusted by Holm's method. Records of another data set, part or model are refused.

The test over seeds is Student's t. The test over items is the t test of a ratio of sums for losses, and McNemar's
exact test for right answers; of several seeds the answers of each item are averaged first and compared by the t test.
"""

import argparse
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cli.help import paragraphs
from experiments.command import exit_codes
from experiments.configuration import without
from experiments.errors import UserError
from experiments.evaluate.significance import ALPHA, holm, mean_difference, paired
from records import COMMITTED, OUTPUTS, Record, at, load, load_study, read_study, studies

SAME = ("data", "model", "evaluation", "workload")
"""Of train records, what two runs must have in common for their losses to mean the same."""
OF_NO_EFFECT = ("seed", "local", "chunk", "batch_size", "bucket", "train_size", "exclude", "test")
"""Keys of them that change no loss, or that vary with the seed."""
METRICS = {
    "held-out loss": ("after", "heldout_loss"),
    "held-out exact match": ("after", "exact_match"),
    "held-out accuracy": ("after", "accuracy"),
    "test loss": ("test", "heldout_loss"),
    "test exact match": ("test", "exact_match"),
    "test accuracy": ("test", "accuracy"),
}
"""What train records are compared by, where both have it."""
LEFT_OUT = ("seed", "choices", "_target_", "learning_rates", "architecture")
SHOWN = 8
"""Differing options that are named."""


@dataclass(frozen=True)
class Side:
    """What is compared: one record, or the runs of a cell under several seeds.

    Attributes:
        name: as it was asked for.
        records: finished, of one kind; those of train by different seeds.
    """

    name: str
    records: tuple[Record, ...]

    @property
    def kind(self) -> str:
        return self.records[0].kind

    @property
    def by_seed(self) -> dict[int, Record]:
        """Of train records."""
        return {record.config["seed"]: record for record in self.records}


@dataclass(frozen=True)
class Comparison:
    """One difference, b - a.

    Attributes:
        metric: what is compared.
        pairs: what the pairs are, "seeds" or "items".
        n: how many pairs.
        a: mean of the first.
        b: mean of the second.
        low: lower end of the 95 % interval of the difference; not a number where n = 1.
        high: its upper end.
        p: of no difference; not a number where n = 1.
    """

    metric: str
    pairs: str
    n: int
    a: float
    b: float
    low: float
    high: float
    p: float

    @property
    def difference(self) -> float:
        return self.b - self.a


def side(place: str, *, seeds: bool = False) -> Side:
    """The records that a word of the command line names.

    Args:
        place: a record's file; STUDY/CELL, the names of records without their seeds; STUDY/NAME, one record; or a
            study or folder that has one cell only.
        seeds: of a single run take also the other runs of its study that differ from it in the seed alone.

    Raises:
        UserError: when there are none, when there are several cells, and when one is not finished.
    """
    found = _records(place)
    if unfinished := [record for record in found if record.status != "finished"]:
        raise UserError(
            f"{place}: {unfinished[0].name} is {unfinished[0].status}"
            + (f" ({unfinished[0].error})" if unfinished[0].error else "")
            + "; only finished records can be compared"
        )
    if len(found) > 1:
        cells = sorted({cell(record.name) for record in found})
        if len(cells) > 1 or found[0].kind != "train":
            names = cells if len(cells) > 1 else [record.name for record in found]
            study = found[0].study
            raise UserError(f"{place} has several runs; name one: {', '.join(f'{study}/{name}' for name in names)}")
    if found[0].kind not in ("train", "evaluate"):
        raise UserError(f"{place} is a {found[0].kind} record; there are differences of train and evaluate records")
    return Side(place, tuple(_siblings(found[0]) if seeds and len(found) == 1 else found))


def _siblings(record: Record) -> list[Record]:
    """The finished runs of the record's study that have its configuration but for the seed."""
    assert record.path is not None
    folder = record.path.parent if record.path.suffix == ".jsonl" else record.path.parent.parent
    cell = without(record.config, ("seed",))
    listed = load_study(record.study, kind=record.kind, folder=folder)
    return [other for other in listed if without(other.config, ("seed",)) == cell]


def cell(name: str) -> str:
    """The name of a run without its seed.

    >>> cell("gsm8k-badam-seed0"), cell("seed3-lr0.1"), cell("badam-smollm2_135m-seed0-1a2b3c4d")
    ('gsm8k-badam', 'lr0.1', 'badam-smollm2_135m-1a2b3c4d')
    """
    return re.sub(r"(^|-)seed\d+(?=-|$)", "", name).strip("-")


def _records(place: str) -> list[Record]:
    path = Path(place).expanduser()
    if path.is_file() and path.suffix == ".json":
        return [load(path)]
    study, _, name = place.rstrip("/").rpartition("/")
    if path.exists() or not study:
        return at(place)
    folder, study = (Path(study).parent, Path(study).name) if "/" in study else (None, study)
    for there in [folder] if folder else [OUTPUTS, COMMITTED]:
        listed = read_study(study.removesuffix(".jsonl"), there)
        if found := [record for record in listed if name in (record.name, cell(record.name))]:
            exact = [record for record in found if record.name == name]
            return exact or found
        if listed and (folder or there == COMMITTED):
            names = ", ".join(sorted({cell(record.name) for record in listed}))
            raise UserError(f"{place}: the study {study} has no {name}; it has {names}")
    known = ", ".join(dict.fromkeys([*studies(OUTPUTS), *studies(COMMITTED)]))
    raise UserError(f"{place} is no record's file, and there is no study {study}; there are {known}")


def compare(a: Side, b: Side) -> list[Comparison]:
    """Every difference of what both have, b - a.

    Raises:
        UserError: when the two cannot be compared, naming what differs.
    """
    if a.kind != b.kind:
        raise UserError(f"{a.name} is a {a.kind} record and {b.name} one of {b.kind}; there is nothing that both have")
    found = list(_trained(a, b) if a.kind == "train" else _evaluated(a.records[0], b.records[0]))
    if not found:
        raise UserError(f"{a.name} and {b.name} have no metric of the same seeds or items in common")
    return found


def _trained(a: Side, b: Side) -> Iterator[Comparison]:
    first, second = a.by_seed, b.by_seed
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise UserError(
            f"{a.name} has the seeds {_listed(first)} and {b.name} the seeds {_listed(second)}: no two runs "
            "saw the same data in the same order"
        )
    for seed in seeds:
        _require_same(a.name, b.name, first[seed], second[seed])
    for metric, (part, name) in METRICS.items():
        pairs = [(_value(first[seed], part, name), _value(second[seed], part, name)) for seed in seeds]
        known = [(x, y) for x, y in pairs if x is not None and y is not None]
        if known:
            yield by_seed(metric, [x for x, _ in known], [y for _, y in known])
    tests = [(first[seed].measurements.get("test", {}), second[seed].measurements.get("test", {})) for seed in seeds]
    if all("losses" in one and "losses" in other for one, other in tests):
        sums = [np.mean([test[i]["losses"] for test in tests], axis=0) for i in (0, 1)]
        yield by_item("test loss", sums[0], sums[1], tests[0][0]["tokens"])
    if all("right" in one and "right" in other for one, other in tests):
        yield right_items("test exact match", *([list(test[i]["right"]) for test in tests] for i in (0, 1)))


def _evaluated(a: Record, b: Record) -> Iterator[Comparison]:
    part = a.config["part"]
    if part != b.config["part"]:
        raise UserError(f"part: {a.name} is of {part}, {b.name} of {b.config['part']}")
    for name, one in a.measurements.items():
        other = b.measurements.get(name)
        if not isinstance(one, dict) or not isinstance(other, dict) or "rows" not in one:
            continue
        if one["rows"] != other.get("rows"):
            raise UserError(f"{name}: {a.name} and {b.name} were evaluated on different items of {part}")
        if "losses" in one:
            yield by_item(name, one["losses"], other["losses"], one["tokens"])
        elif "right" in one:
            yield right_items(name, [_bits(one["right"])], [_bits(other["right"])])


def by_seed(metric: str, a: Sequence[float], b: Sequence[float]) -> Comparison:
    """The mean difference of values of the same seeds."""
    n, means = len(a), (float(np.mean(a)), float(np.mean(b)))
    if n < 2:
        return Comparison(metric, "seeds", n, *means, math.nan, math.nan, math.nan)
    d = np.subtract(b, a)
    return _with_interval(metric, "seeds", n, means, float(d.std(ddof=1)) / math.sqrt(n), None)


def by_item(metric: str, a: Any, b: Any, weights: Sequence[float]) -> Comparison:
    """The difference of sum(values)/sum(weights) on the same items."""
    total = float(np.sum(weights))
    means = (float(np.sum(a)) / total, float(np.sum(b)) / total)
    test = mean_difference(a, b, weights)
    return _with_interval(metric, "items", len(weights), means, test["standard_error"], test["p"])


def right_items(metric: str, a: Sequence[Sequence[bool]], b: Sequence[Sequence[bool]]) -> Comparison:
    """The difference of the shares of right items; each list is of one seed."""
    n = len(a[0])
    if len(a) > 1:
        return by_item(metric, np.mean(a, axis=0), np.mean(b, axis=0), [1.0] * n)
    test = paired(a[0], b[0])
    means = (float(np.mean(a[0])), float(np.mean(b[0])))
    return _with_interval(metric, "items", n, means, test["standard_error"], test["p"])


def _with_interval(
    metric: str, pairs: str, n: int, means: tuple[float, float], error: float | None, p: float | None
) -> Comparison:
    difference = means[1] - means[0]
    if error is None:
        return Comparison(metric, pairs, n, *means, math.nan, math.nan, math.nan)
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * error
    if p is None:
        p = float(2 * stats.t.sf(abs(difference) / error, n - 1)) if error else float(difference == 0)
    return Comparison(metric, pairs, n, *means, difference - half, difference + half, p)


def _require_same(first: str, second: str, a: Record, b: Record) -> None:
    """Raise UserError unless two train records measured the same of the same."""
    for name in SAME:
        one, other = (dict(_leaves(record.config.get(name))) for record in (a, b))
        differing = [key for key in one.keys() & other.keys() if one[key] != other[key] and _counts(key)]
        if differing:
            chosen = [record.config.get("choices", {}).get(name) for record in (a, b)]
            key = sorted(differing)[0]
            place, values = f"{name}.{key}".rstrip("."), [one[key], other[key]]
            if chosen[0] != chosen[1]:
                place, values = name, chosen
            raise UserError(f"{place}: {values[0]} in {first}, {values[1]} in {second}; they cannot be compared")
    tested = [record.provenance.get("test_rows") for record in (a, b)]
    if None not in tested and tested[0] != tested[1]:
        raise UserError(f"the rows of the test part differ between {first} and {second}; they cannot be compared")
    counts = [record.measurements["after"].get("items") for record in (a, b)]
    if counts[0] != counts[1]:
        raise UserError(f"{counts[0]} held-out items in {first}, {counts[1]} in {second}; they cannot be compared")


def _counts(key: str) -> bool:
    return key.rpartition(".")[2] not in OF_NO_EFFECT


def _leaves(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value), the class alone of what is in another module by now."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{place}.{key}".lstrip("."))
    else:
        yield place, str(tree).rpartition(".")[2] if place.endswith("_target_") else tree


def settings(a: Side, b: Side) -> list[str]:
    """One text for each choice in which two sides differ, and for each option that both have with another value."""
    one, other = (dict(_leaves(side.records[0].config)) for side in (a, b))
    chosen = [key for key in dict.fromkeys([*one, *other]) if key.startswith("choices.")]
    options = [key for key in one if key in other and not set(key.split(".")) & set(LEFT_OUT)]
    differing = [key for key in (*chosen, *options) if one.get(key, "none") != other.get(key, "none")]
    texts = [
        f"{key.removeprefix('choices.')}: {one.get(key, 'none')} -> {other.get(key, 'none')}" for key in differing
    ]
    return texts[:SHOWN] + ([f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else [])


def table(a: Side, others: Sequence[Side]) -> str:
    """The comparisons of every other side with the first, as text.

    Raises:
        UserError: see `compare`.
    """
    found = [(b, compare(a, b)) for b in others]
    tested = [each for _, listed in found for each in listed if not math.isnan(each.p)]
    adjusted = dict(zip(map(id, tested), holm([each.p for each in tested]), strict=True))
    width = max(len(each.metric) for _, listed in found for each in listed)
    lines = []
    for b, listed in found:
        lines += ["", f"{b.name} minus {a.name}"] if lines else [f"{b.name} minus {a.name}"]
        lines += [f"  {text}" for text in settings(a, b)]
        lines.append(
            f"{'':{width}} {'first':>9} {'second':>9} {'difference':>11}  {'95 % interval':<22} {'n':>10} {'p':>9}"
            + (f" {'Holm':>9}" if len(tested) > 1 else "")
        )
        for each in listed:
            lines.append(_line(each, width, adjusted.get(id(each)) if len(tested) > 1 else None))
        if a.kind == "train" and (alone := a.by_seed.keys() ^ b.by_seed.keys()):
            lines.append(f"the seeds {_listed(alone)} are in one of them only, and left out")
        if any(math.isnan(each.p) for each in listed):
            lines.append("one seed has no interval; run several (-m seed=0,1,2), and --seeds takes them all")
    return "\n".join(lines)


def _line(each: Comparison, width: int, adjusted: float | None) -> str:
    known = not math.isnan(each.p)
    interval = f"[{each.low:+.4f}, {each.high:+.4f}]" if known else "none"
    p = f"{each.p:.2g}" if known else ""
    pairs = each.pairs if each.n > 1 else each.pairs.removesuffix("s")
    return (
        f"{each.metric:{width}} {each.a:>9.4f} {each.b:>9.4f} {each.difference:>+11.4f}  {interval:<22} "
        f"{f'{each.n} {pairs}':>10} {p:>9}" + ("" if adjusted is None else f" {adjusted:>9.2g}")
    ).rstrip()


def _value(record: Record, part: str, name: str) -> float | None:
    return (record.measurements.get(part) or {}).get(name)


def _bits(text: str) -> list[bool]:
    return [bit == "1" for bit in text]


def _listed(seeds: Any) -> str:
    return ", ".join(map(str, sorted(seeds)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="\n".join(paragraphs(__doc__ or "")), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", nargs="+", help="a record's file, STUDY/NAME, or STUDY/CELL for all its seeds")
    parser.add_argument("--seeds", action="store_true", help="of each run also the same run with other seeds")
    arguments = parser.parse_args()
    places = arguments.record
    with exit_codes():
        if len(places) < 2:
            raise UserError(f"{places[0]} alone has no difference; name two records or more")
        first, *others = (side(place, seeds=arguments.seeds) for place in places)
        print(table(first, others))


if __name__ == "__main__":
    main()

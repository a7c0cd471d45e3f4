"""`python -m paper.build`: figures, tables and numbers of the paper, from records only.

Every producer is a module: `paper/figures/NAME.py` with `draw`, `paper/tables/NAME.py` with `text`, and
`paper/numbers` with `text`. Each names the records that it reads: SOURCES those that it needs, STUDIES those that may
be missing, argument name -> (kind, study). What is built goes to paper/build/, with manifest.json saying which
producer and which records every file came from; a file whose producer and records are unchanged is left alone.
"""

import argparse
import ast
import hashlib
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from paper.read.names import finished
from records import COMMITTED, OUTPUTS, ROOT, Record, RecordError, read_study

PAPER = Path(__file__).resolve().parent
BUILD = PAPER / "build"
MAKE_TARGETS = {
    "train": "make study",
    "verify": "make theory",
    "profile": "python -m experiments.profile sweep=cost device=cuda",
}


@dataclass(frozen=True)
class Product:
    """One producer module and the files it makes.

    Attributes:
        name: of the module, unique in the paper.
        folder: below paper/build.
        suffixes: one file for each.
    """

    module: ModuleType
    name: str
    folder: Path
    suffixes: tuple[str, ...]

    @property
    def sources(self) -> Mapping[str, tuple[str, str]]:
        """Records without which the product cannot be made."""
        return getattr(self.module, "SOURCES", {})

    @property
    def studies(self) -> Mapping[str, tuple[str, str]]:
        """Records that may be missing."""
        return getattr(self.module, "STUDIES", {})

    def absent(self, records: Mapping[str, Sequence[Record]]) -> bool:
        """Whether there is nothing to show: the study that it is about has no finished record."""
        return not self.sources and not records[next(iter(self.studies))]

    @property
    def files(self) -> list[Path]:
        return [self.folder / f"{self.name}{suffix}" for suffix in self.suffixes]


def products() -> list[Product]:
    """Every figure, every table, and the numbers."""
    products = []
    for folder, suffixes in (("figures", (".pdf", ".png")), ("tables", (".tex",))):
        package = importlib.import_module(f"paper.{folder}")
        for item in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"paper.{folder}.{item.name}")
            if hasattr(module, "SOURCES") or hasattr(module, "STUDIES"):  # the others are what figures share
                products.append(Product(module, item.name, BUILD / folder, suffixes))
    numbers = importlib.import_module("paper.numbers")
    products.append(Product(numbers, "numbers", BUILD, (".tex",)))
    return products


def read(product: Product, reader: Callable[[str, Path], list[Record]] = read_study) -> dict[str, list[Record]]:
    """The records that the producer asks for: this clone's own runs, else the committed ones of that study.

    Own runs that are a part of the committed study, as some that were run again, do not stand for the whole.
    Of a study that may be missing the failed runs are read too: that a run diverged is a result.

    Args:
        product: the product.
        reader: study and folder -> its records.

    Raises:
        RecordError: naming the command to run, when a study that is needed has no finished record.
    """
    by_argument = {argument: runs(kind, study, reader) for argument, (kind, study) in product.studies.items()}
    for argument, (kind, study) in product.sources.items():
        own, committed = (_runs(reader(study, folder), kind) for folder in (OUTPUTS, COMMITTED))
        records = _own_or_committed(finished(own), finished(committed))
        if not records:
            raise RecordError(
                f"{product.name} needs finished {kind} records of the study {study!r}, none is in {OUTPUTS}; "
                f"run `{MAKE_TARGETS[kind]}` first"
            )
        by_argument[argument] = records
    return by_argument


def runs(kind: str, study: str, reader: Callable[[str, Path], list[Record]] = read_study) -> list[Record]:
    """The finished and failed runs of a study, as `read` takes them; none when none is finished.

    Args:
        kind: of the records.
        study: its name.
        reader: study and folder -> its records.
    """
    own, committed = (_runs(reader(study, folder), kind) for folder in (OUTPUTS, COMMITTED))
    return _own_or_committed(own, committed)


def _own_or_committed(own: list[Record], committed: list[Record]) -> list[Record]:
    names = {record.name for record in own}
    return committed if names < {record.name for record in committed} else own


def _runs(records: Sequence[Record], kind: str) -> list[Record]:
    """The finished and failed runs of one kind, none when no run is finished."""
    runs = [record for record in records if record.kind == kind and record.status != "interrupted"]
    return runs if finished(runs) else []


def state(product: Product, records: Mapping[str, Sequence[Record]]) -> str:
    """SHA-256 over what decides the product: its producer, all of paper/ that it imports, and the records."""
    total = hashlib.sha256()
    for path in sorted({Path(__file__), *closure(Path(product.module.__file__ or ""))}):
        total.update(path.name.encode() + path.read_bytes())
    used = [record for group in records.values() for record in group]
    total.update(json.dumps([(record.study, record.name, record.key) for record in used]).encode())
    for path in sorted({record.path for record in used if record.path}):  # of one run, or of a study
        total.update(path.read_bytes())
    return total.hexdigest()


def closure(path: Path) -> set[Path]:
    """The module and every module of paper/ that it imports, itself or through others."""
    modules: set[Path] = set()
    unread = {path}
    while unread:
        module = unread.pop()
        modules.add(module)
        unread |= imports(module) - modules
    return modules


@cache
def imports(path: Path) -> set[Path]:
    """The modules of paper/ that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [PAPER.parent / name.replace(".", "/") for name in names if name.partition(".")[0] == PAPER.name]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return {file for file in files if file.is_file()}


def make(product: Product, records: Mapping[str, Sequence[Record]]) -> None:
    """Write the files of one product."""
    product.folder.mkdir(parents=True, exist_ok=True)
    if product.folder.name == "figures":
        from paper.figures import style  # matplotlib is slow to import, and often nothing is to be drawn

        style.save(product.module.draw(**records), product.files)
    else:
        producer = Path(str(product.module.__file__)).relative_to(PAPER.parent).as_posix()
        header = f"% Made by {producer} from records; do not edit.\n"
        product.files[0].write_text(header + product.module.text(**records), encoding="utf-8")


def read_manifest() -> dict[str, dict]:
    """What was made so far: product name -> state, producer, files and records."""
    path = BUILD / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_manifest(manifest: Mapping[str, dict]) -> None:
    """Replace the manifest as a whole."""
    BUILD.mkdir(parents=True, exist_ok=True)
    partial = BUILD / "manifest.partial"
    partial.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(BUILD / "manifest.json")


def build(wanted: Sequence[Product]) -> int:
    """Make what is missing or out of date and has records; returns how many products were made."""
    manifest = read_manifest()
    made = 0
    reader = cache(read_study)  # many products show one study
    for product in wanted:
        records = read(product, reader)
        if product.absent(records):
            manifest = _leave_out(product, manifest)
            continue
        digest = state(product, records)
        if manifest.get(product.name, {}).get("state") == digest and all(file.exists() for file in product.files):
            continue
        if manifest.pop(product.name, None):
            write_manifest(manifest)  # an interrupted product must not count as made
        make(product, records)
        made += 1
        manifest[product.name] = {
            "state": digest,
            "producer": product.module.__name__,
            "files": [file.relative_to(BUILD).as_posix() for file in product.files],
            "records": {
                f"{record.study}/{record.name}": {
                    "file": place(record),
                    "key": record.key,
                    "commit": record.provenance["commit"],
                }
                for group in records.values()
                for record in group
            },
        }
        write_manifest(manifest)
        print(f"made {', '.join(map(str, product.files))}", flush=True)
    return made


def place(record: Record) -> str:
    """The file that a record is in, from the root of the repository where it is below that."""
    if record.path is None:
        return ""
    return (record.path.relative_to(ROOT) if record.path.is_relative_to(ROOT) else record.path).as_posix()


def _leave_out(product: Product, manifest: dict[str, dict]) -> dict[str, dict]:
    """What an earlier build made of records that are gone must not be taken for a result."""
    for file in product.files:
        file.unlink(missing_ok=True)
    if manifest.pop(product.name, None):
        write_manifest(manifest)
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="products to make, for example loss_curves; all when none is named")
    names = parser.parse_args().names
    everything = products()
    if unknown := set(names) - {product.name for product in everything}:
        names_of_all = ", ".join(product.name for product in everything)
        print(f"error: no product is named {', '.join(sorted(unknown))}; there are {names_of_all}", file=sys.stderr)
        raise SystemExit(2)
    try:
        made = build([product for product in everything if not names or product.name in names])
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if not made:
        print("figures, tables and numbers are up to date")


if __name__ == "__main__":
    main()

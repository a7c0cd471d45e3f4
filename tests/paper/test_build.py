"""Figures, tables and numbers from records: what is made, when again, and what is said of missing records."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from paper import build
from paper.figures import style
from records import Record, RecordError, commit, replace_file, write
from tests.paper import small, synthetic

PRODUCTS = 45
"""At least so many figures, tables and files of numbers there are."""


def use(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Build from the records of that folder, into it."""
    patch.setattr(build, "OUTPUTS", folder / "records")
    patch.setattr(build, "COMMITTED", folder / "committed")
    patch.setattr(build, "BUILD", folder / "build")


def save_once(drawn: Figure, files: Sequence[Path]) -> None:
    """One format of two, with fonts that are embedded faster: layout and fonts are most of the time of a build."""
    with mpl.rc_context({"pdf.fonttype": 3}):
        drawn.savefig(files[0])
    for path in files[1:]:
        shutil.copy(files[0], path)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, theory: dict[str, list[Record]]) -> Path:
    """A folder with records of everything, and all that is built of them."""
    folder = tmp_path_factory.mktemp("complete")
    for record in [*small.quick_records(), *(r for group in theory.values() for r in group)]:
        write(record, folder / "records")
    studies: dict[str, list[Record]] = {}
    for record in sorted(synthetic.studies(), key=lambda record: record.name):
        studies.setdefault(record.study, []).append(record)
    for study, runs in studies.items():
        replace_file(folder / "committed" / f"{study}.jsonl", commit.text_of(runs))
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder)
        patch.setattr(style, "save", save_once)
        products = build.products()
        assert build.build(products) == len(products)
    return folder


@pytest.fixture
def folder(complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which a test may change."""
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    use(monkeypatch, tmp_path)
    return tmp_path


def product(name: str) -> build.Product:
    (found,) = (p for p in build.products() if p.name == name)
    return found


@pytest.mark.slow
def test_every_product_is_made_once_and_again_when_a_record_changes(folder: Path) -> None:
    products = build.products()
    assert {p.name for p in products} >= {"loss_curves", "memory", "bound_slack", "quick_study", "numbers"}
    assert len(products) >= PRODUCTS
    assert all(path.stat().st_size > (0 if path.suffix == ".tex" else 1000) for p in products for path in p.files)
    assert build.build(products) == 0
    write(small.train_record("lora", 0.5), folder / "records")
    assert build.build(products) == sum("quick" in p.sources for p in products)
    product("memory").files[0].unlink()
    assert build.build(products) == 1


def test_what_figures_share_is_no_figure() -> None:
    assert not {"style", "paired", "placement", "judged"} & {p.name for p in build.products()}


def test_a_product_is_made_of_its_module_and_of_what_that_imports() -> None:
    places = {path.relative_to(build.PAPER).as_posix() for path in build.closure(build.PAPER / "figures" / "order.py")}
    assert places >= {"figures/order.py", "figures/paired.py", "figures/style.py", "read/studies.py", "read/names.py"}
    assert not {"figures/rank.py", "tables/claims.py", "build.py"} & places


@pytest.mark.slow
def test_some_runs_of_a_committed_study_do_not_stand_for_it(folder: Path) -> None:
    curves = product("loss_curves")
    for record in build.read(curves)["quick"]:
        write(record, folder / "committed")
    (folder / "records" / "quick" / "badam-seed0.json").unlink()
    assert [r.path.parent.parent.name for r in build.read(curves)["quick"] if r.path] == ["committed"] * 5
    write(small.train_record("another", 0.5), folder / "records")
    assert {r.path.parent.parent.name for r in build.read(curves)["quick"] if r.path} == {"records"}


@pytest.mark.slow
def test_the_manifest_traces_every_file_to_records(folder: Path) -> None:
    manifest = json.loads((folder / "build" / "manifest.json").read_text())
    assert manifest["loss_curves"]["producer"] == "paper.figures.loss_curves"
    traced = manifest["loss_curves"]["records"]["quick/lora-seed0"]
    assert (traced["key"], traced["commit"]) == ("k-lora", small.PROVENANCE["commit"])
    assert traced["file"].endswith("/records/quick/lora-seed0.json")


@pytest.mark.slow
def test_a_committed_study_is_one_file_and_the_manifest_names_it(folder: Path) -> None:
    memory = product("memory")
    committed = folder / "committed" / "quick.jsonl"
    replace_file(committed, commit.text_of(build.read(memory)["quick"]))
    shutil.rmtree(folder / "records" / "quick")
    assert build.build([memory]) == 1
    traced = build.read_manifest()["memory"]["records"]["quick/lora-seed0"]
    assert (traced["file"], traced["key"]) == (str(committed), "k-lora")
    assert build.build([memory]) == 0
    replace_file(committed, committed.read_text().replace('"weights":4000', '"weights":5000'))
    assert build.build([memory]) == 1
    assert build.place(small.practice_record()) == "results/practice.jsonl"


@pytest.mark.slow
def test_a_study_without_records_is_left_out(folder: Path) -> None:
    (folder / "committed" / "order.jsonl").unlink()
    order = product("order")
    products = [p for p in build.products() if p.name != "numbers"]
    assert build.build(products) == 3, "the two tables of claims and that of the gap change, nothing else"
    assert not any(path.exists() for path in order.files)
    assert "order" not in build.read_manifest()
    assert "study order: not run" in (folder / "build" / "tables" / "claims_of_options.tex").read_text()


@pytest.mark.slow
def test_no_study_at_all_leaves_the_claims_about_cost(folder: Path) -> None:
    shutil.rmtree(folder / "committed")
    made = [p.name for p in build.products() if p.studies and not p.absent(build.read(p))]
    assert made == ["match", "claims", "claims_of_options", "numbers"], "the curves of the match are of the theory"


@pytest.mark.slow
def test_missing_records_name_the_command(folder: Path) -> None:
    shutil.rmtree(folder / "records" / "quick")
    with pytest.raises(RecordError, match=r"study 'quick'.*run `make study` first"):
        build.build(build.products())


@pytest.mark.slow
def test_a_method_without_a_record_is_named(folder: Path) -> None:
    (folder / "records" / "quick" / "bsgd-seed0.json").unlink()
    with pytest.raises(RecordError, match="no finished record of bsgd, which the text quotes; run `make study`"):
        build.build([product("numbers")])


@pytest.mark.slow
def test_an_interrupted_product_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    products = build.products()
    memory = product("memory")
    memory.files[0].unlink()

    def interrupted(product: build.Product, records: object) -> None:
        product.files[0].write_text("half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "make", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build.build(products)
    assert build.build(products) == 1
    assert [path.read_bytes()[:4] for path in memory.files] == [b"%PDF", b"\x89PNG"]

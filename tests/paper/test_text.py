"""The text of the paper: every float has a producer, every macro a number, and no result is typed."""

import re

import yaml

from paper import build
from records import ROOT

QUOTING = (
    "abstract",
    "introduction",
    "related",
    "limitations",
    "conclusion",
    "experiments",
    "practice",
)  # sections that could quote a result


def prose() -> str:
    """These sections without commands."""
    text = "".join((ROOT / "paper" / "sections" / f"{name}.tex").read_text() for name in QUOTING)
    text = re.sub(r"\\(?:cite[tp]?|label|ref|includegraphics|input)(?:\[[^]]*\])?\{[^}]*\}", "", text)
    return re.sub(r"\\[a-zA-Z]+|arXiv:\S+", "", text)


def sections() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "paper" / "sections").glob("*.tex")))


def test_every_float_has_a_producer_and_a_source():
    text = sections()
    figures = set(re.findall(r"\\includegraphics\[[^]]*\]\{(\w+)\}", text))
    tables = set(re.findall(r"\\input\{build/tables/(\w+)\}", text))
    names = {p.name: p.folder.name for p in build.products()}
    assert figures == {name for name, folder in names.items() if folder == "figures"}
    assert tables == {name for name, folder in names.items() if folder == "tables"}
    floats = re.findall(r"\\begin\{(?:figure|table)\}.*?\\end\{(?:figure|table)\}", text, re.DOTALL)
    assert len(floats) == len(figures) + len(tables)
    assert all(re.search(r"Source: \\\w+Source\{\}", item) for item in floats)


def test_every_macro_of_the_text_is_defined(macros):
    assert (
        set(re.findall(r"\\((?:Quick|Theory|Practice|Adversary|Cost|Claims|Match)\w+)", sections())) <= macros.keys()
    )


def test_no_result_is_typed_by_hand():
    """Numbers in the prose are results, and results are macros; what describes the set-up is listed here."""
    # 135 million parameters, 30 layers, a 4-bit file, float32, bfloat16, SmolLM2, GSM8K, Llama 3-8B, its
    # card of 24 GB, the level of intervals; names of theorems, roots and norms
    set_up = {"135", "30", "4", "32", "2", "1", "3", "8", "16", "24", "95"}
    assert set(re.findall(r"\d+", prose())) <= set_up


def test_the_pdf_has_the_title_and_the_authors_of_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    main = (ROOT / "paper" / "main.tex").read_text()
    given = dict(re.findall(r"^  (pdf\w+)=\{(.*)\},$", main, re.MULTILINE))
    assert given == {
        "pdftitle": citation["title"],
        "pdfauthor": ", ".join(author["name"] for author in citation["authors"]),
        "pdfkeywords": ", ".join(citation["keywords"]),
    }
    (shown,) = re.findall(r"\\author\{(.*)\}", main)
    assert shown == given["pdfauthor"]

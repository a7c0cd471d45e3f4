"""The theorems of the paper and the modules of theory/bounds: each names the other, and every reference resolves."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAPER, BOUNDS = ROOT / "paper", ROOT / "theory" / "bounds"
SENTENCE = re.compile(r"In the paper: (?:(\w+:\w+), proof in )?(app:\w+)\.")


def text_of(path: Path) -> str:
    """A LaTeX file with what it inputs from sections/, without comments."""
    text = re.sub(r"(?<!\\)%.*", "", path.read_text(encoding="utf-8"))
    return re.sub(r"\\input\{(sections/\w+)\}", lambda found: text_of(PAPER / f"{found[1]}.tex"), text)


TEXT = text_of(PAPER / "main.tex")
LABELS = re.findall(r"\\label\{([^}]+)\}", TEXT)


def docstring(module: str) -> str:
    return ast.get_docstring(ast.parse((BOUNDS / f"{module}.py").read_text(encoding="utf-8"))) or ""


def modules() -> list[str]:
    """Modules of the bounds of conf/bound, except those that say "Not in the paper."."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "conf" / "bound").glob("*.yaml")]
    targets = {
        name for text in texts for name in re.findall(r"^_target_: theory\.bounds\.(\w+)\.", text, re.MULTILINE)
    }
    return sorted(name for name in targets if "Not in the paper." not in docstring(name))


MODULES = modules()


def proof(module: str) -> str:
    """The text from the label of a proof to the next section."""
    return re.split(r"\\(?:sub)?section\{", TEXT.partition(f"\\label{{app:{module}}}")[2])[0]


def names_of_lines(module: str) -> set[str]:
    """Names that the source gives to lines of a ledger as literals."""
    calls = ast.walk(ast.parse((BOUNDS / f"{module}.py").read_text(encoding="utf-8")))
    return {
        call.args[0].value
        for call in calls
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("ledger.check", "ledger.equal")
        and isinstance(call.args[0], ast.Constant)
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_bound_names_its_statement_and_its_proof(module: str) -> None:
    assert SENTENCE.findall(docstring(module)) == [(f"thm:{module}", f"app:{module}")]
    assert f"thm:{module}" in LABELS
    assert f"app:{module}" in LABELS


def test_every_statement_and_every_proof_of_the_paper_belongs_to_a_module() -> None:
    assert {label for label in LABELS if label.startswith("thm:")} == {f"thm:{module}" for module in MODULES}
    named = {path.stem: SENTENCE.findall(docstring(path.stem)) for path in BOUNDS.glob("*.py")}
    shared = {module: found[0] for module, found in named.items() if found and module not in MODULES}
    for module, (statement, place) in shared.items():
        assert place == f"app:{module}"
        assert not statement or statement in LABELS
    proofs = {label for label in LABELS if label.startswith("app:")}
    assert proofs == {f"app:{module}" for module in [*MODULES, *shared]}


def lines_of_proof(module: str) -> list[str]:
    return re.findall(r"\\proofline\{([^}]+)\}", proof(module))


@pytest.mark.parametrize("module", [*MODULES, "master"])
def test_the_proof_has_every_line_of_the_ledger(module: str) -> None:
    # `master.conclude`, which sums the lemma up, is a part of the proof of Theorem B1+
    places = (module, "b1_plus") if module == "master" else (module,)
    assert names_of_lines(module) <= {line for place in places for line in lines_of_proof(place)}
    for line in lines_of_proof(module):
        assert re.search(rf"(?<!\w){re.escape(line)}(?!\w)", docstring(module)), f"{line} is in no docstring"


def test_every_reference_resolves_and_no_label_is_doubled() -> None:
    assert [label for label, count in Counter(LABELS).items() if count > 1] == []
    assert set(re.findall(r"\\(?:eq|page)?ref\{([^}]+)\}", TEXT)) <= set(LABELS)


def test_every_citation_is_in_the_bibliography_and_every_entry_is_cited() -> None:
    entries = re.findall(r"^@\w+\{(\w+),", (PAPER / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    cited = {key.strip() for keys in re.findall(r"\\cite[tp]?\{([^}]+)\}", TEXT) for key in keys.split(",")}
    assert cited == set(entries)
    assert len(entries) == len(set(entries))


def test_an_arxiv_number_of_a_docstring_is_one_of_the_bibliography() -> None:
    known = set(re.findall(r"arXiv:(\d{4}\.\d{4,5})", (PAPER / "references.bib").read_text(encoding="utf-8")))
    for path in sorted(BOUNDS.glob("*.py")):
        for number in re.findall(r"arXiv[ :\n]+(\d{4}\.\d{4,5})", path.read_text(encoding="utf-8"), re.IGNORECASE):
            assert number in known, f"{path.relative_to(ROOT)}: arXiv {number}"

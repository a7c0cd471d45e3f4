"""The certificates: all verified, none larger than needed, every mutation rejected; the checker is independent."""

import ast
import copy
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from theory.certificates import make, verify
from theory.worst_case import Case, identity, worst_case

FOLDER = Path(verify.__file__).parent
FILES = sorted(FOLDER.glob("*.json"))
LARGE = ("D16", "D2-K8", "convex")  # several seconds for all mutations together
SMALL = [path for path in FILES if not any(part in path.stem for part in LARGE)]
SMALL.append(FOLDER / "convex-L1-1-n8.json")


def load(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def accepted(content: dict) -> bool:
    try:
        return verify.check(content)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False


def test_the_files_are_those_of_the_cases() -> None:
    assert {path.stem for path in FILES} == set(make.CASES)
    assert len(FILES) >= 16
    assert max(path.stat().st_size for path in FILES) < 200_000
    assert sum(path.stat().st_size for path in FILES) < 2_000_000
    for path in FILES:
        assert load(path.stem)["parameters"] == make.parameters(make.CASES[path.stem]), path


@pytest.mark.slow
def test_the_command_verifies_all_and_reports_each() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-W", "error", "-m", "theory.certificates.verify"],
        cwd=FOLDER.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for path in FILES:
        assert any(line.startswith(path.stem + " ") and " verified in " in line for line in done.stdout.splitlines())


def test_the_command_fails_if_one_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = load("epoch-D3")
    content["multipliers"].pop()
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(content))
    assert verify.main([str(FOLDER / "epoch-D2.json"), str(bad)]) == 1
    assert "bad" in capsys.readouterr().out


def test_the_checker_is_short_and_independent() -> None:
    for name in ("verify", "words"):
        text = (FOLDER / f"{name}.py").read_text()
        assert len(text.splitlines()) < 100
        modules = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
        modules |= {a.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for a in node.names}
        assert modules - set(sys.stdlib_module_names) <= {"theory.certificates.words"}


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_constants_are_within_a_thousandth_of_the_worst_case(path: Path) -> None:
    case, constant = make.CASES[path.stem], load(path.stem)["constant"]
    if case.measure == "descent":
        assert constant is None
    elif len(identity(case).inequalities) < 200:  # the larger ones are solved when they are made
        assert 1 - 1e-6 < float(Fraction(constant)) / worst_case(case) < 1.0011


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_a_smaller_constant_is_rejected(path: Path) -> None:
    content = load(path.stem)
    if content["constant"] is None:  # descent: a step beyond 2 increases f
        content["parameters"]["step"] = "21/10"
    else:
        content["constant"] = str(Fraction(content["constant"]) * Fraction(99, 100))
    assert not accepted(content)  # the words do not fit
    content["claim"] = verify.statement(content["parameters"], content["constant"])
    assert not accepted(content)  # the proof does not fit


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_changed_multipliers_are_rejected(path: Path) -> None:
    content = load(path.stem)
    largest = max(range(len(content["multipliers"])), key=lambda n: Fraction(content["multipliers"][n][0]))

    def changed(value: str) -> dict:
        other = copy.deepcopy(content)
        other["multipliers"][largest][0] = value
        return other

    value = Fraction(content["multipliers"][largest][0])
    assert accepted(changed(str(value)))
    for wrong in (str(-value), "0", str(2 * value), "nan", "1/0", None):
        assert not accepted(changed(wrong)), wrong


# Parameters that make another claim: the words are rewritten to fit, so that only the proof can be wrong.
MUTATIONS = [
    ("epoch-D3", {"blocks": 2}),
    ("epoch-D3", {"blocks": 4}),
    ("epoch-D3", {"inner_steps": 2}),
    ("epoch-D3", {"step": "3/2"}),
    ("epoch-D3", {"step": "9/10"}),
    ("epoch-D2-K4-small", {"step": "1/8"}),
    ("momentum-D2-K2-a0.5-b0.5", {"decay": "9/10"}),
    ("badam-D2-K4-a0.25-ratio2", {"ratio": "3"}),
    ("badam-D2-K4-a0.25-ratio2", {"step": "1/2"}),
    ("badam-D2-K4-a0.25-ratio2", {"decay": "0"}),
    ("badam-D2-K4-a0.25-ratio2", {"rule": "momentum"}),
    ("descent-K4-ratio2", {"ratio": "4"}),
    ("convex-L1-2-10-n9", {"lipschitz": ["1", "2", "11"]}),
    ("convex-L1-2-10-n9", {"lipschitz": ["3", "2", "10"]}),
    ("convex-L1-1-1-n9", {"epochs": 2}),
    ("triangular-D4", {"blocks": 3}),
]


@pytest.mark.parametrize(("name", "change"), MUTATIONS)
def test_changed_parameters_are_rejected(name: str, change: dict) -> None:
    content = load(name)
    content["parameters"] |= change
    assert not accepted(content)
    if change.get("rule") == "momentum":
        del content["parameters"]["ratio"]
    content["claim"] = verify.statement(content["parameters"], content["constant"])
    assert not accepted(content)


@pytest.mark.parametrize(
    "multiplier",
    [
        ["1/1000", "convex", 0, 1, 0],  # an inequality of another class
        ["1/1000", "sector", 1],  # of another rule
        ["1/1000", "smooth", 0, "min"],  # a minimiser that nobody assumed
        ["1/1000", "smooth", 0, 9],
        ["1/1000", "smooth", 0, -1],
        ["1/1000", "smooth", 1, 0],  # a true inequality, but the identity is no longer one
        ["-1/1000", "smooth", 0, 0],
        ["1/1000", "unknown", 0, 1],
    ],
)
def test_inequalities_that_do_not_belong_are_rejected(multiplier: list) -> None:
    content = load("epoch-D2")
    content["multipliers"].append(multiplier)
    assert not accepted(content)


@pytest.mark.parametrize("constant", [None, "x", "0", "-3", "1/0"])
def test_constants_that_are_none_are_rejected(constant: str | None) -> None:
    content = load("epoch-D2")
    content["constant"] = constant
    assert not accepted(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blocks", 0),
        ("blocks", 2.0),
        ("blocks", True),
        ("epochs", -1),
        ("step", "0"),
        ("measure", "x"),
        ("rule", "free"),
    ],
)
def test_impossible_parameters_have_no_words(name: str, value: object) -> None:
    parameters = {**load("epoch-D2")["parameters"], name: value}
    with pytest.raises((KeyError, ValueError)):
        verify.statement(parameters, "3")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], True),
        ([[0, 0], [0, 1]], True),
        ([[0, 1], [1, 1]], False),
        ([[1, 2], [2, 4]], True),
        ([[1, 2], [2, 3]], False),
        ([[0, 0], [0, -1]], False),
    ],
)
def test_semidefinite(rows: list, expected: bool) -> None:
    assert verify.semidefinite([[Fraction(value) for value in row] for row in rows]) is expected


@pytest.mark.parametrize("name", ["epoch-D2", "epoch-D1-K4-small", "descent-K2-ratio2", "triangular-D2"])
def test_made_again_they_hold(name: str) -> None:
    content = json.loads(make.text(make.content(make.CASES[name])))
    assert verify.check(content)
    assert content["claim"].split("<=")[0] == load(name)["claim"].split("<=")[0]


def test_a_false_claim_has_no_certificate() -> None:
    from theory.worst_case import CertificateError, certify

    with pytest.raises(CertificateError, match="no rounding proves"):
        certify(Case("descent", 1, step=Fraction(21, 10)))

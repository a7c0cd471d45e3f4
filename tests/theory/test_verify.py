"""The entry point end to end: report, record, exit codes and messages."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import initialize_config_dir

import records
from tests.commands import run_module
from tests.theory.families import verified
from theory import measure, verify
from theory.bounds import Control, a1
from theory.bounds.a1 import A1
from theory.ledger import Ledger
from theory.measure import cases

TINY = [
    "bound=a1",
    "problem=quadratic",
    "bound.grid.gamma=[0.5,1.5]",
    "bound.grid.inner_steps=[2]",
    "bound.grid.order=[random_reshuffle]",
    "bound.epochs=2",
    "bound.example.epochs=3",
    "problem.num_blocks=[1,2]",
    "problem.block_sizes=[[1,2]]",
    "problem.coupling=[1.0]",
]


@pytest.fixture(autouse=True)
def fresh_controls() -> None:
    """A process keeps the controls of a bound; a patch must not find those of another test."""
    measure.controls_of.cache_clear()


def run(folder: Path, *overrides: str) -> int:
    """In this process, so that patches act; the record is theory/a1-quadratic-quick."""
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        jobs = verify.plan([*TINY, f"records_dir={folder}", "workers=1", *overrides])
    return verify.run([replace(job, study="theory") for job in jobs])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_command_writes_a_record_and_reports(workers: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "theory.verify", *TINY, f"workers={workers}"]
    command += [f"records_dir={tmp_path}", f"hydra.run.dir={tmp_path}/hydra"]
    done = subprocess.run(command, cwd=records.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("HOLDS: ")
    assert done.stdout.count(" REJECTED") == 5
    # Overrides of the sweep must not replace the record of the sweep itself.
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("theory"))
    assert folder.name != "theory"
    (record,) = records.load_study(folder.name, kind="verify", folder=tmp_path)
    assert record.name == "a1-quadratic-quick"
    assert record.config["bound"]["epochs"] == 2
    assert record.provenance["device_type"] == "cpu"
    found = record.measurements
    assert found["instances"]["num_blocks"] == [1, 1, 2, 2]
    assert len(found["showcase"]["bound"]) == len(found["showcase"]["measured"]) == 4
    assert len(found["showcase"]["ratios"]["A0"]) == found["showcase"]["lines"]["A0"]["checks"]
    assert all(line["instances"] == 4 for name, line in found["lines"].items() if name not in ("A0'", "A0''"))
    assert run(tmp_path) == 0
    (single,) = records.load_study("theory", kind="verify", folder=tmp_path)
    assert single.measurements == found, "the number of processes does not change the measurements"
    assert found["precise"]["instances"] > 0, "scalar blocks make A0 an equality, which float64 does not decide"


def test_a_bound_is_checked_on_its_problems_alone() -> None:
    """On another one the theorem's assumptions may not hold, and what is violated then says nothing about it."""
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        with pytest.raises(ValueError, match=r"a1 does not apply to problem=bilinear: its problems are quadratic, "):
            verify.plan(["bound=a1", "problem=bilinear"])
        some = verify.plan(["bounds=[a1,b1,d3]", "problem=quadratic"])
    assert [job.label for job in some] == [("a1", "quadratic"), ("b1", "quadratic")]


def test_a_folder_that_cannot_be_written_to_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        records.RecordError, match=r"file/theory cannot be written to .*choose another folder with rec"
    ):
        records.require_writable(tmp_path / "file" / "theory")
    records.require_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.integration
def test_a_finished_record_is_read_not_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    first = capsys.readouterr().out
    path = tmp_path / "theory" / "a1-quadratic-quick.json"
    content = json.loads(path.read_text())
    content["measurements"]["lines"]["A0"]["checks"] += 1000000
    path.write_text(json.dumps(content))
    assert run(tmp_path) == 0
    again = capsys.readouterr().out
    assert again.startswith("finished before")
    assert "A0           10000" in again
    assert run(tmp_path, "force=true") == 0
    assert capsys.readouterr().out == first
    assert run(tmp_path, "bound.epochs=3") == 0
    assert not capsys.readouterr().out.startswith("finished before")


@pytest.mark.integration
def test_a_violation_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = a1.kappa
    monkeypatch.setattr(a1, "kappa", lambda gamma, steps: 4 * true(gamma, steps))
    assert run(tmp_path) == 1
    assert "first violation: num_blocks=1, block_sizes=[1], " in (out := capsys.readouterr().out)
    assert "FAILS: " in out
    assert run(tmp_path) == 1, "a record of a failed check still fails"


def test_a_control_that_is_not_rejected_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = list(A1().controls())
    same = Control("nothing changed", "A0", 1.0, 0, 1.0, 0)
    monkeypatch.setattr(A1, "controls", lambda self: iter([*true, same]))
    assert run(tmp_path) == 1
    assert "NOT REJECTED" in capsys.readouterr().out


@pytest.mark.parametrize(("violated", "code"), [(True, 0), (False, 1)])
def test_a_refuted_statement_succeeds_only_if_its_violation_is_found(
    violated: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = a1.kappa
    monkeypatch.setattr(A1, "refuted", True)
    monkeypatch.setattr(A1, "controls", lambda self: iter(()))
    if violated:
        monkeypatch.setattr(a1, "kappa", lambda gamma, steps: 4 * true(gamma, steps))
    assert run(tmp_path, "bound.problems=[quadratic]") == code
    out = capsys.readouterr().out
    assert ("refuted as expected: a1" in out) == violated
    assert ("first violation: " in out) == violated
    if not violated:
        assert run(tmp_path, "bound.problems=[quadratic,huber]") == 0, "where it fails was not asked for"
        assert "HOLDS: " not in (out := capsys.readouterr().out)
        assert "\nNOT REFUTED: " in out
        assert "refuted on other families: a1" in out


@pytest.mark.parametrize("whole", [True, False])
def test_a_line_that_is_compared_with_itself_fails_the_whole_sweep(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = Ledger._add

    def same(self: Ledger, name: str, kind: str, lhs: object, rhs: object, *rest: object) -> None:
        true(self, name, kind, rhs if name == "A1a" else lhs, rhs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "_add", same)
    monkeypatch.setattr(A1, "controls", lambda self: iter(()))
    families = "[quadratic]" if whole else "[quadratic,huber]"
    assert run(tmp_path, f"bound.problems={families}") == (1 if whole else 0)
    out = capsys.readouterr().out
    assert ("a1: no check tells the two sides of A1a apart" in out) == whole
    assert re.search(r"^A1a .*  always 1\.0000$", out, re.MULTILINE)
    assert out.strip().splitlines()[-1].startswith("FAILS: " if whole else "HOLDS: ")


@pytest.mark.parametrize(("ratio", "rejected"), [(2.0, True), (1000.0, False)])
def test_a_control_that_is_falser_than_its_name_says_is_no_control(
    ratio: float, rejected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    control = Control("C_t halved", "epoch", ratio, 1, 1.0, 0)
    assert control.rejected == rejected
    monkeypatch.setattr(A1, "controls", lambda self: iter([control]))
    assert run(tmp_path) == (0 if rejected else 1)
    assert ("FALSER THAN ITS NAME SAYS: at most 2.5" in capsys.readouterr().out) != rejected


BELOW_ROUNDING = ["bound=b1_plus", "problem=quadratic", "problem.num_blocks=[2]", "problem.block_sizes=[[1,2]]"]


@pytest.mark.integration
def test_what_float64_does_not_resolve_is_decided_in_sixty_digits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With eps = 1e-14 the steps are below the rounding of float64, which then says nothing about the descent."""
    assert verified(tmp_path, *BELOW_ROUNDING, "bound.grid.eps=[1.0e-14]", "cases=3") == 0
    (path,) = tmp_path.glob("theory-*/b1_plus-quadratic-quick.json")
    lines = json.loads(path.read_text())["measurements"]["lines"]
    assert all(line["resolved"] > 0 for line in lines.values() if line["kind"] == "inequality"), lines
    counts = [
        sum(line[key] for line in lines.values() if line["kind"] == "inequality") for key in ("resolved", "checks")
    ]
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("HOLDS: ")
    assert f"{counts[0]} of {counts[1]} inequality checks resolved" in last


@pytest.mark.integration
def test_a_line_that_no_arithmetic_resolves_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of 1e-100 are below the rounding of 60 digits too."""
    assert verified(tmp_path, *BELOW_ROUNDING, "bound.grid.eps=[1.0e-100]", "cases=1") == 1
    out = capsys.readouterr().out
    assert "HOLDS" not in out
    assert out.strip().splitlines()[-1].startswith("UNRESOLVED: 1 bounds, ")
    assert "; unresolved: b1_plus on quadratic" in out
    assert "UNRESOLVED: 0 violations, nothing above rounding in " in out
    assert verified(tmp_path, *BELOW_ROUNDING, "bound.grid.eps=[1.0e-100]", "cases=1") == 1, "nor is its record"


def test_lines_that_say_nothing_for_one_block_are_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "problem.num_blocks=[1]") == 0
    assert re.search(r"^T +\d+ +0 .*  0 <= 0$", capsys.readouterr().out, re.MULTILINE), "Lemma T couples no blocks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bound", "problem", "grid", "line"),
    [
        ("b1_plus", "quadratic", "bound.grid.inner_steps=[1]", "B.3'"),
        ("b1_plus", "quadratic", "bound.grid.betas=[[0.0,0.999]]", "B1.11"),
        ("b2", "quadratic", "bound.grid.inner_steps=[1]", "B2.e"),
        ("d1", "quadratic", "bound.grid.inner_steps=[1]", "cross"),
        ("c4", "finite_sum", "bound.grid.inner_steps=[1]", "limit"),
    ],
)
def test_right_sides_that_are_zero_by_their_constants_are_no_failure(
    bound: str, problem: str, grid: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one step a visit nothing is averaged, and the left side is rounding."""
    assert verified(tmp_path, f"bound={bound}", f"problem={problem}", grid, "cases=2") == 0
    out = capsys.readouterr().out
    assert re.search(rf"^{re.escape(line)} .*  0 <= 0$", out, re.MULTILINE), out


@pytest.mark.slow
def test_the_last_line_of_a_refuted_statement_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(tmp_path, "bound=badam_d5_printed") == 0
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("REFUTED: 1 published statements, ")
    assert verified(tmp_path, "bound=badam_d5_printed", "problem=quadratic") == 0
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("NOT REFUTED: 1 published statements, ")


@pytest.mark.slow
@pytest.mark.integration
def test_several_bounds_and_families_by_name_and_as_a_multirun(tmp_path: Path) -> None:
    assert verify.spelled(["bound=a1,b1", "-m"]) == ["bound=a1,b1", "-m"]
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        some = verify.plan(verify.spelled(["bound=a1,a1", "problem=quadratic,quadratic"]))
    assert [job.name for job in some] == ["a1-quadratic-quick"]
    folders = [f"records_dir={tmp_path}", f"hydra.sweep.dir={tmp_path}/hydra"]
    done = run_module("theory.verify", "-m", *TINY, "cases=1,2", "workers=1", *folders)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("HOLDS: 1 bounds") == 2


def test_a_limit_on_the_cases_spreads_over_all_axes(tmp_path: Path) -> None:
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        (job,) = verify.plan(["bound=a1", "problem=quadratic", "cases=30", "bound.least.quadratic=31"])
    chosen = cases(job.config)
    assert len(chosen) == 31
    for name, values in job.config["bound"]["grid"].items():
        assert {setting[name] for _, setting in chosen} == set(values)
    assert {len(problem.sizes) for problem, _ in chosen} == set(job.config["problem"]["num_blocks"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bound=unknown", "error: bound=unknown is not one of a1, a2, "),
        ("bound.grid.gamma=[3]", "error: gamma=3 is not possible: Theorem A1 needs a number in (0, 2)\n"),
        ("problem.num_blocks=[0]", "error: num_blocks=0 is not possible: it must be an integer of at least 1\n"),
        ("problem.blocks=1", "there is no option 'problem.blocks' here"),
    ],
)
def test_bad_input_gives_one_message(override: str, message: str, tmp_path: Path) -> None:
    axes = [
        name for name in ("bound=a1", "problem=quadratic") if not override.startswith(name.partition("=")[0] + "=")
    ]
    done = run_module("theory.verify", *axes, override, f"hydra.run.dir={tmp_path}")
    assert done.returncode != 0
    assert done.stderr.startswith(message) or message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bound=/bounds/a1.yaml"], "error: bound=/bounds/a1.yaml is not one of a1, a2, "),
        (["bound=a1", "problem=p=q"], "error: problem=p=q is not one of bilinear, "),
        (["records_dir=/year=2026"], "error: records_dir=/year=2026: quote the value, once more than for the shell: "),
        (["bound=a1.yaml"], "error: bound=a1.yaml is not the name of a choice; write bound=a1"),
    ],
)
def test_what_hydra_refuses_is_one_line(words: list[str], message: str) -> None:
    done = run_module("theory.verify", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1

"""The pipelines of runs/: which commands they run, in which order, and what stops them."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
STUDY = yaml.safe_load((ROOT / "conf" / "study" / "headline.yaml").read_text())
METHODS = [method.rpartition("/")[2] for method in STUDY["axes"]["method"]]
STUB = """#!/usr/bin/env bash
if [ "$1" = -c ]; then exec "$PYTHON" "$@"; fi
printf '%s\\n' "${*:2}" >> "$LOG"
case "${*:2}" in *"$FAILS"*) exit "$CODE" ;; esac
"""


@pytest.fixture
def pipeline(tmp_path):
    """pipeline(name, ...) -> exit code and commands of a script, none of which is executed."""
    stub, log = tmp_path / "stub", tmp_path / "log"
    stub.write_text(STUB)
    stub.chmod(0o755)

    def run(name: str, fails: str = "nothing", code: int = 0, **variables: str) -> tuple[int, list[str]]:
        log.write_text("")
        given = {"RUN": str(stub), "LOG": str(log), "PYTHON": sys.executable, "FAILS": fails, "CODE": str(code)}
        given |= {"EXPORTS": str(tmp_path / "exports")} | variables
        kept = {key: value for key, value in os.environ.items() if key not in ("DATA", "WORKERS")}
        done = subprocess.run([ROOT / "runs" / f"{name}.sh"], env=kept | given, cwd=tmp_path)
        return done.returncode, log.read_text().splitlines()

    return run


def test_the_ablations_run_every_study_of_the_plan(pipeline):
    code, commands = pipeline("ablations", DATA="a folder", WORKERS="20")
    assert code == 0
    assert all("workers=20 local_data=a folder" in command for command in commands)
    plan = (ROOT / "results" / "PLAN.md").read_text()
    rows = [line.split("|") for line in plan.splitlines() if re.match(r"\| \d+ \|", line)]
    studies = [name.strip() for row in rows for name in row[2].split(",")]
    assert len(studies) == len(set(studies)) == 35
    ran = re.findall(r"\w+", " ".join(command for command in commands if "experiments.train" in command))
    assert {*studies} <= {*ran}
    tuned = [command.split("study=")[1] for command in commands if "experiments.tuning" in command]
    assert sorted(tuned) == sorted(study for study in studies if study.startswith("tuning"))
    for study in studies:
        settings = yaml.safe_load((ROOT / "conf" / "study" / f"{study}.yaml").read_text())
        needed = settings.get("tuned", [])
        for needs in [needed] if isinstance(needed, str) else needed:
            chosen = next(i for i, c in enumerate(commands) if "tuning " in c and c.endswith(f"study={needs}"))
            assert chosen < next(i for i, c in enumerate(commands) if re.search(rf"train .*\b{study}\b", c)), study
    assert commands[0] == (
        "experiments.train workers=20 local_data=a folder studies=[tuning_gsm8k,tuning_variants,tuning_alpaca]"
    )


def test_without_data_the_hub_is_asked_and_one_run_goes_at_a_time(pipeline):
    _, commands = pipeline("ablations")
    assert commands[1] == "experiments.tuning workers=1 study=tuning_gsm8k"


@pytest.mark.parametrize(("fails", "code", "stops"), [("train", 1, False), ("train", 2, True), ("tuning ", 1, True)])
def test_runs_that_diverge_stop_nothing_and_other_errors_do(pipeline, fails, code, stops):
    found, commands = pipeline("ablations", fails=f"experiments.{fails}", code=code)
    assert found == (code if stops else 0)
    assert ("experiments.alone" in commands[-1]) is not stops


def test_downstream_trains_evaluates_and_compares_the_methods_of_the_headline(pipeline, tmp_path):
    (tmp_path / "exports" / "headline" / f"gsm8k-{METHODS[0]}-seed0").mkdir(parents=True)
    code, commands = pipeline("downstream", DATA="folder")
    assert code == 0
    trained = [c.split("only=gsm8k-")[1].split("-seed0")[0] for c in commands if "experiments.train" in c]
    assert trained == METHODS[1:], "what was exported is not trained again"
    evaluated = [dict(item.split("=", 1) for item in c.split()[1:]) for c in commands if "experiments.evaluate" in c]
    assert all(e["recorded_as"] == "downstream" and e["downstream.folder"] == "folder" for e in evaluated)
    assert [e["name"] for e in evaluated[: 1 + len(METHODS)]] == [f"{m}-gsm8k" for m in ("untrained", *METHODS)]
    assert all(e["about.method"] == e["name"].removesuffix("-gsm8k") for e in evaluated)
    assert all((e["about.model"], e["about.data"]) == ("smollm2_135m", "gsm8k") for e in evaluated)
    pairs = {(e["about.method"], e["before"].removesuffix("-gsm8k")) for e in evaluated[1:]}
    ours = [method for method in METHODS if method.startswith("badam")]
    assert pairs == {(m, "untrained") for m in METHODS} | {(m, other) for m in ours for other in ("lora", "adamw")}


def test_an_evaluation_that_fails_stops_the_comparisons(pipeline):
    code, commands = pipeline("downstream", fails="name=untrained", code=1)
    assert code == 1
    assert "name=untrained-gsm8k" in commands[-1]


MAKE = """#!/bin/sh
echo "make of $2: many lines"
[ "$2" != theory ] || echo "Warning: a bound is thin"
[ "$2" != "$FAILS" ] || { echo "error: $2 went wrong" >&2; exit 2; }
echo "$2 is made"
"""
STEPS = ("setup", "theory", "study", "figures", "pdf")


def paper(folder: Path, fails: str = "", shown: str = "") -> subprocess.CompletedProcess[str]:
    """runs/paper.sh with a stand-in for make."""
    (folder / "runs").mkdir()
    shutil.copy(ROOT / "runs" / "paper.sh", folder / "runs")
    (folder / "make").write_text(MAKE)
    (folder / "make").chmod(0o755)
    environment = {**os.environ, "MAKE": str(folder / "make"), "FAILS": fails, "V": shown}
    return subprocess.run([folder / "runs" / "paper.sh"], env=environment, capture_output=True, text=True, check=False)


def test_the_main_job_says_a_line_a_step_and_logs_the_rest(tmp_path):
    done = paper(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines, last = done.stdout.splitlines()
    assert first.startswith("what the steps print goes to outputs/paper.log")
    assert lines.pop(2) == "Warning: a bound is thin"
    for i, (line, step) in enumerate(zip(lines, STEPS, strict=True), 1):
        assert re.fullmatch(rf"step {i} of 5: .* \(make {step}\) \.\.\. done in \d+ s", line)
    assert last == "pdf is made"
    log = (tmp_path / "outputs" / "paper.log").read_text().splitlines()
    assert [line for line in log if "many lines" in line] == [f"make of {step}: many lines" for step in STEPS]


def test_the_main_job_ends_with_the_step_that_fails_and_shows_its_error(tmp_path):
    done = paper(tmp_path, fails="study")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].endswith("(make study) ... failed")
    assert done.stderr.splitlines() == [
        "make of study: many lines",
        "error: study went wrong",
        "error: step 3 of 5, make study, failed; all that it printed is in outputs/paper.log",
    ]
    assert "figures" not in (tmp_path / "outputs" / "paper.log").read_text()


def test_the_main_job_can_show_everything(tmp_path):
    done = paper(tmp_path, fails="figures", shown="1")
    assert done.returncode == 2
    assert "make of study: many lines" in done.stdout
    assert "error: figures went wrong" in done.stdout
    assert "make of figures: many lines" in (tmp_path / "outputs" / "paper.log").read_text()


def test_the_steps_of_the_main_job_are_targets():
    makefile = (ROOT / "Makefile").read_text()
    script = (ROOT / "runs" / "paper.sh").read_text()
    assert tuple(re.search(r"^steps=\((.*)\)$", script, re.MULTILINE)[1].split()) == STEPS
    assert set(STEPS) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert "runs/paper.sh" in makefile


RELEASE_MAKE = """#!/bin/sh
echo "$2" >> log
[ "$2" != "$FAILS" ] || { echo "error: $2 went wrong" >&2; exit 3; }
case "$2" in
  pdf) mkdir -p paper/build && echo pdf > paper/build/paper.pdf ;;
  site) mkdir -p outputs/site && echo page > outputs/site/index.html ;;
esac
"""
RELEASE_PYTHON = """#!/bin/sh
echo "$2 $3" >> log
while [ "$1" != -w ]; do shift; done
echo wheel > "$2/bcd-1-py3-none-any.whl"
"""


@pytest.fixture
def release(tmp_path, monkeypatch):
    """release(...) -> runs/release.sh in a small repository with stand-ins for make and Python."""
    for name, text in (("make", RELEASE_MAKE), ("python", RELEASE_PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "runs").mkdir()
    shutil.copy(ROOT / "runs" / "release.sh", tmp_path / "runs")
    (tmp_path / ".gitignore").write_text("log\noutputs/\npaper/build/\n")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b.c")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)

    def run(fails: str = "", dirty: str = "") -> subprocess.CompletedProcess[str]:
        given = {"MAKE": str(tmp_path / "make"), "RUN": str(tmp_path / "python"), "FAILS": fails, "DIRTY": dirty}
        script = tmp_path / "runs" / "release.sh"
        return subprocess.run([script], env=os.environ | given, capture_output=True, text=True, check=False)

    return run


def test_a_release_has_the_wheel_the_site_the_paper_and_their_checksums(release, tmp_path):
    done = release()
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "log").read_text().splitlines() == ["check", "figures", "pdf", "site", "pip wheel"]
    folder = tmp_path / "outputs" / "release"
    held = {"bcd-1-py3-none-any.whl", "paper.pdf", "site.tar.gz"}
    assert {path.name for path in folder.iterdir()} == held | {"SHA256SUMS"}
    sums = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in held}
    with tarfile.open(folder / "site.tar.gz") as archive:
        assert "site/index.html" in archive.getnames()


def test_a_release_of_changed_files_must_be_asked_for(release, tmp_path):
    (tmp_path / "new").write_text("")
    done = release()
    assert done.returncode == 2
    assert done.stderr.startswith("?? new\nerror: a release is of a commit")
    assert not (tmp_path / "log").exists(), "before any work"
    assert "with changes" in release(dirty="1").stdout


@pytest.mark.parametrize("step", ["check", "pdf", "site"])
def test_a_step_that_fails_leaves_no_release(release, tmp_path, step):
    assert release().returncode == 0
    done = release(fails=step)
    assert (done.returncode, done.stderr) == (3, f"error: {step} went wrong\n")
    assert not (tmp_path / "outputs" / "release").exists()

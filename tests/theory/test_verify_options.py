"""Options and values of theory.verify: what a number of cases means, what is refused and what is left out aloud."""

import re
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.errors import InstantiationException

import records
from tests.commands import run_module
from tests.theory.families import verified
from theory import measure, verify


@pytest.fixture(autouse=True)
def fresh_controls() -> None:
    """As in test_verify.py: controls of a patched bound must not stay."""
    measure.controls_of.cache_clear()


def sizes(*overrides: str) -> dict[str, int | None]:
    """Family -> its number of instances."""
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        return {job.problem: job.config["cases"] for job in verify.plan(list(overrides))}


@pytest.mark.slow
def test_cases_of_the_command_line_are_divided_by_the_families_that_run() -> None:
    assert sizes("bound=b3", "problem=quadratic", "cases=6") == {"quadratic": 6}
    assert sizes("bound=b3", "problems=[quadratic,plsin]", "cases=6") == {"quadratic": 3, "plsin": 3}
    assert set(sizes("bound=a3", "cases=7").values()) == {3}
    assert sizes("bound=c2", "problem=quadratic", "++cases=3") == {"quadratic": 3}, "not the least of the yaml"
    assert sizes("bound=c2", "problem=quadratic", "cases=null") == {"quadratic": None}
    assert sizes("bound=c2", "problem=quadratic", "cases=3", "bound.least.quadratic=5") == {"quadratic": 5}
    # alone a family has the record that it has in the sweep of all
    assert sizes("bound=c2", "problem=quadratic") == {"quadratic": 80}
    assert sizes("bound=c2", "problem=plsin")["plsin"] == sizes("bound=c2")["plsin"] == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tier=fast", "tier='fast' is not one of quick, full"),
        ("tier=null", "tier=None is not one of quick, full"),
        ("cases=0", "cases=0 is not possible: it must be a whole number, at least 1, or None"),
        ("cases=-3", "cases=-3 is not possible"),
        ("cases=2.5", "cases=2.5 is not possible"),
        ("cases=true", "cases=True is not possible"),
        ("cases=all", "cases='all' is not possible"),
        ("workers=0", "workers=0 is not possible"),
        ("workers=-1", "workers=-1 is not possible"),
        ("force=maybe", "force='maybe' is not one of True, False"),
        ("records_dir=null", "records_dir=None is not possible: it must be a folder"),
        ("records_dir=3", "records_dir=3 is not possible"),
        ("problems=quadratic", "problems='quadratic' is not possible: it must be a list"),
        ("problems=[]", r"problems=\[\] is not possible"),
        ("problems=[quadratics]", "problem='quadratics' is not one of bilinear, "),
        ("bounds=[b1]", r"bound=a1 and bounds=\[b1\] are not possible together"),
        ("bound.problems=[quadratics]", r"bound.problems=\['quadratics'\] is not possible"),
    ],
)
def test_options_that_are_not_possible_are_named(override: str, message: str) -> None:
    with (
        initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"),
        pytest.raises(ValueError, match=f"^{message}"),
    ):
        verify.plan(["bound=a1", override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bound.least.quadratic=-1", "least.quadratic=-1 is not possible"),
        ("+bound.least.bilinear=4", "least.bilinear=4 is not possible: the problems of the bound are quadratic, "),
        ("tiers.quick.seeds=0", "seeds=0 is not possible"),
        ("tiers.quick.epochs=0", "epochs=0 is not possible"),
        ("problem.condition=1e14", "condition=100000000000000.0 is not possible: float64 certifies it up to 1e\\+12"),
        ("problem.heterogeneity=1e14", "heterogeneity=1.*float64 certifies it up to"),
        (
            "problem.condition=1e12 problem.heterogeneity=1e4",
            "condition=.*, heterogeneity=.* is not possible: ",
        ),
        ("problem.condition=inf", "problem.condition=inf is not possible: it must be finite"),
        ("bound.grid.gamma=[0.5,nan]", "bound.grid.gamma=nan is not possible: it must be finite"),
        ("problem.coupling=[none]", "coupling='none' is not possible"),
    ],
)
def test_values_that_are_not_possible_are_named(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, InstantiationException)) as error:
        verified(tmp_path, "bound=a1", "problem=quadratic", *override.split())
    cause = error.value.__cause__ if isinstance(error.value, InstantiationException) else error.value
    assert re.match(message, str(cause)), cause
    assert not list(tmp_path.glob("theory*/*"))


def test_a_value_inside_a_group_needs_the_name_of_its_member() -> None:
    for one, needed in (("problem.condition=3", "problem"), ("+bound.grid.gamma=[1]", "bound")):
        with pytest.raises(ValueError, match=rf"{needed}=NAME: it belongs to one {needed}"):
            verify.require_named([one, "cases=3"])
        verify.require_named([one, f"{needed}=some"])
    done = run_module("theory.verify", "bound=c4", "problem.condition=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: problem.condition=3 is not possible without problem=NAME")
    assert done.stderr.count("\n") == 1


def test_a_sweep_without_an_instance_says_why(tmp_path: Path) -> None:
    for bound, problem, grid, why in (
        ("d1", "quadratic", "bound.grid.inner_steps=[40]", "all outcomes of the noise are followed, so that D K must"),
        ("d2", "plsin", "bound.grid.inner_steps=[40]", "all outcomes of the noise are followed, so that D K must"),
        ("c2", "plsin", "bound.grid.inner_steps=[40]", "all outcomes of the noise are followed, so that D K must"),
        (
            "c4",
            "finite_sum",
            "bound.grid.inner_steps=[1] problem.num_blocks=[1]",
            "D K to be a multiple of the number",
        ),
    ):
        with pytest.raises(ValueError, match=rf"^inner_steps=\[\d+\] is not possible on \w+: .*{why}"):
            verified(tmp_path, f"bound={bound}", f"problem={problem}", *grid.split())


@pytest.mark.integration
def test_values_of_the_grid_that_no_instance_has_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["bound.grid.inner_steps=[1,40]", "bound.grid.betas=[[0.9,0.999]]", "problem.num_blocks=[1]", "cases=1"]
    assert verified(tmp_path, "bound=d1", "problem=quadratic", *few) == 0
    out = capsys.readouterr().out
    assert (
        "    left out: inner_steps=40: all outcomes of the noise are followed, so that D K must be at most 6 " in out
    )
    assert "inner_steps=1:" not in out
    some = ["bounds=[a1,d3]", "problems=[quadratic,finite_sum]"]
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        assert [job.label for job in verify.plan(some)] == [("a1", "quadratic")]
    out = capsys.readouterr().out
    assert "left out: d3, whose problems are parabola" in out
    assert "left out: problem=finite_sum, to which none of a1, d3 applies" in out

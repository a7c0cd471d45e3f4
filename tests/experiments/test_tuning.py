"""Learning rates: the grid of every method, the rule that chooses, its record, and the studies that take it."""

import itertools

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments import train, tuning
from experiments.errors import UserError
from experiments.studies import estimate, overrides, runner, study
from experiments.studies import rates as tuned
from experiments.training import running
from records import ROOT, load, write
from tests.experiments.conftest import METHODS


@pytest.fixture
def small(entries):
    """small(axes, *extra, **keys) -> entries of a study with these axes on the tiny Llama."""
    return lambda axes, *extra, **keys: entries("small", axes, "steps=2", extra=extra, **keys)


# --- the grids ---


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_grid_of_the_same_size_around_its_learning_rate(method):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=[f"method={method}"])
    rates = config.learning_rates
    assert len(rates) == 5
    assert config.method.lr in rates
    assert all(2.99 < b / a < 3.34 for a, b in itertools.pairwise(rates)), "half decades"


def test_the_grid_is_no_part_of_a_run(small):
    (first,), (second,) = small({"method": ["sgd"]}), small({"method": ["sgd"]}, "learning_rates=[1.0]")
    assert first.plan.key == second.plan.key


@pytest.mark.integration
def test_the_tuning_study_covers_every_method_on_data_that_no_reported_run_sees():
    given = yaml.safe_load((ROOT / "conf/study/tuning.yaml").read_text())
    untuned = {"badam_exact", "adalomo"}  # badam where weights are float32; and one of the long studies only
    assert {*given["axes"]["method"]} == {*METHODS} - untuned
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        reported, _ = study.compose([])
        validation, _ = study.compose(given["overrides"])
        listed = study.cells(OmegaConf.create(given), [])
    assert len(listed) == 5 * len(given["axes"]["method"])
    assert all(cell["seed"] >= 1000 for cell in listed)
    distance = abs(validation.data.heldout_seed - reported.data.heldout_seed)
    assert distance >= reported.data.heldout_size
    assert abs(validation.data.heldout_seed - reported.data.train_seed) >= reported.data.train_size


@pytest.mark.slow
def test_every_method_has_an_estimated_time(small):
    seconds = {entry.name: estimate.estimated(entry) for entry in small({"method": METHODS})}
    assert all(0 < estimate < 60 for estimate in seconds.values()), seconds
    assert seconds["badam"] < seconds["adamw"]
    assert seconds["badam_all"] < seconds["adamw"], "a block of norms alone has no matrix"


# --- the rule ---


@pytest.mark.parametrize(
    ("losses", "rate", "at_edge"),
    [
        ({1e-3: [1.0], 1e-2: [0.5], 1e-1: [0.7]}, 1e-2, False),
        ({1e-2: [0.5], 1e-3: [0.5], 1e-1: [0.7]}, 1e-3, True),  # a tie goes to the smaller one
        ({1e-3: [1.0], 1e-2: [0.9], 1e-1: [None]}, 1e-2, False),
        ({1e-3: [1.0, 1.0], 1e-2: [0.1, None], 1e-1: [0.8, 0.9]}, 1e-1, True),  # a failed seed counts
        ({1e-3: [0.6, 0.8], 1e-2: [0.5, 1.0]}, 1e-3, True),  # the mean, not the best
    ],
)
def test_the_lowest_mean_loss_is_chosen(losses, rate, at_edge):
    choice = tuned.choose({"method": "x"}, losses)
    assert (choice.rate, choice.at_edge) == (rate, at_edge)
    assert [tried for tried, _ in choice.tried] == sorted(losses)
    assert all((loss is None) == (None in losses[tried]) for tried, loss in choice.tried)


def test_a_method_that_always_fails_has_no_choice():
    with pytest.raises(UserError, match=r"every learning rate of method=x has a failed run: 0\.1, 1\.0"):
        tuned.choose({"method": "x"}, {1.0: [None], 0.1: [None, 1.0]})


def test_unequal_grids_are_refused_before_any_run(small):
    axes = {"method": ["sgd", "lora"], "method.lr": {"method": {"sgd": [0.01], "lora": [0.01, 0.03]}}, "seed": [1000]}
    with pytest.raises(UserError, match="method=lora is tried at 2 learning rates and method=sgd at 1: give both as"):
        small(axes, tuning=True)


# --- beyond the edge ---


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ({1e-3: [1.0], 3e-3: [0.9], 1e-2: [0.8]}, 3e-2),
        ({3e-4: [1.0], 1e-3: [0.9], 3e-3: [0.8]}, 1e-2),
        ({1e-3: [0.7], 3e-3: [0.9], 1e-2: [None]}, 3e-4),
        ({3e-3: [0.7], 1e-2: [0.7], 3e-2: [0.8]}, 1e-3),  # a tie goes to the smaller one, which is the edge
        ({1e-3: [1.0], 3e-3: [0.9], 1e-2: [None]}, None),
        ({1e-3: [None], 3e-3: [None]}, 3e-4),
    ],
)
def test_the_next_rate_is_half_a_decade_beyond_the_best_edge(losses, rate):
    assert tuned.further(losses) == rate


@pytest.mark.parametrize("grid", [[1e-3], [1e-3, 2e-3, 4e-3], [1e-3, 1e-2]])
def test_a_grid_that_nobody_knows_to_go_on_with_is_refused(grid):
    with pytest.raises(UserError, match=r"no grid of half decades, such as .*extend: 0"):
        tuned.further({rate: [1.0] for rate in grid})


@pytest.mark.parametrize("grid", [[0.0, 3e-3], [1e-3, 1e-2]])
def test_it_is_refused_before_any_run(grid, small):
    axes = {"method": ["sgd"], "method.lr": grid, "seed": [1000]}
    with pytest.raises(UserError, match=r"no grid of half decades, such as .*extend: 0"):
        small(axes, tuning=True)
    assert len(small(axes, tuning=True, extend=0)) == 2


@pytest.fixture
def measured(monkeypatch):
    """measured(loss) lets every run of the studies end with loss(learning rate, seed) or None for a failure."""

    def set_losses(loss):
        done = {}
        monkeypatch.setattr(study.Run, "state", property(lambda run: done.get(run.place, "to do")))
        monkeypatch.setattr(study, "validation_loss", lambda run: loss(run.cell["method.lr"], run.cell["seed"]))
        return lambda runs: done.update({run.place: "finished" for run in runs})

    return set_losses


def test_a_study_grows_until_the_best_rate_is_inside(small, measured):
    axes = {"method": ["sgd"], "method.lr": [1e-3, 3e-3], "seed": [1000, 1001]}
    finish = measured(lambda rate, seed: abs(rate - 0.03) + seed)

    def listed(**keys):
        return [(run.cell["method.lr"], run.cell["seed"]) for run in small(axes, tuning=True, **keys)]

    grid = [(rate, seed) for rate in (1e-3, 3e-3) for seed in (1000, 1001)]
    assert listed() == grid, "nothing is known yet"
    finish(small(axes, tuning=True)[:3])
    assert listed() == grid, "one run is still to do"
    for most in (1e-2, 3e-2, 1e-1):
        finish(small(axes, tuning=True))
        grid += [(most, 1000), (most, 1001)]
        assert listed() == grid
    finish(small(axes, tuning=True))
    assert listed() == grid, "0.03 is inside"
    assert listed(extend=1) == grid[:6]
    assert listed(extend=0) == grid[:4]
    with pytest.raises(ValueError, match=r"extend=-1"):
        listed(extend=-1)


@pytest.mark.integration
def test_training_goes_on_beyond_the_edge_and_an_edge_is_no_choice(small, tmp_path, capsys):
    def listing():
        return small({"method": ["sgd"], "method.lr": [1e-5, 3e-5], "seed": [1000]}, tuning=True, extend=2)

    how = OmegaConf.create({"only": None, "force": True, "retry": False, "workers": 1})
    listed, records = train.execute_listed(listing(), listing, "small", how)
    assert [run.cell["method.lr"] for run in listed] == [1e-5, 3e-5, 1e-4, 3e-4]
    assert [record.name for record in records] == [run.name for run in listed]
    assert "more are tried: sgd-lr0.0001-seed1000" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"at the edge of what was tried.*: method=sgd at method\.lr=0\.0003\. Let"):
        tuning.choice_record("small", listing(), 2)
    assert tuning.choice_record("small", listing()).measurements["choices"][0]["at_edge"], "extend: 0 tells it"


# --- from runs to a record to the studies that take it ---


AXES = {"method": ["sgd", "lora"], "method.lr": "learning_rates", "seed": [1000]}
GRID = "learning_rates=[0.001,0.01]"


def test_an_axis_may_be_a_list_of_the_configuration(small):
    listed = small(AXES)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        grids = [compose("train", overrides=[f"method={name}"]).learning_rates for name in AXES["method"]]
    assert [entry.cell["method.lr"] for entry in listed] == [rate for grid in grids for rate in grid]
    assert [entry.plan.config.method.lr for entry in listed] == [entry.cell["method.lr"] for entry in listed]
    assert listed[0].plan.name == "sgd-lr0.003-seed1000"
    with pytest.raises(UserError, match="study=small has the axis seed: rates, and rates of method=sgd is no list"):
        small({"method": ["sgd"], "seed": "rates"})


def test_tuning_is_run_recorded_and_taken(small, tmp_path):
    with pytest.raises(
        UserError, match=r"learning rates of study=small are not recorded; `python -m experiments.train"
    ):
        small({"method": ["sgd"]}, tuned="small")
    with pytest.raises(UserError, match=r"4 of 4 runs of study=small are not finished, the first is sgd-lr0\.001"):
        tuning.choice_record("small", small(AXES, GRID))
    extra = overrides.extra_overrides([GRID, "how.workers=2", "how.checkpoint.every=5"])
    assert extra == [GRID], "another grid is another study"
    name = study.study_name(OmegaConf.create({"name": "small"}), extra)
    runner.execute(small(AXES, GRID), name)
    listed = small(AXES, GRID)
    record = tuning.choice_record(name, listed)
    path = write(record, tmp_path / "records")
    assert load(path) == record
    assert path == tmp_path / "records" / "tuned" / f"{name}.json"
    for choice in record.measurements["choices"]:
        losses = {
            entry.cell["method.lr"]: entry.record.measurements["after"]["heldout_loss"]
            for entry in listed
            if entry.cell["method"] == choice["cell"]["method"]
        }
        assert choice["rate"] == min(losses, key=losses.get)
        assert choice["loss"] == min(losses.values())
        assert choice["tried"] == [list(pair) for pair in sorted(losses.items())]
    assert record.measurements["runs"] == {entry.name: entry.plan.key for entry in listed}
    assert "ties go to the smaller learning rate" in record.config["rule"]
    assert "sgd" in tuning.table(record)

    taken = small({"method": ["sgd", "lora"], "seed": [0, 1]}, tuned=name)
    rates = {choice["cell"]["method"]: choice["rate"] for choice in record.measurements["choices"]}
    assert [entry.plan.config.method.lr for entry in taken] == [rates[entry.cell["method"]] for entry in taken]
    (given,) = small({"method": ["sgd"]}, "method.lr=0.5", tuned=name)
    assert given.plan.config.method.lr == 0.5, "what is given on the command line wins"
    with pytest.raises(UserError, match=f"study={name} has 0 learning rates for method=adamw"):
        small({"method": ["adamw"]}, tuned=name)
    with pytest.raises(UserError, match=r"sweeps over method\.lr, which tuned="):
        small(AXES, tuned=name)


def test_a_failed_run_is_a_result_of_tuning(small):
    axes = {"method": ["sgd"], "method.lr": [0.01, 1e30], "seed": [1000]}
    runner.execute(small(axes), "small")
    record = tuning.choice_record("small", small(axes))
    (choice,) = record.measurements["choices"]
    assert choice["rate"] == 0.01
    assert choice["tried"][1] == [1e30, None]
    assert "1e+30: failed" in tuning.table(record)


@pytest.mark.slow
def test_a_method_whose_every_rate_failed_holds_nothing_up(small, tmp_path, capsys):
    rates = {"method": {"sgd": [1e30, 1e31], "lora": [1e-3, 1e-2]}}
    axes = {"method": ["sgd", "lora"], "method.lr": rates, "seed": [1000]}
    runner.execute(small(axes), "small")
    record = tuning.choice_record("small", small(axes))
    write(record, tmp_path / "records")
    assert [choice["cell"] for choice in record.measurements["choices"]] == [{"method": "lora"}]
    assert "method=sgd  no choice: every learning rate failed" in tuning.table(record)
    assert tuning.other_failures(small(axes)) == []
    taken = small({"method": ["sgd", "lora"], "seed": [0]}, tuned=["small", "other"])
    assert [entry.name for entry in taken] == ["lora-seed0"]
    assert "sgd-seed0: left out, every learning rate of method=sgd failed in study=small" in capsys.readouterr().err
    with pytest.raises(UserError, match="every learning rate of study=small has a failed run"):
        tuning.choice_record("small", small(axes)[:2])


def test_a_failure_that_is_no_divergence_is_told(small, monkeypatch):
    def scarce(self, found, interruption):
        raise MemoryError("none left")

    monkeypatch.setattr(running.Running, "measure", scarce)
    runner.execute(small({"method": ["sgd"]}), "small")
    (line,) = tuning.other_failures(small({"method": ["sgd"]}))
    assert line == "warning: sgd counts as one that diverged, but failed otherwise: MemoryError: none left"


def test_learning_rates_of_another_model_are_refused(small, tmp_path):
    axes = {"method": ["sgd"], "method.lr": [0.01]}
    runner.execute(small(axes), "small")
    record = tuning.choice_record("small", small(axes))
    record.config["model"] = "smollm2_135m"
    write(record, tmp_path / "records")
    with pytest.raises(UserError, match="tuned for model=smollm2_135m, and this run has model=pretrained"):
        small({"method": ["sgd"]}, tuned="small")


def test_a_study_that_varies_no_learning_rate_chooses_none(small):
    runner.execute(small({"method": ["sgd"]}), "small")
    with pytest.raises(UserError, match=r"study=small has no axis method\.lr"):
        tuning.choice_record("small", small({"method": ["sgd"]}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "error: which tuning study? give study=NAME"),
        (["study=quick"], "study=quick has no axis method.lr"),
        pytest.param(["study=tuning"], "80 of 80 runs of study=tuning are not finished", marks=pytest.mark.slow),
    ],
)
def test_the_command_stops_with_one_message(overrides, message, tmp_path, command):
    done = command(tuning.main, *overrides, f"records_dir={tmp_path}")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr

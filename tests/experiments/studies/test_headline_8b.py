"""The 8B headline: listed without weights, data or network, and run to the end on a small model of the same kind."""

import json

import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import DictConfig

from experiments import hub, models, tuning
from experiments.data import source
from experiments.errors import UserError
from experiments.studies import memory, runner, show, study
from paper.judge.verdicts import judge
from paper.read.studies import HEADLINE_8B
from paper.tables import claims
from records import COMMITTED, ROOT, load_study, write
from tests.commands import run_module

GIVEN = {name: yaml.safe_load((ROOT / f"conf/study/{name}.yaml").read_text()) for name in HEADLINE_8B}
SHORT = [
    "steps=4",
    "warmup_steps=1",
    "evaluate_every=2",
    "batch_size=4",
    "inner_steps=2",
    "data.heldout_size=4",
    "execution.compiled=false",
    "device=cpu",
]


@pytest.fixture
def nothing_there(monkeypatch, tmp_path):
    """A machine without network and with an empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "unreachable", lambda: "no network")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(source, "_hub_rows", lambda *_: (_ for _ in ()).throw(UserError("no rows (no network)")))
    monkeypatch.setattr(models.Pretrained, "load", refuse)


def listed(name, *, dry, extra=(), controls=(), **changes):
    read = yaml.safe_load((ROOT / f"conf/study/{name}.yaml").read_text()) | changes
    given = read | {"overrides": [*read["overrides"], *extra]}
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return study.runs(DictConfig(given), [], list(controls), dry=dry)


@pytest.mark.usefixtures("nothing_there")
@pytest.mark.integration
def test_the_list_has_memory_and_hours_of_every_run_without_weights_data_or_network(tmp_path):
    done = run_module(
        "experiments.train",
        "study=headline_8b_card24",
        "dry=true",
        "tflops=1",
        "model.architecture.num_hidden_layers=2",
        f"records_dir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    runs = [line for line in lines if "-seed" in line]
    assert len(runs) == 20
    assert all("GB at" in line and "fits 24 GB" in line for line in runs)
    assert all(" h " in line for line in runs)
    assert "time at 1 TFLOP/s, as tflops= says" in lines
    assert any(
        "weights are not here" in line and line.endswith("sizes are those of model.architecture") for line in lines
    )
    assert any("assumed are 52002 rows, 273 tokens in the mean" in line for line in lines)
    assert len(done.stdout) < 4000, "what is absent is said once"


@pytest.mark.usefixtures("nothing_there")
@pytest.mark.integration
def test_what_is_absent_is_said_where_it_is_listed_and_refused_where_it_is_run(tmp_path):
    one = {"axes": {"method": ["badam_exact"], "seed": [0]}}
    folder = f"how.records_dir={tmp_path}"
    (run,) = listed("headline_8b", dry=True, controls=[folder, "how.dry=true", "how.tflops=400"], **one)
    assert len(run.plan.absent) == 2
    assert memory.batch(run) == (16, 1024)
    assert run.plan.workload.data.train_size == 52002 - 2 * 1040
    half = listed("headline_8b", dry=True, controls=[folder, "how.dry=true", "how.tflops=800"], **one)
    first, second = (show.estimate.estimated(each) for each in (run, *half))
    assert first == pytest.approx(2 * second)
    with pytest.raises(UserError, match="Meta-Llama-3-8B-Instruct"):
        listed(
            "headline_8b",
            dry=False,
            controls=[folder, "how.dry=false"],
            extra=["method.lr=1e-6"],
            **one | {"tuned": None},
        )
    unknown = [folder, "how.dry=true", "how.assumed.rows=null"]
    with pytest.raises(UserError, match=r"assumed.rows=... says how many there are"):
        listed("headline_8b", dry=True, controls=unknown, **one)


@pytest.mark.parametrize("value", ["card=0", "card=big", "tflops=-1", "assumed.rows=1.5"])
def test_amounts_that_are_none_are_refused(value):
    done = run_module("experiments.train", "study=quick", "dry=true", value)
    assert done.returncode == 2
    assert value.partition("=")[0] in done.stderr


@pytest.mark.integration
def test_memory_is_not_predicted_for_what_the_prediction_does_not_cover(entries):
    (run,) = entries("small", {"method": ["badam"]}, "execution.autocast=bfloat16", extra=())
    run.plan.config.how.dry, run.plan.config.how.card = True, 24
    with pytest.raises(UserError, match=r"execution\.autocast=bfloat16"):
        show.table([run])


@pytest.mark.integration
@pytest.mark.parametrize("name", HEADLINE_8B[1:])  # the other differs in options that need a GPU
def test_it_runs_to_the_end_on_a_small_model_and_the_claims_take_its_records_up(name, llama3, tmp_path):
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"Here is {i % 7}."} for i in range(300)]
    (tmp_path / "alpaca_gpt4.train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    short = [*SHORT, f"model.path={llama3}", f"data.source.local={tmp_path}"]
    controls = [f"how.records_dir={tmp_path}/records", f"how.checkpoint.folder={tmp_path}/checkpoints"]

    (tuned,) = GIVEN[name]["tuned"]
    runs = listed(tuned, dry=False, extra=short, controls=controls, extend=0)
    records = runner.execute(runs, tuned)
    assert [record.error for record in records] == [""] * len(runs)
    write(tuning.choice_record(tuned, runs), tmp_path / "records")

    axes = GIVEN[name]["axes"] | {"seed": [0, 1]}
    runs = listed(name, dry=False, extra=[*short, "data.test_size=4"], controls=controls, axes=axes)
    records = runner.execute(runs, name)
    assert [(record.status, record.error) for record in records] == [("finished", "")] * 2 * len(axes["method"])
    assert all("test" in record.measurements for record in records)

    cost = load_study("cost", kind="profile", folder=COMMITTED)
    found = {name: load_study(name, kind="train", folder=tmp_path / "records"), "cost": cost}
    judged = [each for each in judge(found) if each.study == name]
    assert [each.claim.said for each in judged] == ["lower training loss than LoRA", "better than LoRA: final loss"]
    settings = [finding.setting for each in judged for finding in each.findings]
    assert [(each.model, each.part) for each in settings if each] == [
        ("Llama 3-8B", "training loss"),
        ("Llama 3-8B", "test"),
    ]
    without, there = claims.text(cost=cost), claims.text(**found)
    assert without.count("8B: not tested") - there.count("8B: not tested") == 2
    assert there.count("Llama 3-8B") == 2

"""The headline at 8B: listed without weights and data, and run whole on a tiny model of the same architecture."""

import json

import pytest
import torch
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from experiments import hub, train, tuning
from experiments.studies import estimate, forecast, show, study
from experiments.training import planning
from records import ROOT, write

SMALL = {
    "vocab_size": 258,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def runs(name, *overrides, dry=False, shared=None):
    """The runs of a study with further overrides, under the study's own name."""
    config = OmegaConf.load(ROOT / "conf" / "study" / f"{name}.yaml")
    config.overrides = [*config.overrides, *overrides]
    config.extend = 0  # which rate is best of three steps is chance
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return study.runs(config, [], [], shared, dry=dry)


# --- the listing ---


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "unreachable", lambda: "there is no network")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.integration
@pytest.mark.parametrize("card", [pytest.param("", marks=pytest.mark.slow), "_24gb"])
def test_it_is_listed_with_memory_and_hours_where_nothing_is_there(card, offline):
    shared = planning.Shared(sketch=True)
    small = [f"model.architecture.{key}={value}" for key, value in SMALL.items()]
    eager = ["execution.compiled=false", "execution.recompute=0"]
    listed = runs(f"headline_8b{card}", *small, *eager, "device=cpu", dry=True, shared=shared)
    peaks = forecast.peaks(listed)
    assert peaks.keys() == {run.plan.form for run in listed}
    held = [run.plan.expected for run in listed]
    assert all(peaks[run.plan.form] > bytes_.weights for run, bytes_ in zip(listed, held, strict=True))
    text = show.table(listed, peaks)
    assert text.count(f"{'24' if card else '80'} GB holds it") == len(listed)
    assumed = show.assumptions(listed, shared.absent).splitlines()
    assert len(assumed) == 4
    assert assumed[0].startswith("assumed: model.path=meta-llama/Meta-Llama-3-8B-Instruct is not on this machine")
    assert "vicgalle/alpaca-gpt4" in assumed[1]
    assert assumed[2:] == [
        "assumed: 250 tokens an example (how.assumed_tokens)",
        f"assumed: {'120' if card else '400'} TFLOP/s sustained (how.tflops)",
    ]


def test_hours_follow_the_rate_and_memory_the_card(offline):
    small = [f"model.architecture.{key}={value}" for key, value in SMALL.items()]

    def first(*more):
        return runs("headline_8b", *small, "device=cpu", *more, dry=True, shared=planning.Shared(sketch=True))[0]

    slow, fast = (estimate.estimated(first(f"how.tflops={rate}")) for rate in (100, 400))
    assert slow == pytest.approx(4 * fast)
    longest = first("how.assumed_tokens=null")
    assert longest.plan.tokens_per_step == longest.plan.config.batch_size * 1024
    assert "data.max_tokens, the most" in show.assumptions([longest], [])
    run = first("how.card=2")
    assert forecast.fits(run, 10**9)
    assert not forecast.fits(run, 10**9 + 1)


def test_what_is_not_there_is_an_error_of_a_run_that_is_to_be_executed(offline):
    with pytest.raises(ValueError, match=r"cannot be had from the hub|there is no network"):
        runs("tuning_headline_8b", "device=cpu")


# --- the runs ---


@pytest.fixture
def llama3(checkpoint, tmp_path):
    """Folder of a tiny untied Llama 3."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=False, rope_parameters=rope, **ids))
    model.save_pretrained(tmp_path / "llama3")
    tokenizer.save_pretrained(tmp_path / "llama3")
    return tmp_path / "llama3"


@pytest.mark.integration
@pytest.mark.parametrize("card", [pytest.param("", marks=pytest.mark.slow), "_24gb"])
def test_it_runs_from_the_rates_to_the_records_on_a_tiny_model(card, llama3, places, tmp_path):
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"{i} it is"} for i in range(300)]
    (tmp_path / "alpaca_gpt4.train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = [item for item in places if not item.startswith("model")]
    tiny = [f"model.path={llama3}", f"how.local_data={tmp_path}", "device=cpu", *where, "execution.compiled=false"]
    tiny += ["steps=3", "warmup_steps=1", "evaluate_every=2", "data.max_tokens=256"]
    tiny += ["execution.recompute=0", "how.checkpoint.every=2"]
    how = OmegaConf.create({"only": None, "force": False, "retry": False, "workers": 1})

    def listing():
        return runs(f"tuning_headline_8b{card}", *tiny)

    listed, records = train.execute_listed(listing(), listing, "tuning", how)
    assert [record.error for record in records] == [""] * len(listed)
    record = tuning.choice_record(f"tuning_headline_8b{card}", listed)
    write(record, tmp_path / "records")
    chosen = {choice["cell"]["method"]: choice["rate"] for choice in record.measurements["choices"]}
    headline = runs(f"headline_8b{card}", *tiny)
    assert len(headline) == 3 * (2 if card else 3)
    for run in headline:
        assert run.plan.config.method.lr == chosen[run.cell["method"]]
    _, records = train.execute_listed(headline, lambda: headline, "headline", how)
    assert {record.status for record in records} == {"finished"}, [record.error for record in records]
    assert all(len(record.measurements["test"]["losses"]) > 0 for record in records)
    assert {record.config["choices"]["model"] for record in records} == {"llama3_8b"}

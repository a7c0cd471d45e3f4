"""The loss along the way: its points, and that evaluating changes nothing."""

import itertools

import pytest
import torch

from experiments.data import batches
from experiments.randomness import DATA_ORDER, stream_seed
from experiments.training import running
from experiments.training.run import Run
from experiments.training.running import execute
from tests.cover import tiered
from tests.experiments.conftest import measured, terminate

METHODS = ["badam", "lora", "adamw", "schedule_free", "bsgd"]


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("method", tiered(METHODS, ["badam", "lora"]))
def test_evaluating_along_the_way_changes_nothing(method, tiny, trained):
    _, plain = trained(method)
    record = execute(Run(tiny(f"method={method}", "evaluate_every=2"), "curve"))
    curve = record.measurements["curve"]
    assert [point["step"] for point in curve] == [0, 2, 4, 6]
    assert curve[-1]["tokens"] == record.measurements["data"]["tokens"]
    assert curve[0]["heldout_loss"] == record.measurements["before"]["heldout_loss"]
    assert curve[-1]["heldout_loss"] == record.measurements["after"]["heldout_loss"]
    assert len({point["heldout_loss"] for point in curve}) == 4
    assert plain.measurements["curve"] == []
    record.measurements["curve"] = []
    assert measured(record) == measured(plain)


def test_a_curve_survives_an_interruption(tiny, at_step):
    planned = tiny("method=badam", "evaluate_every=2")
    whole = execute(Run(planned, "whole"))
    at_step(4, terminate)
    with pytest.raises(running.Interrupted):
        execute(Run(planned, "cut"))
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 4
    assert measured(resumed) == measured(whole)


def test_a_curve_has_its_ends_once_when_the_test_part_was_interrupted(tiny, monkeypatch):
    planned = tiny("method=sgd", "evaluate_every=2", "data.test=true", "data.test_size=4")
    whole = execute(Run(planned, "whole"))
    source = type(planned.workload.data)
    real = source.load_test

    def interrupted(self, tokenizer):
        monkeypatch.setattr(source, "load_test", real)
        terminate()
        return real(self, tokenizer)

    monkeypatch.setattr(source, "load_test", interrupted)
    with pytest.raises(running.Interrupted):
        execute(Run(planned, "cut"))
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 6
    assert measured(resumed) == measured(whole)


def test_tokens_of_a_curve_are_those_trained_on(tiny):
    planned = tiny("method=sgd", "evaluate_every=1")
    record = execute(Run(planned))
    _, tokenizer = planned.workload.model.load(torch.float32)
    dataset = planned.workload.data.load(tokenizer)
    lengths = {tuple(e.prompt + e.answer): e.length for e in dataset.train}
    seed = stream_seed(planned.config.seed, DATA_ORDER)
    total = 0
    stream = itertools.islice(batches(dataset.train, 2, tokenizer.pad_token_id, seed), 6)
    for batch, point in zip(stream, record.measurements["curve"][1:], strict=True):
        for row in batch.tokens.tolist():
            total += next(n for text, n in lengths.items() if tuple(row[:n]) == text)
        assert point["tokens"] == total

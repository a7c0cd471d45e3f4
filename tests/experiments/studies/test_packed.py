"""Runs packed on a GPU: those of one process compile once."""

import pytest
import torch
from torch._dynamo.utils import counters

from bcd.execution import keep_graphs
from experiments.studies import runner, worker
from experiments.training import running
from experiments.training.run import Run
from experiments.training.running import execute


@pytest.mark.slow
def test_the_second_run_of_a_method_compiles_nothing(tiny):
    torch.compiler.reset()
    given = ["method=badam", "execution=packed", "execution.backend=aot_eager", "method.inner_steps=1"]
    planned = tiny(*given, "steps=3")  # a visit of each of the two layers, and back
    with keep_graphs():
        execute(Run(planned, "first"))
        before = counters["stats"]["unique_graphs"]
        assert before > 0
        record = execute(Run(planned, "second"))
        assert record.status == "finished", record.error
        assert counters["stats"]["unique_graphs"] == before
    execute(Run(tiny(*given, "steps=1"), "third"))
    assert counters["stats"]["unique_graphs"] > before


@pytest.mark.slow
def test_the_runs_of_one_command_compile_once(entries, monkeypatch):
    torch.compiler.reset()
    real, counts = running.execute, []

    def counted(*given, **options):
        record = real(*given, **options)
        counts.append(counters["stats"]["unique_graphs"])
        return record

    monkeypatch.setattr(worker, "execute", counted)
    options = ["execution=packed", "execution.backend=aot_eager", "method.inner_steps=1"]
    records = runner.execute(entries("small", {"seed": [0, 1]}, *options), "small")
    assert [record.status for record in records] == ["finished"] * 2
    assert counts[0] == counts[1] > 0

"""Packed rows: every example as if it were alone, the same loss and gradient, in fewer rows."""

import json

import pytest
import torch
from torch import nn

from experiments.data import IGNORED, Example, collate, collate_packed
from experiments.data.bucketing import padding_waste, rows_of
from experiments.errors import UserError
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import answer_loss, placed, require_apart

EXAMPLES = [
    Example([5, 6, 7], [8, 9, 1], bool),
    Example([10, 11], [12, 1], bool, whole=True),
    Example([20, 21, 22, 23, 24], [25, 1], bool, earlier=((1, 3),)),
    Example([], [30, 31, 1], bool),
    Example([40], [41, 42, 43, 44, 45, 46, 47, 1], bool),
]


@pytest.fixture(params=["sdpa", "eager"])
def model(request, checkpoint):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64, attn_implementation=request.param)


def test_rows_hold_every_example_once_and_no_more_than_fits():
    lengths = [3, 9, 4, 4, 1, 7, 2, 9, 5]
    rows = rows_of(lengths, 10)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 10 for row in rows)
    assert len(rows) == 5  # 44 tokens need as many
    with pytest.raises(ValueError, match="an example of 9 tokens does not fit into a row of 8"):
        rows_of(lengths, 8)
    assert padding_waste(lengths, [range(len(lengths))], 1, 10) == (44, pytest.approx(1 - 44 / 50))


def test_logits_of_a_packed_row_are_those_of_the_examples_alone(model):
    batch = collate_packed(EXAMPLES, 1, 16)
    assert len(batch.tokens) == 2
    logits = model(input_ids=batch.tokens, **placed(batch)).logits
    for row, places in enumerate(rows_of([example.length for example in EXAMPLES], 16)):
        begin = 0
        for example in (EXAMPLES[i] for i in places):
            alone = model(input_ids=torch.tensor([example.prompt + example.answer])).logits[0]
            torch.testing.assert_close(logits[row, begin : begin + example.length], alone, rtol=1e-5, atol=1e-6)
            begin += example.length
    mixed = model(input_ids=batch.tokens).logits
    assert (mixed - logits).abs().max() > 1e-3, "examples that see each other have other logits"


def test_loss_and_gradient_are_those_of_rows_of_their_own(model):
    found = []
    for batch in (collate(EXAMPLES, 1), collate_packed(EXAMPLES, 1, 16)):
        model.zero_grad()
        loss = answer_loss(model, batch)
        loss.backward()
        found.append((batch.terms, loss.detach(), [p.grad.clone() for p in model.parameters()]))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_parts_of_a_packed_batch_are_its_rows(count):
    batch = collate_packed(EXAMPLES, 1, 16)
    parts = batch.parts(count)
    assert len(parts) == min(count, 2)
    assert torch.equal(torch.cat([part.positions for part in parts]), batch.positions)
    assert sum(int((part.labels != IGNORED).sum()) for part in parts) == batch.terms


def test_a_model_that_mixes_packed_examples_is_refused(model):
    require_apart(model)

    class Mixing(nn.Module):
        """Takes positions and heeds only the order of the tokens."""

        def __init__(self, inner):
            super().__init__()
            self.inner, self.config, self.device = inner, inner.config, inner.device

        def forward(self, input_ids, position_ids=None, use_cache=True):
            return self.inner(input_ids=input_ids)

    with pytest.raises(
        UserError, match=r"data\.packing=true is not possible: in Mixing packed examples see each other"
    ):
        require_apart(Mixing(model))


@pytest.mark.integration
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["accumulation=2"],
        ["execution.loss=chunked"],
        ["execution.loss=chunked", "execution.recompute=0"],
        ["execution.compiled=true", "execution.backend=eager"],
    ],
    ids=["plain", "accumulation", "chunked", "recompute", "compiled"],
)
def test_a_packed_run_has_the_losses_of_one_that_is_not(options, tiny, tmp_path):
    rows = [{"prompt": "a" * (i % 7 + 1) + f"{i}", "completion": f"{i}"} for i in range(12)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = ["data=file", f"data.path={tmp_path / 'own.jsonl'}", "data.max_tokens=32", "evaluation=loss"]
    fixed += ["method=adamw", "data.bucket=1", "batch_size=4", "steps=3"]
    packed, plain = (execute(Run(tiny(*fixed, *options, f"data.packing={flag}"))) for flag in ("true", "false"))
    assert packed.status == plain.status == "finished", packed.error or plain.error
    losses = [record.measurements["steps"]["loss"] for record in (packed, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert packed.measurements["data"]["padding_waste"] < plain.measurements["data"]["padding_waste"]

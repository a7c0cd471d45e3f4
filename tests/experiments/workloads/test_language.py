"""The loss on answers: its definition, and the held-out loss without generation."""

import pytest
import torch

from experiments import configuration
from experiments.data import IGNORED, Example, collate
from experiments.studies import show
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import HeldOutLoss, answer_loss


def test_answer_loss_is_the_plain_loss(checkpoint):
    model, _ = configuration.build({"_target_": "experiments.models.Pretrained", "path": str(checkpoint)}).load(
        torch.float64
    )
    examples = [Example([5, 6, 7], [8, 1], bool), Example([5, 6, 7, 9, 4], [3, 3, 1], bool)]
    batch = collate(examples, pad=1)
    logits = model(input_ids=batch.tokens).logits[:, :-1]
    labels = batch.labels[:, 1:]
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(answer_loss(model, batch), plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("chunk", ["3", "null"])
@pytest.mark.parametrize("method", ["sgd", "lora"])
def test_the_loss_alone_is_that_of_the_whole_evaluation(chunk, method, tiny, trained):
    _, whole = trained(method)
    options = ["evaluation=loss", "evaluation.batch_size=3", f"evaluation.chunk={chunk}"]
    record = execute(Run(tiny(f"method={method}", *options), "loss"))
    assert set(record.measurements["after"]) == {"heldout_loss", "items"}
    for moment in ("before", "after"):
        expected = whole.measurements[moment]["heldout_loss"]
        assert record.measurements[moment]["heldout_loss"] == pytest.approx(expected, rel=1e-5)
    assert "held-out loss" in show.summary(record)


@pytest.mark.parametrize("batch_size", [2, 9])
def test_the_loss_of_each_answer_adds_up_to_that_of_all(batch_size, checkpoint):
    model, tokenizer = configuration.build(
        {"_target_": "experiments.models.Pretrained", "path": str(checkpoint)}
    ).load(torch.float64)
    answers = [[3, 3, 1], [8, 1], [4, 4, 4, 1]]
    examples = [Example([5, 6, 7, 9, 4][: 5 - i], answer, bool) for i, answer in enumerate(answers)]
    evaluation = HeldOutLoss(batch_size, chunk=2)
    losses, tokens = evaluation.each(model, tokenizer, examples)
    assert tokens == [len(answer) for answer in answers]
    for example, loss in zip(examples, losses, strict=True):
        alone = answer_loss(model, collate([example], tokenizer.pad_token_id), "sum").item()
        assert loss == pytest.approx(alone, rel=1e-12)
    whole = evaluation(model, tokenizer, examples, "")["heldout_loss"]
    assert sum(losses) / sum(tokens) == pytest.approx(whole, rel=1e-6)

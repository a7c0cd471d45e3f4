"""A model whose loss never holds the logits, beside the model's own."""

import copy

import pytest
import torch
from transformers import Trainer, TrainingArguments

from bcd.execution import Execution, chunked_loss, linear_cross_entropy
from tests.cover import tiered

RTOL = 1e-5  # same mathematics in float32


def labelled(tokens):
    labels = tokens.clone()
    labels[:, :5] = -100
    return labels


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [None, 11])
def test_a_models_loss_without_logits(count, tied, llama, tokens):
    usual, chunked = llama(tied=tied), llama(tied=tied)
    undo = chunked_loss(chunked, chunk=7)
    inputs = {"input_ids": tokens, "labels": labelled(tokens), "num_items_in_batch": count}
    output = chunked(**inputs)
    expected = usual(**inputs)
    assert output["loss"] is output.loss is output[0]
    torch.testing.assert_close(output.loss, expected.loss, rtol=RTOL, atol=0)
    output.loss.backward()
    expected.loss.backward()
    for a, b in zip(chunked.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=RTOL, atol=RTOL * b.grad.abs().max().item())
    with pytest.raises(AttributeError, match="computed without keeping logits"):
        _ = output.logits
    assert torch.equal(chunked(input_ids=tokens).logits, usual(input_ids=tokens).logits)
    assert torch.equal(chunked.eval()(**inputs).logits, usual.eval()(**inputs).logits)
    undo()
    assert torch.equal(chunked.train()(**inputs).logits, expected.logits)
    assert "forward" not in vars(chunked)


def test_positional_arguments_and_given_shifts(llama, tokens):
    usual, chunked = llama(), llama()
    chunked_loss(chunked)
    labels, mask = labelled(tokens), torch.ones_like(tokens)
    torch.testing.assert_close(
        chunked(tokens, mask, labels=labels).loss, usual(tokens, mask, labels=labels).loss, rtol=RTOL, atol=0
    )
    shifted = {"input_ids": tokens, "labels": labels, "shift_labels": labels.flip(0)}
    torch.testing.assert_close(chunked(**shifted).loss, usual(**shifted).loss, rtol=RTOL, atol=0)


def test_a_copied_model_computes_with_its_own_weights(llama, tokens):
    model = llama()
    chunked_loss(model)
    copied = copy.deepcopy(model)
    before = copied(input_ids=tokens, labels=tokens).loss
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert torch.equal(copied(input_ids=tokens, labels=tokens).loss, before)
    assert not torch.equal(model(input_ids=tokens, labels=tokens).loss, before)


class Rows(torch.utils.data.Dataset):
    """Twenty-four sequences; the first tokens of each have no label, a different number in each."""

    def __init__(self):
        self.tokens = torch.randint(0, 96, (24, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        labels = self.tokens[i].clone()
        labels[: i % 5] = -100
        return {"input_ids": self.tokens[i], "labels": labels}


@pytest.mark.integration
@pytest.mark.parametrize("accumulation", tiered([1, 2], quick=[2]))
def test_the_trainer_of_transformers_uses_it(accumulation, tmp_path, llama):
    weights, losses = [], []
    for chunked in (False, True):
        model = llama()
        if chunked:
            chunked_loss(model, chunk=16)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=3, learning_rate=1e-2, optim="sgd",
            gradient_accumulation_steps=accumulation, use_cpu=True, report_to=[], save_strategy="no",
            disable_tqdm=True, logging_strategy="no", train_sampling_strategy="sequential",
            eval_strategy="steps", eval_steps=4,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows())
        losses.append([trainer.train().training_loss, trainer.evaluate()["eval_loss"]])
        weights.append([p.detach() for p in model.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=1e-6)


def test_a_model_whose_loss_is_another_one_is_refused(llama, monkeypatch):
    model = llama()
    own = type(model).forward

    def capped(self, **given):
        output = own(self, **given)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    monkeypatch.setattr(type(model), "forward", capped)
    with pytest.raises(ValueError, match="LlamaForCausalLM is not the cross-entropy of its head"):
        chunked_loss(model)
    assert model.training
    assert model.lm_head.training


@pytest.mark.parametrize("fused", [False, True])
def test_what_the_model_hands_to_its_loss(fused, llama, tokens, monkeypatch):
    seen = []

    def recorded(*given, **options):
        seen.append(options["fused"])
        return linear_cross_entropy(*given, **options)

    model = llama()
    Execution(loss="fused" if fused else "chunked")(model)
    monkeypatch.setattr("bcd.execution.chunked.linear_cross_entropy", recorded)
    output = model(input_ids=tokens, labels=tokens)
    assert "logits" not in output
    assert seen == [fused]


def test_refusals(llama):
    with pytest.raises(TypeError, match="Linear has no get_decoder"):
        chunked_loss(torch.nn.Linear(1, 1))
    model = llama()
    chunked_loss(model)
    with pytest.raises(ValueError, match="has a chunked loss already"):
        chunked_loss(model)

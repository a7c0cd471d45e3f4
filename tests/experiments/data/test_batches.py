"""Batches, length buckets, padding and gradient accumulation."""

import hashlib
import itertools
import re
from functools import partial

import pytest
import torch

from experiments import configuration
from experiments.data import IGNORED, Example, batches, collate
from experiments.data.bucketing import groups, padding_waste, parts
from experiments.errors import UserError
from experiments.randomness import DATA_ORDER, stream_seed
from experiments.training.loop import Training
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import answer_loss
from tests.cover import tiered
from tests.experiments.conftest import KINDS, METHODS

LENGTHS = [2 + (7 * i) % 23 for i in range(26)]  # every length between 2 and 24 at least once
EXAMPLES = [Example([5 + i] * (n - 1), [1], bool) for i, n in enumerate(LENGTHS)]


@pytest.fixture
def tiny(tiny):
    """tiny(*overrides) -> the plan of a run on the tiny Llama, with batches that can be divided."""
    return partial(tiny, "steps=3", "batch_size=4", "data.train_size=20")


def test_the_default_data_are_what_they_have_always_been(tiny):
    """The digest was computed before length buckets, parts and the splits came: tokens, labels and their order."""
    from transformers import AutoTokenizer

    planned = tiny("data.train_size=240", "data.heldout_size=64")
    tokenizer = AutoTokenizer.from_pretrained(planned.workload.model.folder())
    dataset = planned.workload.data.load(tokenizer)
    total = hashlib.sha256()
    for batch in itertools.islice(batches(dataset.train, 4, tokenizer.pad_token_id, 7), 130):
        total.update(batch.tokens.numpy().tobytes() + batch.labels.numpy().tobytes())
    assert total.hexdigest() == "b54f10f25de6755618e29354357d58f1e01cb0f6bae62f4aea0d7c39fc2b0bb4"


def plain_steps(planned, count):
    """The training of the default options, written out: mean loss, backward, clip, step."""
    model, tokenizer = planned.workload.model.load(torch.float32)
    dataset = planned.workload.data.load(tokenizer)
    trainable = planned.method()(model)
    schedule = configuration.build(planned.config.schedule)(trainable.optimizer)
    stream = batches(dataset.train, 4, tokenizer.pad_token_id, stream_seed(planned.config.seed, DATA_ORDER))
    losses = []
    for batch in itertools.islice(stream, count):
        loss = answer_loss(trainable.model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable.model.parameters(), planned.config.max_grad_norm)
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("method", ["adamw", "badam", "lora"])
def test_without_accumulation_the_loop_is_the_plain_loop(method, tiny):
    planned = tiny(f"method={method}")
    record = execute(Run(planned))
    assert record.measurements["steps"]["loss"] == [float(f"{loss:.6g}") for loss in plain_steps(planned, 3)]


def test_batches_are_seeded_permutations():
    examples = [Example([i], [1], bool) for i in range(5)]
    drawn, again = (
        [batch.tokens[:, 0].tolist() for batch in itertools.islice(batches(examples, 2, 0, seed=1), 4)]
        for _ in range(2)
    )
    assert drawn == again
    for epoch in (drawn[:2], drawn[2:]):
        assert len({i for pair in epoch for i in pair}) == 4


@pytest.mark.parametrize("start", range(7))
def test_a_stream_goes_on_from_any_batch(start):
    examples = [Example([i], [1], bool) for i in range(5)]
    whole = [batch.tokens[:, 0].tolist() for batch in itertools.islice(batches(examples, 2, 0, seed=1), 10)]
    later = itertools.islice(batches(examples, 2, 0, seed=1, start=start), 10 - start)
    assert [batch.tokens[:, 0].tolist() for batch in later] == whole[start:]


# --- buckets ---


@pytest.mark.parametrize("bucket", [1, 2, 3, 100])
def test_every_epoch_has_the_same_examples_whatever_the_bucket(bucket):
    drawn = list(itertools.islice(groups(LENGTHS, 4, seed=3, bucket=bucket), 6))
    plain = list(itertools.islice(groups(LENGTHS, 4, seed=3), 6))
    assert sorted(itertools.chain(*drawn)) == sorted(itertools.chain(*plain))
    assert len(set(itertools.chain(*drawn))) == 24
    assert all(len(batch) == 4 for batch in drawn)


@pytest.mark.parametrize("bucket", [2, 3, 100])
@pytest.mark.parametrize("start", [0, 1, 5, 6, 7, 13])
def test_a_bucketed_stream_goes_on_from_any_batch(start, bucket):
    whole = list(itertools.islice(groups(LENGTHS, 4, seed=3, bucket=bucket), 20))
    later = itertools.islice(groups(LENGTHS, 4, seed=3, start=start, bucket=bucket), 20 - start)
    assert list(later) == whole[start:]


def test_a_bucket_sorts_lengths_into_batches_and_shuffles_the_batches():
    drawn = list(itertools.islice(groups(LENGTHS, 4, seed=3, bucket=6), 6))
    by_length = sorted([LENGTHS[i] for i in batch] for batch in drawn)
    assert list(itertools.chain(*by_length)) == sorted(itertools.chain(*by_length))
    widths = [max(LENGTHS[i] for i in batch) for batch in drawn]
    assert widths != sorted(widths)
    other = list(itertools.islice(groups(LENGTHS, 4, seed=4, bucket=6), 6))
    assert drawn != other


@pytest.mark.parametrize("bucket", [1, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_padding_waste_is_that_of_the_batches_that_are_made(bucket, accumulation):
    tokens, waste = padding_waste(
        LENGTHS, itertools.islice(groups(LENGTHS, 4, seed=3, bucket=bucket), 9), accumulation
    )
    made = list(itertools.islice(batches(EXAMPLES, 4, 0, seed=3, bucket=bucket), 9))
    computed = sum(part.tokens.numel() for batch in made for part in batch.parts(accumulation))
    real = sum((part.tokens != 0).sum().item() for batch in made for part in batch.parts(accumulation))
    assert tokens == real
    assert waste == pytest.approx(1 - real / computed, rel=1e-12)


def test_buckets_and_parts_waste_less():
    waste = {
        (bucket, count): padding_waste(
            LENGTHS, itertools.islice(groups(LENGTHS, 4, seed=3, bucket=bucket), 60), count
        )[1]
        for bucket in (1, 6)
        for count in (1, 2)
    }
    assert waste[6, 1] < waste[1, 1] / 3
    assert waste[1, 2] < waste[1, 1]


def test_padding_does_not_change_the_loss(checkpoint):
    model, _ = configuration.build({"_target_": "experiments.models.Pretrained", "path": str(checkpoint)}).load(
        torch.float64
    )
    examples = [Example(list(range(5, 5 + n)), list(range(9, 9 + m)), bool) for n, m in ((3, 2), (9, 1), (2, 6))]
    alone = [answer_loss(model, collate([example], 1), reduction="sum").double() for example in examples]
    together = answer_loss(model, collate(examples, 1))
    torch.testing.assert_close(together.double(), sum(alone) / 9, rtol=1e-6, atol=0)


def test_too_few_examples_are_refused_and_no_endless_loop():
    with pytest.raises(UserError, match="batch_size=4 exceeds the 3 training examples"):
        next(batches(EXAMPLES[:3], 4, 0, seed=0))


# --- accumulation ---


@pytest.mark.parametrize("count", [1, 2, 4])
def test_parts_are_the_batch(count):
    batch = collate(EXAMPLES[:4], pad=0)
    cut = batch.parts(count)
    rows = sorted(
        (row[row != 0].tolist(), label[label != IGNORED].tolist())
        for part in cut
        for row, label in zip(part.tokens, part.labels, strict=True)
    )
    assert rows == sorted((example.prompt + example.answer, example.answer) for example in EXAMPLES[:4])
    assert sum(part.terms for part in cut) == batch.terms == 4
    assert all((part.tokens[:, -1] != 0).any() for part in cut), "no part is wider than its longest example"
    assert parts([5, 1, 3, 2], 2) == [[1, 3], [2, 0]]
    with pytest.raises(ValueError, match="4 examples cannot be divided into 3 parts"):
        batch.parts(3)


def test_accumulated_gradients_are_those_of_the_whole_batch(checkpoint):
    """The answers have 1 to 5 tokens: a mean of the parts' means would be another gradient."""
    examples = [Example([5 + i] * (2 + i), [7 + i] * n + [1], bool) for i, n in enumerate((4, 0, 2, 1))]
    found = []
    for accumulation in (1, 2, 4):
        source = configuration.build({"_target_": "experiments.models.Pretrained", "path": str(checkpoint)})
        model, _ = source.load(torch.float64)
        trainable = configuration.build({"_target_": "experiments.methods.FullMethod", **SGD})(model)
        schedule = torch.optim.lr_scheduler.ConstantLR(trainable.optimizer, factor=1.0)
        training = Training(
            trainable,
            schedule,
            lambda start: batches(examples, 4, 1, 0, start),
            lambda model, batch, _: answer_loss(model, batch),
            accumulation=accumulation,
        )
        loss = training._backward(next(training._stream)).item()
        found.append((loss, [p.grad for p in model.parameters()]))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)  # the loss itself is in float32
        for gradient, whole in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(gradient, whole, rtol=1e-5, atol=1e-8)
    naive = sum(answer_loss(model, part).item() for part in collate(examples, 1).parts(2)) / 2
    assert abs(naive - found[0][0]) > 1e-3


SGD = {"optimizer": {"_target_": "torch.optim.SGD", "_partial_": True}, "lr": 0.1}


@pytest.mark.parametrize("method", tiered(METHODS, KINDS))
def test_every_method_accumulates_or_says_why_not(method, tiny):
    planned = tiny(f"method={method}", "dtype=float64")
    if planned.skeleton.backward is not torch.Tensor.backward:
        with pytest.raises(UserError, match="accumulation=2 is not possible: this method moves the weights inside"):
            execute(Run(tiny(f"method={method}", "dtype=float64", "accumulation=2")))
        return
    whole = execute(Run(planned))
    cut = execute(Run(tiny(f"method={method}", "dtype=float64", "accumulation=2")))
    if cut.status == "failed":
        assert re.search('gradient accumulation needs when="step" or a rank', cut.error)
        cut = execute(Run(tiny(f"method={method}", "dtype=float64", "accumulation=2", "method.expansion.when=step")))
        whole = execute(Run(tiny(f"method={method}", "dtype=float64", "method.expansion.when=step")))
    assert cut.status == "finished", cut.error
    losses = (record.measurements["steps"]["loss"] for record in (cut, whole))
    assert next(losses) == pytest.approx(next(losses), rel=1e-4)
    assert cut.measurements["data"]["padding_waste"] <= whole.measurements["data"]["padding_waste"]

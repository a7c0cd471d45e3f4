"""The step inside backward: the same bits, the gradients gone, and clear refusals."""

import copy

import pytest
import torch
from transformers import Trainer, TrainingArguments

from bcd import (
    SGD,
    Adam,
    AdamW,
    BlockCoordinateDescent,
    Expansion,
    Factored,
    Greedy,
    Momentum,
    RandomReshuffle,
    RowNormalised,
    Sign,
    SlidingWindow,
    by_groups,
    by_layer,
    by_matrix,
    by_ratio,
    single,
)
from bcd.execution import compile_layers, recompute_layers, step_in_backward
from bcd.memory.activations import LivePeak
from tests.cover import crossed, tiered

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def bcd(model, partition=None, **options):
    options = {"rule": Adam(), "order": RandomReshuffle(seed=1), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(partition or by_layer(model, **FREEZE), **options)


def train(model, optimizer, tokens, steps, schedule=None):
    used = []
    for _ in range(steps):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        used.append(dict(optimizer.used_lr))
        if schedule is not None:
            schedule.step()
        optimizer.zero_grad()
    return used


def state_equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(state_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(state_equal, a, b))
    return a == b


CASES = {
    "badam": {},
    "adamw with warm-up": {"rule": AdamW(weight_decay=0.1), "switch_warmup": 2},
    "sgd": {"rule": SGD()},
    "nesterov kept": {"rule": Momentum(nesterov=True), "state": "device"},
    "exact master": {"master": "host", "state": "host"},
    "sliding window": {"order": SlidingWindow(width=2)},
    "lisa": {"partition": lambda m: by_layer(m), "always_active": ["embedding"]},
    "groups": {"partition": lambda m: by_groups(m, 2, **FREEZE)},
    "matrices": {"partition": lambda m: by_matrix(m, **FREEZE), "inner_steps": 1},
    "rows": {"partition": lambda m: by_ratio(m, 3)},
    "row-normalised": {"rule": RowNormalised(weight_decay=0.1), "master": "discard"},
    "factored kept": {"rule": Factored(), "state": "device"},
    "sign on all": {"rule": Sign(), "partition": lambda m: single(m, **FREEZE)},
    "factored on all": {"rule": Factored(), "partition": lambda m: single(m, **FREEZE), "state": "device"},
}


@crossed(case=list(CASES), tied=[False, True], dtype=[torch.float32, torch.bfloat16])
def test_bitwise_the_step_after_backward(case, tied, dtype, llama, tokens):
    usual, model = llama(dtype, tied), llama(dtype, tied)
    optimizers = []
    for each in (usual, model):
        options = copy.deepcopy({k: v for k, v in CASES[case].items() if k != "partition"})
        make = CASES[case].get("partition", lambda m: by_layer(m, **FREEZE))
        optimizers.append(bcd(each, make(each), **options))
    step_in_backward(optimizers[1])
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=9) for o in optimizers]
    runs = zip((usual, model), optimizers, schedules, strict=True)
    used = [train(m, o, tokens, 9, s) for m, o, s in runs]
    assert used[0] == used[1]
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), model.parameters(), strict=True))
    assert state_equal(*(o.state_dict() for o in optimizers))


@pytest.mark.parametrize("recompute", [None, 0])
def test_gradients_are_gone_when_backward_returns(recompute, llama, tokens):
    model = llama()
    optimizer = bcd(model)
    recompute_layers(model, recompute)
    undo = step_in_backward(optimizer)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad is None for p in model.parameters())
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(optimizer.partition.blocks[optimizer.active_blocks[0]].parameters)
    optimizer.step()
    undo()
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == moved


def test_the_peak_is_lower_by_gradients(llama):
    tokens = torch.zeros(1, 2, dtype=torch.long)  # few activations beside the gradients
    peaks = []
    for inside in (False, True):
        model = llama(hidden_size=64, intermediate_size=256)
        optimizer = bcd(model, rule=SGD(foreach=False))
        if inside:
            step_in_backward(optimizer)
        with LivePeak() as live:
            train(model, optimizer, tokens, 1)
        peaks.append(live.peak)
    block = 4 * optimizer.partition.blocks[0].numel
    largest = 4 * 64 * 256
    assert peaks[0] > block
    assert peaks[1] < 3 * largest
    assert peaks[0] - peaks[1] > (block - largest) / 2


def test_resumes_exactly(llama, tokens):
    usual, first, second = llama(), llama(), llama()
    train(usual, bcd(usual), tokens, 7)
    optimizer = bcd(first)
    step_in_backward(optimizer)
    train(first, optimizer, tokens, 3)
    resumed = bcd(second, order=RandomReshuffle(seed=5))
    step_in_backward(resumed)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, resumed, tokens, 4)
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), second.parameters(), strict=True))


def arguments(tmp_path, **changes):
    settings = {
        "output_dir": str(tmp_path), "max_steps": 4, "per_device_train_batch_size": 3, "use_cpu": True,
        "report_to": [], "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "max_grad_norm": 0.0,
    }  # fmt: skip
    return TrainingArguments(**(settings | changes))


class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.tokens = torch.randint(0, 96, (24, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def trainer(model, optimizer, args):
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    return Trainer(model=model, args=args, train_dataset=Rows(), optimizers=(optimizer, schedule))


@pytest.mark.integration
def test_the_trainer_of_transformers_makes_the_same_bits(tmp_path, llama):
    weights = []
    for inside in (False, True):
        model = llama()
        optimizer = bcd(model)
        if inside:
            step_in_backward(optimizer)
        trainer(model, optimizer, arguments(tmp_path)).train()
        assert optimizer.visits_started == 3
        weights.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_accumulation_is_refused(tmp_path, llama, tokens):
    model = llama()
    optimizer = bcd(model)
    step_in_backward(optimizer)
    model(input_ids=tokens, labels=tokens).loss.backward()
    with pytest.raises(RuntimeError, match="gradients cannot be accumulated"):
        model(input_ids=tokens, labels=tokens).loss.backward()
    model = llama()
    optimizer = bcd(model)
    step_in_backward(optimizer)
    with pytest.raises(RuntimeError, match="gradients cannot be accumulated"):
        trainer(model, optimizer, arguments(tmp_path, gradient_accumulation_steps=2)).train()


def test_a_gradient_scaler_finds_nothing_to_unscale(llama, tokens):
    model = llama()
    optimizer = bcd(model)
    step_in_backward(optimizer)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(input_ids=tokens, labels=tokens).loss).backward()
    with pytest.raises(AssertionError, match="No inf checks were recorded"):
        scaler.step(optimizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": Greedy()}, "a greedy order chooses by all gradients"),
        ({"nonfinite": "skip"}, "nonfinite='skip' looks at all gradients first"),
        ({"expansion": Expansion(rule=SGD(), ratio=0.1)}, "an expansion uses gradients in its own way"),
    ],
)
def test_options_that_need_all_gradients_are_refused(options, message, llama):
    with pytest.raises(ValueError, match=message):
        step_in_backward(bcd(llama(), **options))


def test_other_optimizers_are_refused(llama):
    with pytest.raises(ValueError, match="optimizer=SGD is not possible"):
        step_in_backward(torch.optim.SGD(llama().parameters()))


@pytest.mark.integration
@pytest.mark.parametrize(
    "case", tiered(["badam", "sign on all", "factored on all", "row-normalised"], ["sign on all"])
)
def test_with_compiled_layers(case, llama, tokens):
    usual, model = llama(), llama()
    optimizers = []
    for each in (usual, model):
        options = copy.deepcopy({k: v for k, v in CASES[case].items() if k != "partition"})
        make = CASES[case].get("partition", lambda m: by_layer(m, **FREEZE))
        optimizers.append(bcd(each, make(each), **options))
        compile_layers(each, backend="aot_eager")
    step_in_backward(optimizers[1])
    for each, optimizer in zip((usual, model), optimizers, strict=True):
        train(each, optimizer, tokens, 5)
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), model.parameters(), strict=True))

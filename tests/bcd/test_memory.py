"""Predicted bytes against the live tensors, in every category."""

import contextlib

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bcd import (
    SGD,
    Adam,
    AdamW,
    BlockCoordinateDescent,
    Cyclic,
    Momentum,
    Part,
    Sign,
    SlidingWindow,
    by_groups,
    by_layer,
    by_matrix,
    by_module,
    by_ratio,
    by_regex,
    precision,
    single,
)
from bcd.activations import LivePeak, SavedTensors, cuda_allocated
from bcd.memory import (
    Bytes,
    Held,
    Phases,
    held,
    measured,
    measured_held,
    phases,
    predicted,
    scratch_bytes,
    update_bytes,
)

TOKENS = torch.tensor([[1, 2, 3, 4]])


@pytest.mark.parametrize("rule", [Adam(), SGD()])
@pytest.mark.parametrize("make", [by_layer, single])
def test_predicted_bytes_are_the_measured_peak(make, rule, decoder):
    model = decoder()
    partition = make(model)
    optimizer = BlockCoordinateDescent(partition, rule=rule, order=Cyclic(), inner_steps=2, lr=0.1)
    peak = Bytes(0, 0, 0)
    for _ in range(2 * len(partition)):
        nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
        peak = peak.peak(measured(model.parameters(), optimizer))
        optimizer.step()
        peak = peak.peak(measured(model.parameters(), optimizer))
        optimizer.zero_grad()
    visits = [block.parts for block in partition.blocks]
    expected = predicted(model.parameters(), visits, rule.state_tensors, counts_steps=rule.counts_steps)
    assert peak == expected


def test_state_of_badam_is_that_of_its_largest_block_not_of_the_model(decoder):
    model = decoder()
    blocks = [block.parts for block in by_layer(model).blocks]
    full = predicted(model.parameters(), [single(model).blocks[0].parts], 2, counts_steps=True)
    badam = predicted(model.parameters(), blocks, 2, counts_steps=True)
    assert full.state == 2 * full.weights + 4 * len(list(model.parameters()))
    assert badam.state == max(8 * sum(part.numel for part in block) + 4 * len(block) for block in blocks)
    assert badam.gradients == max(4 * sum(part.numel for part in block) for block in blocks)


def test_prediction_needs_no_memory_and_names_an_empty_request():
    with torch.device("meta"):
        model = nn.Linear(10**6, 10**6, bias=False, dtype=torch.bfloat16)
    visits = [single(model).blocks[0].parts]
    expected = Bytes(2 * 10**12, 2 * 10**12, 4 * 10**12 + 4)
    assert predicted(model.parameters(), visits, 2, counts_steps=True) == expected
    with pytest.raises(ValueError, match="visits is empty"):
        predicted(model.parameters(), [], 2, counts_steps=True)


# --- one visit, with what is kept of other visits ---

PARTITIONS = {
    "by_layer": by_layer,
    "by_module": by_module,
    "by_matrix": by_matrix,
    "by_groups": lambda model: by_groups(model, 2),
    "by_ratio": lambda model: by_ratio(model, 3),
    "by_regex": lambda model: by_regex(model, [r"layers\.[01]\..*", "head.*"], rest="train"),
}


def backward(model):
    nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()


def split_parts(optimizer):
    """The parts of the current visit, and all others."""
    active = [part for i in optimizer.active_blocks for part in optimizer.partition.blocks[i].parts]
    inactive = [i for i in range(optimizer.num_blocks) if i not in optimizer.active_blocks]
    return active, [part for i in inactive for part in optimizer.partition.blocks[i].parts]


def check_every_visit(model, optimizer):
    """After one block epoch, in the middle of each visit: what is held is what `held` says."""
    rule = optimizer.rule
    for step in range(2 * 2 * optimizer.num_blocks):
        backward(model)
        active, visited = split_parts(optimizer)
        optimizer.step()
        if step >= 2 * optimizer.num_blocks and step % 2 == 0:
            predicted = held(
                model.parameters(),
                active,
                visited,
                state_tensors=rule.state_tensors,
                counts_steps=rule.counts_steps,
                state=optimizer.state_lifetime,
                master=optimizer.master,
            )
            assert measured_held(model.parameters(), optimizer) == predicted
        optimizer.zero_grad()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("master", ["off", "discard", "host"])
@pytest.mark.parametrize("state", ["reset", "host", "device"])
@pytest.mark.parametrize("make", PARTITIONS.values(), ids=PARTITIONS)
def test_every_lifetime_holds_what_is_predicted(make, state, master, dtype, decoder):
    model = decoder().to(dtype)
    optimizer = BlockCoordinateDescent(
        make(model), rule=Adam(), order=Cyclic(), inner_steps=2, lr=1e-3, state=state, master=master
    )
    check_every_visit(model, optimizer)


@pytest.mark.parametrize("rule", [SGD(), Momentum(), Sign(), AdamW()])
def test_every_rule_holds_what_is_predicted(rule, decoder):
    model = decoder().to(torch.bfloat16)
    optimizer = BlockCoordinateDescent(
        by_layer(model), rule=rule, order=Cyclic(), inner_steps=2, lr=1e-3, state="host", master="host"
    )
    check_every_visit(model, optimizer)


@pytest.mark.parametrize("state", ["reset", "host", "device"])
def test_blocks_that_are_always_active_are_held_at_every_visit(state, decoder):
    model = decoder().to(torch.bfloat16)
    optimizer = BlockCoordinateDescent(
        by_layer(model),
        rule=Adam(),
        order=SlidingWindow(width=2),
        inner_steps=2,
        lr=1e-3,
        always_active=["embedding", "head"],
        state=state,
        master="host",
    )
    check_every_visit(model, optimizer)


def test_bytes_of_a_visit_by_hand(decoder):
    model = decoder().to(torch.bfloat16)
    blocks = by_layer(model).blocks
    layer = next(block for block in blocks if block.name == "layers.0").parts
    others = [part for block in blocks if block.name != "layers.0" for part in block.parts]
    n, rest = sum(part.numel for part in layer), sum(part.numel for part in others)
    found = held(model.parameters(), layer, others, state_tensors=2, counts_steps=True, state="host", master="host")
    assert found == Held(
        weights=2 * (n + rest),
        master=2 * n,
        gradients=2 * n,
        state=8 * n + 4 * len(layer),
        host=(8 + 2) * rest + 4 * len(others),
    )
    assert found.device == 2 * rest + (2 + 2 + 2 + 8) * n + 4 * len(layer)


def test_bytes_of_the_update(monkeypatch):
    shapes = {"a": 6, "b": 3, "c": 4}
    parts = [Part(name, torch.empty(n, dtype=torch.bfloat16)) for name, n in shapes.items()]
    assert update_bytes([parts], state_tensors=2, fused=True) == 0
    assert update_bytes([parts], state_tensors=1, fused=False) == 0
    assert update_bytes([parts], state_tensors=2, fused=False) == 2 * 13
    assert update_bytes([parts], state_tensors=2, fused=False, master="discard") == 4 * 13
    assert update_bytes([parts], state_tensors=2, fused=False, master="discard", compiled=True) == 0
    assert scratch_bytes(parts, master="host", compiled=False) == 8 * 13
    monkeypatch.setattr(precision, "CHUNK", {"cpu": 9, "cuda": 9})  # a and b together, then c
    assert update_bytes([parts], state_tensors=2, fused=False, master="host") == 4 * 9
    assert update_bytes([[part] for part in parts], state_tensors=2, fused=False, master="host") == 4 * 6
    assert scratch_bytes(parts, master="host", compiled=False) == 8 * 9
    assert scratch_bytes(parts, master="host", compiled=True) == 0
    assert scratch_bytes(parts, master="off", compiled=False) == 0
    full = [Part("x", torch.empty(5))]
    assert update_bytes([full], state_tensors=2, fused=False, master="host") == 4 * 5
    assert scratch_bytes(full, master="host", compiled=False) == 0, "float32 weights need no master"


@pytest.mark.parametrize("make", PARTITIONS.values(), ids=PARTITIONS)
def test_scratch_is_what_the_optimizer_allocates_in_its_first_step(make, decoder):
    model = decoder().to(torch.bfloat16)
    optimizer = BlockCoordinateDescent(
        make(model), rule=SGD(), order=Cyclic(), inner_steps=2, lr=1e-3, master="discard"
    )
    backward(model)
    active, _ = split_parts(optimizer)
    allocated = sum(2 * part.numel for part in active)  # the remainders
    with LivePeak() as live:
        optimizer.step()
        assert live.live == allocated + scratch_bytes(active, master="discard", compiled=False)


def test_the_peak_of_a_step_is_that_of_its_worst_phase():
    visit = Held(weights=100, master=1, gradients=10, state=20, host=1000)
    found = phases(visit, saved=30, live_peak=45, update=7)
    assert found == Phases(forward=151, backward=166, update=138)
    assert found.peak == 166
    assert phases(visit, saved=30, live_peak=45, update=7, scratch=5) == Phases(156, 171, 143)


# --- activations ---


def test_saved_tensors_by_hand():
    first, second = nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)
    x = torch.ones(7, 3)
    with SavedTensors() as saved:
        y = second(torch.tanh(first(x)))
        parameters = [first.weight, second.weight]
        # tanh's output is saved by tanh and by the second map: one storage.
        assert saved.nbytes(excluding=[*parameters, x]) == 4 * 7 * 5
        assert saved.nbytes(excluding=parameters) == 4 * (7 * 3 + 7 * 5)
        y.sum().backward()
        assert saved.nbytes() == 0, "backward frees what was saved"


@pytest.mark.parametrize("fake", [False, True])
def test_live_peak_by_hand(fake):
    with FakeTensorMode() if fake else contextlib.nullcontext():
        existing = torch.ones(100)
        with LivePeak() as live:
            a = torch.zeros(10)  # 40 bytes
            b = torch.zeros(20)  # 80 more
            view = b[:5]
            existing.add_(1)
            assert (live.live, live.peak) == (120, 120)
            del a
            assert (live.live, live.peak) == (80, 120)
            del b
            assert live.live == 80, "the view keeps the storage"
            del view
            assert (live.live, live.peak) == (0, 120)


@pytest.mark.parametrize("active", range(5))
@pytest.mark.parametrize("tied", [False, True])
def test_fake_tensors_predict_what_real_ones_save(active, tied, decoder):
    found = []
    for mode in (contextlib.nullcontext(), FakeTensorMode()):
        with mode:
            model = decoder(tied=tied)
            blocks = by_layer(model).blocks
            model.requires_grad_(False)
            for parameter in blocks[min(active, len(blocks) - 1)].parameters.values():
                parameter.requires_grad_(True)
            tokens = torch.zeros(2, 6, dtype=torch.long)
            with SavedTensors() as saved, LivePeak() as live:
                loss = model(tokens).square().mean()
                at_the_end = saved.nbytes(excluding=[*model.parameters(), tokens])
                loss.backward()
            found.append((at_the_end, live.live, live.peak))
    assert found[0] == found[1]
    assert found[0][0] > 0


class Attention(nn.Module):
    """Causal attention without projections, then a map, with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.up = nn.Linear(width, 4 * width, bias=False, dtype=torch.bfloat16)
        self.down = nn.Linear(4 * width, width, bias=False, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        split = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(split, split, split, is_causal=True)
        x = x + mixed.transpose(1, 2).flatten(2)
        return x + self.down(nn.functional.silu(self.up(x)))


@pytest.mark.gpu
@pytest.mark.parametrize("active", [0, 2, 3])
def test_the_prediction_on_fake_cpu_tensors_is_what_a_gpu_allocates(active):
    def build():
        model = nn.Sequential(*(Attention(1024, heads=8) for _ in range(4)))
        for i, layer in enumerate(model):
            layer.requires_grad_(i == active)
        return model, torch.zeros(2, 2048, 1024, dtype=torch.bfloat16)

    with FakeTensorMode():
        model, x = build()
        with LivePeak() as live:
            loss = model(x).square().mean()
            forward = live.live
            loss.backward()
    model, x = build()
    model, x = model.cuda(), x.cuda()
    model(x).square().mean().backward()
    model.zero_grad()
    assert cuda_allocated(lambda: model(x).square().mean())[0] == pytest.approx(forward, rel=0.05)
    left, peak = cuda_allocated(lambda: model(x).square().mean().backward())
    assert left == sum(2 * p.numel() for p in model[active].parameters())
    assert peak == pytest.approx(live.peak, rel=0.05)

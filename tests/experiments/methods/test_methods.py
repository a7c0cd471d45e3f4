"""Methods of libraries against what they are published to be, their memory, and their state when runs go on."""

import copy

import pytest
import torch
from torch import nn

from bcd.memory.activations import LivePeak
from experiments.methods.muon import Together
from experiments.methods.projected import ProjectedMethod
from tests.cover import tiered
from tests.experiments.methods.conftest import configured, same, steps

# --- GaLore and APOLLO: Adam on projections ---


def projected(optimizer, scaled, rank, scale=0.25, gap=2, **options):
    options = {"betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.0} | options
    return ProjectedMethod(optimizer, 1e-2, rank, gap, scale, scaled, 0, options)


def gradients_of(model, count):
    """Gradients of one matrix at fixed weights, one for each batch."""
    gradients = []
    for i in range(count):
        model.zero_grad()
        model.loss(i).backward()
        gradients.append(model.layers[1][0].weight.grad.double())
    return gradients


def adam(moments, gradient, step, betas=(0.9, 0.99), eps=1e-8):
    m, v = moments
    m.mul_(betas[0]).add_((1 - betas[0]) * gradient)
    v.mul_(betas[1]).add_((1 - betas[1]) * gradient**2)
    bias = (1 - betas[1] ** step) ** 0.5 / (1 - betas[0] ** step)
    return m / (v.sqrt() + eps), bias


@pytest.mark.parametrize("rank", [3, 16])
def test_galore_is_the_published_step(rank, small):
    galore = projected("GaLore", False, rank)(small())
    weight = galore.model.layers[1][0].weight  # 24 x 16, so G Q'
    for p in galore.model.parameters():
        p.requires_grad_(p is weight)
    gradients = gradients_of(copy.deepcopy(galore.model), 3)
    x, moments = weight.detach().double().clone(), [torch.zeros(24, rank).double() for _ in range(2)]
    for step, gradient in enumerate(gradients, 1):
        if step in (1, 2):  # the first step, and every second one
            basis = torch.linalg.svd(gradient, full_matrices=False)[2][:rank]
            basis = basis * torch.sign((basis * galore_basis(galore, weight, gradient, step)).sum(1, keepdim=True))
        move, bias = adam(moments, gradient @ basis.T, step)
        x -= 1e-2 * bias * 0.25 * (move @ basis)
        if step > 1:
            weight.grad = gradient.float()
            galore.optimizer.step()
        torch.testing.assert_close(weight.double(), x, rtol=1e-4, atol=1e-5)


def galore_basis(galore, weight, gradient, step):
    """The basis that the optimizer takes in this step (singular vectors have free signs)."""
    if step == 1:
        weight.grad = gradient.float()
        galore.optimizer.step()
        return galore.optimizer.state[weight]["ortho_matrix"].double()
    probe = copy.deepcopy(galore.optimizer.state[weight]["projector"])
    probe.project(gradient.float(), step)
    return probe.ortho_matrix.double()


def test_apollo_scales_the_whole_gradient(small):
    apollo = projected("APOLLO", True, rank=5, scale=4.0, scale_type="channel")(small())
    tall, wide = apollo.model.layers[1][0].weight, apollo.model.layers[1][2].weight  # 24 x 16 and 16 x 24
    before = {p: p.detach().double().clone() for p in (tall, wide)}
    apollo.model.loss().backward()
    apollo.optimizer.step()
    for weight, along in ((tall, 1), (wide, 0)):
        gradient, basis = weight.grad.double(), apollo.optimizer.state[weight]["ortho_matrix"].double()
        low = gradient @ basis.T if along == 1 else basis.T @ gradient
        assert low.shape == ((24, 5) if along == 1 else (5, 24))
        move, bias = adam([torch.zeros_like(low), torch.zeros_like(low)], low, 1)
        scaling = move.norm(dim=along, keepdim=True) / low.norm(dim=along, keepdim=True)
        expected = before[weight] - 1e-2 * bias * 2.0 * gradient * scaling
        torch.testing.assert_close(weight.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("global_generator_untouched")
def test_random_bases_are_of_the_seed_and_of_the_matrix(small):
    bases = []
    for seed in (0, 0, 1):
        method = configured("apollo", f"seed={seed}", "method.rank=4")(small())
        steps(method, 1)
        state = method.optimizer.state
        bases.append([state[layer[0].weight]["ortho_matrix"] for layer in method.model.layers])
    assert all(torch.equal(a, b) for a, b in zip(bases[0], bases[1], strict=True))
    assert not torch.equal(bases[0][0], bases[2][0])
    assert not torch.equal(bases[0][0], bases[0][1])


# --- everything that keeps state of its own form ---

RENEWED = {  # overrides that make new bases within a few steps
    "galore": ["method.rank=4", "method.update_proj_gap=3"],
    "apollo": ["method.rank=4", "method.update_proj_gap=3"],
    "soap": ["method.precondition_frequency=3"],
}


@pytest.mark.parametrize("name", ["galore", "apollo", "soap", "muon", "schedule_free", "lomo"])
@pytest.mark.parametrize("dtype", tiered([torch.float32, torch.bfloat16], quick=[torch.bfloat16]))
def test_a_saved_optimizer_goes_on_to_the_same_bits(name, dtype, small, tmp_path):
    whole = configured(name, *RENEWED.get(name, []))(small(dtype))
    steps(whole, 8)
    cut = configured(name, *RENEWED.get(name, []))(small(dtype))
    steps(cut, 4)
    torch.save({"model": cut.model.state_dict(), "optimizer": cut.optimizer.state_dict()}, tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    resumed = configured(name, *RENEWED.get(name, []))(small(dtype))
    resumed.model.load_state_dict(state["model"])
    resumed.optimizer.load_state_dict(state["optimizer"])
    steps(resumed, 4, start=4)
    same(resumed.model, whole.model, rtol=0, atol=0)
    assert resumed.measured().state == whole.measured().state == whole.predicted().state


@pytest.mark.parametrize("name", ["galore", "apollo", "soap", "muon", "schedule_free"])
def test_the_update_takes_what_is_predicted(name, small):
    trainable = configured(name)(small())
    steps(trainable, 2)
    trainable.backward(trainable.model.loss(2))
    trainable.clipped(1.0)
    with LivePeak() as live:
        trainable.optimizer.step()
    assert live.peak == pytest.approx(trainable.footprint.update(0), abs=64), "up to numbers of a few bytes"


# --- Muon and AdamW together ---


def test_muon_moves_the_matrices_and_adamw_the_rest(small):
    method = configured("muon")(small())
    model, plain = method.model, small()
    inside = [p for layer in plain.layers for p in layer.parameters() if p.ndim == 2]
    chosen = {id(p) for p in inside}
    options = {"lr": 1e-4, "weight_decay": 0.0}
    apart = [
        torch.optim.Muon(inside, momentum=0.95, adjust_lr_fn="match_rms_adamw", **options),
        torch.optim.AdamW([p for p in plain.parameters() if id(p) not in chosen], fused=True, **options),
    ]
    for i in range(3):
        steps(method, 1, float("inf"), start=i)
        plain.loss(i).backward()
        for optimizer in apart:
            optimizer.step()
            optimizer.zero_grad()
    same(model, plain, rtol=0, atol=0)


def test_a_schedule_reaches_every_group_of_optimizers_together(small):
    model = small()
    parts = [list(model.embed.parameters()), list(model.head.parameters())]
    together = Together(*(torch.optim.SGD(part, lr=lr) for part, lr in zip(parts, (1.0, 0.5), strict=True)))
    schedule = torch.optim.lr_scheduler.LambdaLR(together, lambda step: 0.1**step)
    model.loss().backward()
    together.step()
    schedule.step()
    assert [group["lr"] for group in together.param_groups] == [0.1, 0.05]
    assert [optimizer.param_groups[0]["lr"] for optimizer in together.optimizers] == [0.1, 0.05]


# --- schedule-free ---


def test_schedule_free_evaluates_the_average_and_goes_on_from_the_same_bits(small):
    method = configured("schedule_free", "method.lr=0.01")(small())
    steps(method, 5)
    before = copy.deepcopy(method.model)
    beta, state = 0.9, method.optimizer.state
    with method.evaluating():
        for y, x in zip(before.parameters(), method.model.parameters(), strict=True):
            average = (y - (1 - beta) * state[x]["z"]) / beta
            torch.testing.assert_close(x, average, rtol=1e-4, atol=1e-6)
        assert not torch.equal(before.embed.weight, method.model.embed.weight)
    same(method.model, before, rtol=0, atol=0)
    steps(method, 1, start=5)  # in training again


# --- refusals ---


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("galore method.rank=0", "rank=0 is not possible"),
        ("galore method.update_proj_gap=0", "update_proj_gap=0 is not possible"),
        ("apollo method.scale=-1", "scale=-1 is not possible"),
        ("apollo method.lr=-1", "lr=-1 is not possible"),
        ("soap method.precondition_frequency=0", "precondition_frequency=0 is not possible"),
        ("soap method.max_precondition_dim=x", "max_precondition_dim='x' is not possible"),
        ("muon method.lr=x", "lr='x' is not possible"),
        ("lomo method.lr=-1", "lr=-1 is not possible"),
        ("schedule_free method.lr=-1", "lr=-1 is not possible"),
        ("lora method.alpha=-1", "alpha=-1 is not possible"),
    ],
)
def test_impossible_values_are_refused(override, message):
    name, value = override.split()
    with pytest.raises(ValueError, match=message):
        configured(name, value)


@pytest.mark.parametrize("name", ["galore", "muon"])
def test_a_model_without_layers_is_refused(name):
    with pytest.raises(ValueError, match="has no ModuleList or Sequential"):
        configured(name)(nn.Linear(2, 3))

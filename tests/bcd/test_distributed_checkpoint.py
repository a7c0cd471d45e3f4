"""torch.distributed.checkpoint in one process: the optimizer's own state_dict continues exactly, why no other does."""

import copy

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from bcd import SGD, Adam, BlockCoordinateDescent, Greedy, RandomReshuffle, by_layer, by_ratio

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])
CASES = {
    "badam": {},
    "rows": {"rows": True},
    "kept on the host": {"state": "host"},
    "master": {"master": "host", "dtype": torch.bfloat16},
    "greedy, whose order has no state": {"order": Greedy},
}


# torch tells whoever saves and loads without a process group that it does so in one process.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninit:UserWarning")


def train(model, optimizer, steps):
    for _ in range(steps):
        nn.functional.cross_entropy(model(TOKENS).flatten(0, 1).float(), TOKENS.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


def made(decoder, **options):
    options = {"rule": Adam(), "order": RandomReshuffle, "inner_steps": 3, "lr": 1e-2} | options
    options["order"] = options["order"]()
    model = decoder().to(options.pop("dtype", torch.float32))
    partition = by_ratio(model, 3) if options.pop("rows", False) else by_layer(model, **FREEZE)
    return model, BlockCoordinateDescent(partition, **options)


def everything(model, optimizer):
    """All that a getter could change, copied."""
    flags = [p.requires_grad for p in model.parameters()], [p.grad for p in model.parameters()]
    return copy.deepcopy((model.state_dict(), optimizer.state_dict(), flags))


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("saved_at", [4, 6, 7])
def test_a_saved_visit_continues_bitwise(saved_at, name, decoder, tmp_path):
    model, optimizer = made(decoder, **CASES[name])
    train(model, optimizer, saved_at)  # 4 and 7: in the middle of a visit; 6: between two visits
    before = everything(model, optimizer)
    dcp.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
        checkpoint_id=tmp_path / "saved",
        no_dist=True,
    )
    assert equal(everything(model, optimizer), before), "saving changes nothing"
    train(model, optimizer, 8)
    dcp_to_torch_save(tmp_path / "saved", tmp_path / "saved.pt")
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    other, resumed = made(decoder, **CASES[name])
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    train(other, resumed, 8)
    assert equal(everything(other, resumed), everything(model, optimizer))


def test_load_into_a_new_optimizer_would_lose_the_moments_and_is_refused(decoder, tmp_path):
    model, optimizer = made(decoder)
    train(model, optimizer, 4)
    dcp.save({"optimizer": optimizer.state_dict()}, checkpoint_id=tmp_path, no_dist=True)
    _, fresh = made(decoder)
    template = {"optimizer": fresh.state_dict()}
    dcp.load(template, checkpoint_id=tmp_path, no_dist=True)
    assert not template["optimizer"]["state"]
    with pytest.raises(
        ValueError, match=r"lacks the state of the parameters \[.*torch.distributed.checkpoint.load reads"
    ):
        fresh.load_state_dict(template["optimizer"])


@pytest.mark.parametrize("options", [{}, {"rule": SGD()}, {"order": Greedy}, {"inner_steps": 1}], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_getter_changes_nothing(steps, options, decoder):
    model, optimizer = made(decoder, **options)
    train(model, optimizer, steps)
    before = everything(model, optimizer)
    got = get_optimizer_state_dict(model, optimizer)
    assert equal(everything(model, optimizer), before)
    assert "visit" not in got, "and so it cannot be continued from"


def test_the_setter_is_refused_because_the_visit_is_lost(decoder):
    model, optimizer = made(decoder)
    train(model, optimizer, 4)
    got = get_optimizer_state_dict(model, optimizer)
    before = everything(model, optimizer)
    with pytest.raises(ValueError, match="no 'visit' entry"):
        set_optimizer_state_dict(model, optimizer, got)
    assert equal(everything(model, optimizer), before)
    # A new optimizer is at another block, and the helper wants moments for what requires gradients at the moment.
    other, fresh = made(decoder)
    assert fresh.active_blocks != optimizer.active_blocks
    with pytest.raises(RuntimeError, match="Missing optimizer state for parameter"):
        set_optimizer_state_dict(other, fresh, got)


def test_a_step_with_lr_zero_counts_unless_its_gradients_are_zero_too(decoder):
    model, optimizer = made(decoder, lr=0.0)
    train(model, optimizer, 1)
    assert optimizer.steps_in_visit == 1
    for parameter in optimizer.active_parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert optimizer.steps_in_visit == 1

"""A saved optimizer goes on to the same bits, and a foreign state is refused."""

import copy

import pytest
import torch
from torch import nn

from bcd import (
    SGD,
    Adam,
    BlockCoordinateDescent,
    Cyclic,
    Descending,
    Factored,
    Fixed,
    Greedy,
    Momentum,
    RandomReshuffle,
    SlidingWindow,
    Uniform,
    by_layer,
    by_ratio,
)
from tests.bcd.conftest import FREEZE, bcd, train

RESUMED = {
    "badam": {"order": RandomReshuffle},
    "sgd": {"rule": SGD(), "order": Descending},
    "momentum kept on the host": {"rule": Momentum(), "state": "host", "order": lambda: Uniform(count=2)},
    "nesterov kept": {"rule": Momentum(nesterov=True), "state": "device", "order": lambda: SlidingWindow(2)},
    "master": {"master": "discard", "dtype": torch.bfloat16},
    "master kept": {"master": "host", "dtype": torch.bfloat16, "order": lambda: Fixed([2, [0, 1]])},
    "greedy": {"order": Greedy},
    "lisa": {"order": lambda: Uniform(count=2), "always_active": ["layers.1"]},
    "rows": {"rows": True, "state": "host"},
    "factored kept": {"rule": Factored(), "state": "host", "master": "host", "dtype": torch.bfloat16},
}


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("saved_at", [0, 1, 3, 6, 7])
def test_resume_is_bitwise(saved_at, name, decoder, tmp_path):
    def make():
        options = {"rule": Adam(), "order": Cyclic, "inner_steps": 3, "lr": 1e-2} | RESUMED[name]
        options["order"] = options["order"]()
        model = decoder().to(options.pop("dtype", torch.float32))
        partition = by_ratio(model, 3) if options.pop("rows", False) else by_layer(model, **FREEZE)
        return model, BlockCoordinateDescent(partition, **options)

    model, optimizer = make()
    train(model, optimizer, saved_at)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    train(model, optimizer, 11)
    other, resumed = make()
    train(other, resumed, 2)  # whatever it did before is replaced
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    train(other, resumed, 11)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert resumed.active_blocks == optimizer.active_blocks
    assert resumed.visits_started == optimizer.visits_started


def test_foreign_states_are_refused_and_nothing_changes(decoder):
    model = decoder()
    optimizer = bcd(model)
    train(model, optimizer, 1)
    before = copy.deepcopy(optimizer.state_dict())
    other = BlockCoordinateDescent(by_layer(decoder()), rule=Adam(), order=Cyclic(), inner_steps=2, lr=0.1)
    wider = decoder()
    wider.layers[1].mlp[0] = nn.Linear(4, 9)
    refused = {
        r"another partition: it has the blocks \['embedding', 'final_norm', 'head'\], here are \[\]": other,
        r"other parameters, shapes or rows in \['layers.1'\]": bcd(wider),
        "inner_steps=5, here it is 2": bcd(decoder(), inner_steps=5),
        "rule='SGD', here it is 'Adam'": bcd(decoder(), rule=SGD()),
        "order='Descending', here it is 'Cyclic'": bcd(decoder(), order=Descending()),
        "master='host', here it is 'off'": bcd(decoder(), master="host"),
    }
    for message, foreign in refused.items():
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(foreign.state_dict())
    with pytest.raises(ValueError, match="not saved by BlockCoordinateDescent"):
        optimizer.load_state_dict(torch.optim.SGD(decoder().parameters(), lr=0.1).state_dict())
    after = optimizer.state_dict()
    assert after["visit"] == before["visit"]
    assert after["param_groups"] == before["param_groups"]
    assert all(torch.equal(after["state"][i]["exp_avg"], s["exp_avg"]) for i, s in before["state"].items())

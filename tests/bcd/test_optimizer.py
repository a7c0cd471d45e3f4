import copy

import pytest
import torch
from torch import nn

from bcd import (
    SGD,
    Adam,
    AdamW,
    Block,
    BlockCoordinateDescent,
    Cyclic,
    Descending,
    Fixed,
    Greedy,
    Momentum,
    Partition,
    RandomReshuffle,
    Sign,
    SlidingWindow,
    Uniform,
    by_layer,
    by_ratio,
    minimise,
    precision,
    single,
)
from tests.bcd.conftest import round_half_up
from tests.conftest import RTOL

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])


def loss_of(model):
    return nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten())


def train(model, optimizer, steps):
    for _ in range(steps):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def bcd(model, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), **settings)


# --- reductions ---


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("path", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize(
    ("rule", "full", "options"),
    [
        (Adam, torch.optim.Adam, {"eps": 1e-6, "betas": (0.8, 0.95)}),
        (AdamW, torch.optim.AdamW, {}),
        (SGD, torch.optim.SGD, {}),
        (Momentum, torch.optim.SGD, {"momentum": 0.9}),
        (Momentum, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_one_block_is_the_full_optimizer_bitwise(rule, full, options, path, decay, decoder):
    ours, theirs = decoder(), decoder()
    settings = {**options, **path, "weight_decay": decay}
    optimizer = BlockCoordinateDescent(single(ours), rule=rule(**settings), order=Cyclic(), inner_steps=100, lr=1e-2)
    train(ours, optimizer, 20)
    train(theirs, full(theirs.parameters(), lr=1e-2, **settings), 20)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_sign_moves_every_weight_with_a_gradient_by_lr(decoder):
    model = decoder()
    optimizer = BlockCoordinateDescent(single(model), rule=Sign(), order=Cyclic(), inner_steps=9, lr=0.25)
    before = weights(model)
    loss_of(model).backward()
    signs = {name: p.grad.sign() for name, p in model.named_parameters()}
    optimizer.step()
    assert all(torch.equal(p, before[name] - 0.25 * signs[name]) for name, p in model.named_parameters())


def test_always_active_everything_but_one_block_trains_all_in_one_visit(decoder):
    ours, theirs = decoder(), decoder()
    partition = by_layer(ours)
    others = [block.name for block in partition.blocks[1:]]
    optimizer = BlockCoordinateDescent(
        partition, rule=Adam(), order=Cyclic(), inner_steps=100, lr=1e-2, always_active=others
    )
    train(ours, optimizer, 10)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2), 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_always_active_everything_but_two_is_full_training_without_the_block_that_is_never_drawn(decoder):
    ours, theirs = decoder(), decoder()
    partition = by_layer(ours)
    others = [block.name for block in partition.blocks if block.name not in ("layers.0", "layers.2")]
    optimizer = BlockCoordinateDescent(
        partition, rule=Adam(), order=Fixed([1]), inner_steps=100, lr=1e-2, always_active=others
    )
    train(ours, optimizer, 10)
    theirs.layers[0].requires_grad_(False)
    train(theirs, torch.optim.Adam([p for p in theirs.parameters() if p.requires_grad], lr=1e-2), 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    start = decoder().layers[0].state_dict()
    assert all(torch.equal(value, start[name]) for name, value in ours.layers[0].state_dict().items())


def test_rows_of_one_part_are_the_full_optimizer_bitwise(decoder):
    ours, theirs = decoder(), decoder()
    optimizer = BlockCoordinateDescent(by_ratio(ours, 1), rule=Adam(), order=Cyclic(), inner_steps=100, lr=1e-2)
    train(ours, optimizer, 10)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2), 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_cyclic_sgd_with_exact_steps_is_block_gauss_seidel():
    # With scalar blocks and step 1 / A_ii, one step minimises over the block: Gauss-Seidel for A x = b.
    A = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]], dtype=torch.float64)
    b = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    steps = minimise(
        lambda x: torch.cat(list(x)) @ A @ torch.cat(list(x)) / 2 - b @ torch.cat(list(x)),
        [torch.zeros(1, dtype=torch.float64)] * 3,
        rule=SGD(),
        order=Cyclic(),
        inner_steps=1,
        lr=(1 / A.diagonal()).tolist(),
        visits=30,
    )
    x = torch.zeros(3, dtype=torch.float64)
    for t, step in enumerate(steps):
        i = t % 3
        x[i] = (b[i] - A[i] @ x + A[i, i] * x[i]) / A[i, i]
        torch.testing.assert_close(torch.cat(step.after), x, rtol=RTOL["float64 against the reference"], atol=1e-15)
    torch.testing.assert_close(A @ x, b, rtol=1e-9, atol=1e-12)


# --- visits ---


def test_every_visit_lasts_k_steps_the_first_included(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=3)
    active = []
    for _ in range(12):
        active.append(optimizer.active_blocks[0])
        train(model, optimizer, 1)
    assert active == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]


def test_only_the_active_block_moves_and_only_it_holds_gradients_and_state(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2, order=RandomReshuffle(seed=1))
    for _ in range(8):
        before = weights(model)
        own = set(optimizer.partition.blocks[optimizer.active_blocks[0]].parameters)
        loss_of(model).backward()
        assert {name for name, p in model.named_parameters() if p.grad is not None} == own
        optimizer.step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
        assert moved == own
        optimizer.zero_grad()
        assert {id(p) for p in optimizer.state} <= {id(p) for p in optimizer.active_parameters}


def test_a_switch_drops_gradients_and_state(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2)
    loss_of(model).backward()
    optimizer.step()
    assert len(optimizer.state) == len(optimizer.partition.blocks[0].parameters)
    loss_of(model).backward()  # accumulates on top of the gradients that were not cleared
    optimizer.step()
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())


def test_autograd_stops_at_the_active_block(decoder):
    model = decoder()
    bcd(model, order=Cyclic())
    hidden = {}
    for i, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda module, args, output, i=i: hidden.__setitem__(i, output.requires_grad))
    optimizer = bcd(model)
    optimizer._end_visit()
    optimizer._start_visit((1,))
    loss_of(model)
    assert hidden == {0: False, 1: True, 2: True}


def test_an_order_may_draw_several_blocks(decoder):
    class Pairs(Cyclic):
        def next_visit(self, num_blocks):
            (i,) = super().next_visit(num_blocks)
            return (i, (i + 1) % num_blocks)

    model = decoder()
    optimizer = bcd(model, order=Pairs(), inner_steps=1)
    before = weights(model)
    train(model, optimizer, 1)
    moved = {name.split(".")[1] for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {"0", "1"}
    assert optimizer.active_blocks == (1, 2)


def test_closure_gives_the_same_steps_as_a_plain_loop(decoder):
    plain, closed = decoder(), decoder()
    train(plain, bcd(plain), 7)
    optimizer = bcd(closed)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(closed)
        loss.backward()
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(7)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), closed.parameters(), strict=True))


def test_learning_rate_of_each_block_and_schedulers(decoder):
    model = decoder()
    optimizer = bcd(model, rule=SGD(), lr=[0.1, 0.0, 0.1], inner_steps=1)
    before = weights(model)
    train(model, optimizer, 3)
    moved = {name.split(".")[1] for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {"0", "2"}
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    train(model, optimizer, 1)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.0, 0.05]


def test_weight_decay_of_a_block_can_be_overridden(decoder):
    model = decoder()
    optimizer = bcd(model, rule=SGD(weight_decay=0.5), lr=0.1, inner_steps=1)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    for p in optimizer.active_parameters:
        p.grad = torch.zeros_like(p)
    before = weights(model)
    optimizer.step()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    for p in optimizer.active_parameters:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(model.layers[1].attention.weight, before["layers.1.attention.weight"] * 0.95)


def test_lisa_is_a_cell_of_partition_order_and_rule(decoder):
    model = decoder(layers=4)
    optimizer = BlockCoordinateDescent(
        by_layer(model, final_norm="freeze"),
        rule=AdamW(),
        order=Uniform(count=2, seed=0),
        inner_steps=2,
        lr=1e-2,
        always_active=["embedding", "head"],
    )
    for _ in range(3):
        before = weights(model)
        active = {optimizer.partition.blocks[i].name for i in optimizer.active_blocks}
        assert {"embedding", "head"} < active
        assert len(active) == 4
        train(model, optimizer, 2)
        moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
        own = {n for block in optimizer.partition.blocks if block.name in active for n in block.parameters}
        assert moved == own
    assert optimizer.state[model.embed.weight]["step"] == 6, "the state of what is always active is never reset"


def test_greedy_takes_the_block_with_the_largest_gradient(decoder):
    model, probe = decoder(), decoder()
    optimizer = bcd(model, order=Greedy(), inner_steps=2)
    for visit in range(4):
        probe.load_state_dict(model.state_dict())
        probe.zero_grad()
        loss_of(probe).backward()
        norms = [sum(p.grad.square().sum() for p in layer.parameters()) for layer in probe.layers]
        before = weights(model)
        train(model, optimizer, 2)
        moved = {int(name.split(".")[1]) for name, p in model.named_parameters() if not torch.equal(before[name], p)}
        assert moved == {max(range(3), key=lambda i: norms[i])}
        assert optimizer.full_backwards == visit + 1


def test_rows_of_every_tensor_move_and_no_others(decoder):
    model = decoder()
    partition = by_ratio(model, 2, **FREEZE)
    optimizer = BlockCoordinateDescent(partition, rule=Adam(), order=Cyclic(), inner_steps=2, lr=1e-2)
    for block in partition.blocks:
        before = weights(model)
        loss_of(model).backward()
        optimizer.step()
        held = sum(t.numel() for v in optimizer.state.values() for rows in v.values() for t in rows.values())
        assert held == sum(2 * part.numel + 1 for part in block.parts)
        optimizer.zero_grad()
        train(model, optimizer, 1)
        for part in block.parts:
            moved = (part.parameter != before[part.name]).reshape(part.parameter.shape[0], -1).any(dim=1)
            assert moved.nonzero().flatten().tolist() == list(range(*part.rows))


@pytest.mark.parametrize("lifetime", ["reset", "host", "device"])
def test_lifetime_of_state(lifetime, decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2, state=lifetime)
    train(model, optimizer, 6)  # a whole block epoch
    weight = model.layers[0].attention.weight
    loss_of(model).backward()
    optimizer.step()
    assert optimizer.state[weight]["step"] == (1 if lifetime == "reset" else 3)
    assert len(optimizer.state) == (10 if lifetime == "reset" else 30)


def test_kept_state_with_one_block_visited_again_is_full_adam(decoder):
    ours, theirs = decoder(), decoder()
    optimizer = BlockCoordinateDescent(single(ours), rule=Adam(), order=Cyclic(), inner_steps=3, lr=1e-2, state="host")
    train(ours, optimizer, 10)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2), 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("rule", [Adam(), SGD(), Momentum()])
@pytest.mark.parametrize("master", ["discard", "host"])
def test_master_is_a_float32_master_with_the_same_rounding(master, rule, decoder):
    model, plain = decoder().bfloat16(), decoder().bfloat16()
    optimizer = bcd(model, rule=rule, inner_steps=3, lr=1e-3, master=master)
    full: dict[str, torch.Tensor] = {}  # the plain float32 masters
    states: dict[str, dict] = {}
    for step in range(18):
        if step % 3 == 0:
            layer = f"layers.{step // 3 % 3}."
            states = {}
            for name, p in plain.named_parameters():
                if name.startswith(layer) and (master == "discard" or name not in full):
                    full[name] = p.detach().float()
        plain.zero_grad()
        loss_of(plain).backward()
        with torch.no_grad():
            for name, p in plain.named_parameters():
                if name.startswith(layer):
                    (state,) = [states.setdefault(name, rule.init([full[name]])[0])]
                    rule.update([full[name]], [p.grad.float()], [state], 1e-3, rule.hyperparameters())
                    p.copy_(round_half_up(full[name]))
        train(model, optimizer, 1)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)), step
    kept = [v["remainder"] for v in optimizer.state.values() if "remainder" in v]
    assert len(kept) == (30 if master == "host" else 0)
    assert all(r.dtype == torch.int16 for r in kept)


def test_bytes_with_a_master_are_twelve_a_weight(decoder):
    model = decoder().bfloat16()
    optimizer = bcd(model, inner_steps=3, master="discard")
    loss_of(model).backward()
    optimizer.step()
    numel = optimizer.partition.blocks[0].numel
    state = sum(t.numel() * t.element_size() for v in optimizer.state.values() for t in v.values())
    assert state == numel * (4 + 4 + 2) + 4 * 10  # m, v, remainder, and a step counter a tensor; weights are 2 more
    train(model, optimizer, 2)
    assert not optimizer.state, "freed at the switch"


def test_small_steps_are_lost_without_a_master_and_kept_with_one():
    def unchanged(**options):
        weight = (torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
        parameter = nn.Parameter(weight)
        optimizer = BlockCoordinateDescent(
            Partition((Block("w", {"w": parameter}),), {}, {}),
            rule=Sign(), order=Cyclic(), inner_steps=100, lr=1e-6, track_unchanged=True, **options,
        )  # fmt: skip
        for _ in range(100):
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        return optimizer.unchanged["w"]

    # A step of 1e-6 is below half the spacing of bfloat16 numbers around 0.02, so the sum of 100 steps never arrives.
    assert unchanged() > 0.9
    assert unchanged(master="discard") < 0.2


def test_a_master_works_in_chunks(decoder, monkeypatch):
    whole, pieces = decoder().bfloat16(), decoder().bfloat16()
    train(whole, bcd(whole, master="host"), 7)
    monkeypatch.setitem(precision.CHUNK, "cpu", 20)
    train(pieces, bcd(pieces, master="host"), 7)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), pieces.parameters(), strict=True))


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_nonfinite_gradients(nonfinite, decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=3, nonfinite=nonfinite)
    train(model, optimizer, 1)
    before = weights(model)
    loss_of(model).backward()
    model.layers[0].attention.bias.grad[0] = float("nan")
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=r"layers.0.attention.bias in block 'layers.0' is not finite"):
            optimizer.step()
    else:
        optimizer.step()
        assert optimizer.skipped_steps == 1
        assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert optimizer.steps_in_visit == 1, "a skipped step is none of the visit's K"


def test_warm_up_after_a_switch(decoder):
    warm, plain = decoder(), decoder()
    train(warm, bcd(warm, rule=SGD(), lr=0.1, inner_steps=4, switch_warmup=2), 3)
    optimizer = bcd(plain, rule=SGD(), lr=0.1, inner_steps=4)
    for factor in (0.5, 1.0, 1.0):
        optimizer.param_groups[0]["lr"] = 0.1 * factor
        train(plain, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(warm.parameters(), plain.parameters(), strict=True))


def test_accumulated_gradients_count_as_one_step_and_do_not_leak(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2)
    for _ in range(4):
        for _ in range(3):
            (loss_of(model) / 3).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer.visits_started == 3
    loss_of(model).backward()
    assert {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None} == {"2"}


def test_gradients_from_before_are_cleared(decoder):
    model = decoder()
    loss_of(model).backward()
    bcd(model)
    assert all(p.grad is None for p in model.parameters())


def test_a_copy_with_its_model_goes_on_alike(decoder):
    model = decoder()
    optimizer = bcd(model, order=RandomReshuffle(seed=1), inner_steps=3)
    train(model, optimizer, 4)
    other, copied = copy.deepcopy((model, optimizer))
    train(model, optimizer, 7)
    train(other, copied, 7)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_grad_scaler_with_float32_weights(decoder):
    scaled, plain = decoder(), decoder()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = bcd(scaled)
    for _ in range(5):
        scaler.scale(loss_of(scaled)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    train(plain, bcd(plain), 5)
    for a, b in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL["same mathematics in float32"], atol=1e-7)


# --- resume ---


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


# --- refusals ---


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5"])
def test_impossible_inner_steps(value, decoder):
    with pytest.raises(ValueError, match=rf"inner_steps={value!r} is not possible"):
        bcd(decoder(), inner_steps=value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr=-0.1 is not possible"),
        ({"lr": float("nan")}, "lr=nan is not possible"),
        ({"lr": float("inf")}, "lr=inf is not possible"),
        ({"lr": [0.1, 0.2]}, "got 2 learning rates for 3 blocks"),
        ({"lr": "fast"}, "lr='fast' is not possible: give one number, or a list with one a block"),
        ({"state": "disk"}, "state='disk' is not one of reset, host, device"),
        ({"master": "yes"}, "master='yes' is not one of off, discard, host"),
        ({"nonfinite": "hope"}, "nonfinite='hope' is not one of ignore, skip, raise"),
        ({"switch_warmup": -1}, "switch_warmup=-1 is not possible"),
        ({"always_active": ["layer.0"]}, r"always_active=\['layer.0'\] names no block; there are layers.0, layers.1"),
        ({"always_active": ["layers.0", "layers.1", "layers.2"]}, "the order has none to draw"),
    ],
)
def test_impossible_options(options, message, decoder):
    with pytest.raises(ValueError, match=message):
        bcd(decoder(), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(betas=(1.0, 0.999)), "beta1=1.0 is not possible: it must be a number, at least 0 and below 1"),
        (lambda: Adam(betas=(0.9, -0.1)), "beta2=-0.1 is not possible"),
        (lambda: Adam(eps=-1.0), "eps=-1.0 is not possible"),
        (lambda: Adam(weight_decay=-1.0), "weight_decay=-1.0 is not possible"),
        (lambda: SGD(weight_decay=float("nan")), "weight_decay=nan is not possible"),
        (lambda: SGD(weight_decay="much"), "weight_decay='much' is not possible: it must be a number"),
        (lambda: Momentum(momentum=1.0), "momentum=1.0 is not possible"),
        (lambda: Momentum(momentum=0.0, nesterov=True), "nesterov=True needs a positive momentum"),
        (lambda: Sign(weight_decay=-1.0), "weight_decay=-1.0 is not possible"),
    ],
)
def test_impossible_hyperparameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_orders_must_give_possible_visits(decoder):
    class Bad(Cyclic):
        def next_visit(self, num_blocks):
            return (num_blocks,)

    with pytest.raises(ValueError, match=r"the order gave the visit \(3,\)"):
        bcd(decoder(), order=Bad())


def test_groups_cannot_be_added(decoder):
    with pytest.raises(ValueError, match="build a new Partition"):
        bcd(decoder()).add_param_group({"params": [nn.Parameter(torch.zeros(1))]})


def test_minimise_refuses_what_a_trajectory_cannot_show():
    class Both(Cyclic):
        def next_visit(self, num_blocks):
            return (0, 1)

    start = [torch.zeros(1), torch.zeros(1)]
    options = {"rule": SGD(), "inner_steps": 1, "lr": 0.1}
    with pytest.raises(ValueError, match="one block a visit"):
        minimise(lambda x: x[0].sum(), start, order=Both(), visits=1, **options)
    with pytest.raises(ValueError, match="visits=0"):
        minimise(lambda x: x[0].sum(), start, order=Cyclic(), visits=0, **options)


def test_a_partition_by_hand(decoder):
    model = nn.Linear(2, 2)
    partition = Partition((Block("weight", {"weight": model.weight}),), {"bias": model.bias}, {})
    partition.check_covers(model)
    BlockCoordinateDescent(partition, rule=SGD(), order=Cyclic(), inner_steps=1, lr=0.1)
    assert not model.bias.requires_grad

"""Landscape expansion: inactive blocks move cheaply in the backward pass of the active one."""

import copy
import io

import pytest
import torch
from torch import nn

from bcd import (
    SGD,
    Adam,
    BlockCoordinateDescent,
    Cyclic,
    Descending,
    Expansion,
    Factored,
    Fixed,
    Greedy,
    Momentum,
    Orthogonalised,
    RowNormalised,
    Sign,
    by_layer,
    by_ratio,
)
from bcd.memory.activations import LivePeak

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])
WAYS = {
    "sgd": Expansion(ratio=0.5),
    "sign above": Expansion(Sign(), ratio=0.1, reach="above"),
    "in backward": Expansion(ratio=0.5, when="backward"),
    "low rank, sgd": Expansion(SGD(), rank=2, seed=3),
    "low rank, adam": Expansion(Adam(), ratio=0.1, rank=2, max_norm=1.0),
    "factored": Expansion(Factored(), ratio=0.1),
    "factored above, in backward": Expansion(Factored(), lr=1e-3, reach="above", when="backward"),
    "row-normalised": Expansion(RowNormalised(weight_decay=0.1), lr=2e-3),
}


def bcd(model, expansion, **options):
    options = {"rule": Adam(), "order": Cyclic(), "inner_steps": 3, "lr": 1e-2} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), expansion=expansion, **options)


def backward(model, rows=slice(None), weight=1.0):
    tokens = TOKENS[rows]
    (weight * nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())).backward()


def train(model, optimizer, steps):
    for _ in range(steps):
        backward(model)
        optimizer.step()
        optimizer.zero_grad()


def layers(model):
    return {name: p for name, p in model.named_parameters() if name.startswith("layers.")}


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_with_sgd_everywhere_it_is_sgd(decoder):
    """The reduction: blocks, visits and expansion together are the full optimizer where all steps are alike."""
    ours, theirs = decoder(), decoder()
    optimizer = bcd(ours, Expansion(), rule=SGD())
    full = torch.optim.SGD(layers(theirs).values(), lr=1e-2)
    train(ours, optimizer, 10)
    train(theirs, full, 10)
    assert optimizer.visits_started == 4
    assert equal(ours, theirs)


@pytest.mark.parametrize("when", ["step", "backward"])
def test_the_active_block_moves_by_its_rule_and_the_others_by_sgd(when, decoder):
    model, plain = decoder(), decoder()
    optimizer = bcd(model, Expansion(ratio=0.5, when=when))
    active = {n: p for n, p in layers(plain).items() if n.startswith("layers.0.")}
    inactive = {n: p for n, p in layers(plain).items() if n not in active}
    peers = torch.optim.Adam(active.values(), lr=1e-2), torch.optim.SGD(inactive.values(), lr=0.5 * 1e-2)
    for _ in range(3):
        train(model, optimizer, 1)
        plain.zero_grad()
        backward(plain)
        for peer in peers:
            peer.step()
    assert equal(model, plain)


@pytest.mark.parametrize("way", ["in backward", "low rank, sgd"])
def test_consumed_gradients_are_freed_inside_backward(way, decoder):
    model = decoder()
    optimizer = bcd(model, WAYS[way])
    backward(model)
    assert set(map(id, optimizer.active_parameters)) == {id(p) for p in model.parameters() if p.grad is not None}
    held = {n for n, p in model.named_parameters() if p.grad is not None}
    matrices_only = "rank" in way
    assert held == {n for n, p in layers(model).items() if n.startswith("layers.0.")}
    moving = {n for n, p in layers(model).items() if p.requires_grad and not n.startswith("layers.0.")}
    assert moving == {
        n for n, p in layers(model).items()
        if not n.startswith("layers.0.") and (not matrices_only or (p.ndim == 2 and p.shape[0] > 2))
    }  # fmt: skip


def test_the_low_rank_step_is_the_gradient_step_of_the_factor(decoder):
    model, plain = decoder(), decoder()
    optimizer = bcd(model, WAYS["low rank, sgd"])
    train(model, optimizer, 1)
    backward(plain)
    changed = 0
    for (name, p), q in zip(layers(model).items(), layers(plain).values(), strict=True):
        if name.startswith("layers.0.") or p.ndim != 2 or p.shape[0] <= 2:
            continue
        change = p.detach() - q.detach()
        assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 2
        # -lr P P'g, a projection of the gradient: the inner product of the two is the change's own square over lr.
        torch.testing.assert_close(-(change * q.grad).sum() * 1e-2, change.square().sum(), rtol=1e-3, atol=1e-12)
        changed += bool(change.any())
    assert changed > 0


@pytest.mark.parametrize("way", ["sgd", "sign above", "low rank, sgd", "low rank, adam", "factored", "row-normalised"])
def test_accumulated_gradients_move_it_as_the_whole_batch_does(way, decoder):
    whole, halves = decoder().double(), decoder().double()
    one, two = bcd(whole, WAYS[way]), bcd(halves, WAYS[way])
    for _ in range(7):
        train(whole, one, 1)
        before = {n: p.detach().clone() for n, p in halves.named_parameters()}
        backward(halves, slice(0, 1), 0.5)
        assert all(torch.equal(p, before[n]) for n, p in halves.named_parameters()), "a half moved something"
        backward(halves, slice(1, 2), 0.5)
        two.step()
        two.zero_grad()
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # projected gradients are summed in float32


def test_accumulation_is_refused_where_backward_moves(decoder):
    model = decoder()
    optimizer = bcd(model, WAYS["in backward"])
    backward(model)
    with pytest.raises(RuntimeError, match=r"a second backward before step\(\) reached layers.*accumulation needs"):
        backward(model)
    assert optimizer.steps_in_visit == 0


@pytest.mark.parametrize("when", ["step", "backward"])
@pytest.mark.parametrize("reach", ["all", "above"])
@pytest.mark.parametrize("rule", [Factored(weight_decay=0.1), RowNormalised(), Sign()], ids=str)
def test_inactive_blocks_keep_a_small_state_for_the_whole_run(rule, reach, when, decoder):
    """Against a loop that moves each tensor by hand: the active layer by a fresh Adam, the others by the rule."""
    model, plain = decoder(), decoder()
    visits = [1, 0, 2, 1, 0]
    optimizer = bcd(model, Expansion(rule, ratio=0.2, reach=reach, when=when), order=Fixed(visits), inner_steps=2)
    kept = {}
    for active in visits:
        mine = [p for n, p in layers(plain).items() if n.startswith(f"layers.{active}.")]
        adam = torch.optim.Adam(mine, lr=1e-2)
        for _ in range(2):
            train(model, optimizer, 1)
            plain.zero_grad()
            backward(plain)
            adam.step()
            for name, p in layers(plain).items():
                layer = int(name.split(".")[1])
                if layer == active or (reach == "above" and layer < active):
                    continue
                state = kept.setdefault(name, rule.init([p.detach()])[0])
                rule.update([p.detach()], [p.grad], [state], 0.2 * 1e-2, rule.hyperparameters())
    assert equal(model, plain)
    names = [list(block.parameters) for block in optimizer.partition.blocks]
    found = {names[int(key.split(".")[0])][int(key.split(".")[1])]: v for key, v in optimizer.expansion_state.items()}
    stateful = {name: state for name, state in kept.items() if state}
    assert found.keys() == stateful.keys()
    for name, state in stateful.items():
        assert all(torch.equal(found[name][entry], value) for entry, value in state.items())
    assert bool(found) == isinstance(rule, Factored)


def test_an_absolute_rate_follows_the_schedule_of_each_block(decoder):
    def moved(expansion, factor, lrs):
        model, start = decoder(), decoder()
        optimizer = bcd(model, expansion, order=Fixed([0]), lr=lrs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: factor)
        train(model, optimizer, 1)
        schedule.step()
        last = {n: (p - layers(start)[n]).abs().max().item() for n, p in layers(model).items()}
        return last["layers.1.mlp.0.weight"], last["layers.2.mlp.0.weight"]

    sign = {"rule": Sign(), "reach": "above"}
    assert moved(Expansion(lr=1e-3, **sign), 0.5, [1e-2, 3e-2, 0.5]) == pytest.approx((5e-4, 5e-4), rel=1e-3)
    assert moved(Expansion(ratio=0.1, **sign), 0.5, [1e-2, 3e-2, 0.5]) == pytest.approx((1.5e-3, 2.5e-2), rel=1e-3)
    assert moved(Expansion(**sign), 1.0, [1e-2, 3e-2, 0.5]) == pytest.approx((3e-2, 0.5), rel=1e-3)


def test_the_start_of_an_absolute_rate_is_saved(decoder):
    model = decoder()
    optimizer = bcd(model, Expansion(Sign(), lr=1e-3))
    for group in optimizer.param_groups:
        group["lr"] /= 4
    other = decoder()
    resumed = bcd(other, Expansion(Sign(), lr=1e-3), lr=0.7)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(other, resumed, 1)
    change = layers(other)["layers.2.mlp.0.weight"] - layers(model)["layers.2.mlp.0.weight"]
    torch.testing.assert_close(change.abs(), torch.full_like(change, 2.5e-4), rtol=1e-3, atol=0)


@pytest.mark.parametrize("when", ["step", "backward"])
@pytest.mark.parametrize("reach", ["all", "above"])
def test_backward_reaches_no_layer_below_the_active_one(reach, when, decoder):
    model = decoder(layers=5)
    optimizer = bcd(model, Expansion(Sign(), ratio=0.1, reach=reach, when=when), order=Descending(), inner_steps=1)
    ran = []

    def watch(index, output):
        if output.requires_grad:
            output.register_hook(lambda _: ran.append(index))

    for index, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda _, args, output, index=index: watch(index, output))
    for active in (4, 3, 2, 1, 0):
        ran.clear()
        assert optimizer.active_blocks == (active,)
        train(model, optimizer, 1)
        assert ran == list(range(4, (active if reach == "above" else 0) - 1, -1))


def test_in_backward_one_gradient_at_a_time_is_held():
    peaks = {}
    for when in ("step", "backward"):
        model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(12)))
        optimizer = BlockCoordinateDescent(
            by_layer(model), rule=SGD(), order=Fixed([0]), inner_steps=99, lr=1e-3,
            expansion=Expansion(Factored(), ratio=0.1, when=when),
        )  # fmt: skip
        with LivePeak() as live:
            model(torch.ones(1, 64)).sum().backward()
        peaks[when] = live.peak
        assert optimizer.active_parameters[0].grad is not None
    matrix = 4 * 64 * 64
    assert peaks["step"] > 12 * matrix
    assert peaks["backward"] < 4 * matrix, "one gradient with what its step takes, and the active one"


def test_clipping_the_active_gradients_leaves_the_others(decoder):
    model, plain = decoder(), decoder()
    optimizer = bcd(model, Expansion(), rule=SGD())
    for each in (model, plain):
        backward(each)
    nn.utils.clip_grad_norm_(optimizer.active_parameters, 1e-3)
    active = [p for n, p in layers(plain).items() if n.startswith("layers.0.")]
    nn.utils.clip_grad_norm_(active, 1e-3)
    for p, q in zip(layers(model).values(), layers(plain).values(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_clipping_in_backward_reaches_the_active_gradients_alone(decoder):
    one, two = decoder(), decoder()
    norms = []
    for model, parameters in ((one, one.parameters()), (two, None)):
        optimizer = bcd(model, Expansion(ratio=0.5, when="backward"))
        backward(model)
        norms.append(nn.utils.clip_grad_norm_(parameters or optimizer.active_parameters, 1e-3))
        optimizer.step()
    assert norms[0] == norms[1]
    assert equal(one, two)


def test_clipping_together_and_alone(decoder):
    model, plain = decoder(), decoder()
    optimizer = bcd(model, Expansion(), rule=SGD())
    full = torch.optim.SGD(layers(plain).values(), lr=1e-2)
    for net, stepper in ((model, optimizer), (plain, full)):
        backward(net)
        nn.utils.clip_grad_norm_(layers(net).values(), 1e-3)
        stepper.step()
    assert equal(model, plain)
    start, clipped = decoder(), decoder()
    train(clipped, bcd(clipped, Expansion(SGD(), rank=2, max_norm=1e-3)), 1)
    moved = [
        (p - q).square().sum()
        for (n, p), q in zip(layers(clipped).items(), layers(start).values(), strict=True)
        if not n.startswith("layers.0.")
    ]
    assert torch.stack(moved).sum().sqrt().item() == pytest.approx(1e-2 * 1e-3, rel=2e-2)  # float32 weights round it


def table(sparse):
    """An embedding and a linear map, each a block."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Embedding(5, 3, sparse=sparse)), nn.Sequential(nn.Linear(3, 2)))


def test_a_sparse_gradient_is_clipped_as_a_dense_one():
    norms, weights = [], []
    for sparse in (False, True):
        model = table(sparse)
        optimizer = BlockCoordinateDescent(by_layer(model), rule=SGD(), order=Cyclic(), inner_steps=3, lr=1.0)
        model(torch.tensor([1, 2, 2])).square().sum().backward()  # row 2 twice
        norms.append(optimizer.clip_grad_norm_(0.1).item())
        optimizer.step()
        weights.append(model[0][0].weight.detach())
    assert norms[1] == pytest.approx(norms[0])
    assert norms[0] > 0.1
    torch.testing.assert_close(weights[1], weights[0])


@pytest.mark.parametrize("when", ["step", "backward"])
@pytest.mark.parametrize("rule", [Factored(), RowNormalised(), Orthogonalised()])
def test_a_sparse_gradient_that_a_rule_of_whole_tensors_would_get_is_refused(rule, when):
    model, order = table(sparse=True), Fixed([(1,)])
    expansion = Expansion(rule, when=when)
    optimizer = BlockCoordinateDescent(
        by_layer(model), rule=SGD(), order=order, inner_steps=3, lr=1.0, expansion=expansion
    )

    def step():
        model(torch.tensor([1, 2, 2])).square().sum().backward()
        optimizer.step()

    with pytest.raises(ValueError, match=rf"gradient of 0\.0\.weight is sparse, which {type(rule).__name__} in"):
        step()


def test_above_leaves_the_blocks_below_alone(decoder):
    model, start = decoder(), decoder()
    optimizer = bcd(model, Expansion(reach="above"), order=Cyclic(), inner_steps=1)
    train(model, optimizer, 1)  # block 0: all others are above
    assert all(not torch.equal(p, q) for p, q in zip(layers(model).values(), layers(start).values(), strict=True))
    before = copy.deepcopy(model)
    train(model, optimizer, 1)
    same = {n for n, p in layers(model).items() if torch.equal(p, layers(before)[n])}
    assert same == {n for n in layers(model) if n.startswith("layers.0.")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("saved", [1, 3, 5])
def test_resume_is_exact(way, saved, decoder):
    model = decoder()
    optimizer = bcd(model, WAYS[way])
    train(model, optimizer, saved)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(model, optimizer, 6)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = decoder()
    other.load_state_dict(state["model"])
    resumed = bcd(other, WAYS[way])
    resumed.load_state_dict(state["optimizer"])
    train(other, resumed, 6)
    assert equal(model, other)


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_optimizer_goes_on_as_the_first(way, decoder):
    model = decoder()
    optimizer = bcd(model, WAYS[way])
    train(model, optimizer, 2)
    twin, again = copy.deepcopy((model, optimizer))
    train(model, optimizer, 5)
    train(twin, again, 5)
    assert equal(model, twin)


def test_an_optimizer_that_is_gone_moves_nothing(decoder):
    model = decoder()
    bcd(model, WAYS["in backward"])  # nobody holds it
    for p in layers(model).values():
        p.requires_grad_(True)
    before = copy.deepcopy(model)
    backward(model)
    assert equal(model, before)


@pytest.mark.parametrize("way", ["sgd", "low rank, adam"])
def test_a_gradient_that_is_not_finite_in_an_inactive_block_skips_the_step(way, decoder):
    model, start = decoder(), decoder()
    optimizer = bcd(model, WAYS[way], nonfinite="skip")
    (name, weight) = next((n, p) for n, p in layers(model).items() if n.startswith("layers.2.") and p.ndim == 2)
    hook = weight.register_hook(lambda g: g * float("nan"))
    train(model, optimizer, 1)
    assert optimizer.skipped_steps == 1
    assert equal(model, start)
    hook.remove()
    train(model, optimizer, 1)
    assert not torch.equal(weight, dict(start.named_parameters())[name])


def test_rows_move_at_the_step(decoder):
    ours, theirs = decoder(), decoder()
    optimizer = BlockCoordinateDescent(
        by_ratio(ours, 3, **FREEZE), rule=SGD(), order=Cyclic(), inner_steps=2, lr=1e-2, expansion=Expansion()
    )
    train(ours, optimizer, 7)
    train(theirs, torch.optim.SGD(layers(theirs).values(), lr=1e-2), 7)
    assert equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: Expansion(ratio=-1.0), "ratio=-1.0 is not possible"),
        (lambda m: Expansion(lr=-1.0), "lr=-1.0 is not possible"),
        (lambda m: Expansion(ratio=0.5, lr=1e-3), "ratio=0.5 with lr=0.001 is not possible: give one step size"),
        (
            lambda m: bcd(m, Expansion(Sign(), lr=1e-3), lr=[1e-3, 0.0, 1e-3]),
            "lr=0.001 of the expansion follows .* which is 0 for 'layers.1'; give a ratio",
        ),
        (
            lambda m: BlockCoordinateDescent(
                by_ratio(m, 2), rule=Adam(), order=Cyclic(), inner_steps=1, lr=0.1, expansion=Expansion(Factored())
            ),
            r"rule=Factored\(.* is not possible with rows 0:3 of embed.weight in block 'part 0 of 2'",
        ),
        (lambda m: Expansion(rank=0), "rank=0 is not possible: it must be a whole number, at least 1, or None"),
        (lambda m: Expansion(reach="below"), "reach='below' is not one of all, above"),
        (lambda m: Expansion(when="later"), "when='later' is not one of step, backward"),
        (lambda m: Expansion(Momentum()), r"rule=Momentum\(.*would keep state for inactive weights; give a rank"),
        (lambda m: Expansion(max_norm=1.0), "max_norm=1.0 clips projected gradients, and there is no rank"),
        (lambda m: bcd(m, Expansion(), order=Greedy()), "not possible with a greedy order"),
        (lambda m: bcd(m, Expansion(when="backward"), nonfinite="skip"), "nonfinite='skip' cannot take back"),
        (
            lambda m: BlockCoordinateDescent(
                by_ratio(m, 2), rule=Adam(), order=Cyclic(), inner_steps=1, lr=0.1, expansion=Expansion(rank=1)
            ),
            "a partition by rows has active and inactive rows in one gradient",
        ),
    ],
)
def test_impossible_expansions_are_refused(make, message, decoder):
    with pytest.raises(ValueError, match=message):
        make(decoder())


def test_a_state_with_another_expansion_is_refused(decoder):
    state = bcd(decoder(), Expansion()).state_dict()
    with pytest.raises(ValueError, match="expansion="):
        bcd(decoder(), None).load_state_dict(state)

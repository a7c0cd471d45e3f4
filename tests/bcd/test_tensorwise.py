"""Rules whose step depends on more than one weight: row-normalised and factored, in every way to train with them."""

import pytest
import torch
from torch import nn

from bcd import (
    Block,
    BlockCoordinateDescent,
    Cyclic,
    Factored,
    Orthogonalised,
    Partition,
    RowNormalised,
    by_layer,
    by_ratio,
    single,
)
from bcd.precision import join
from tests.bcd.conftest import FREEZE, bcd, loss_of, train, weights

RULES = [RowNormalised(), Factored(), Orthogonalised()]
BY_NAME = {"ids": lambda rule: type(rule).__name__}


def rms(tensor, dim=None):
    return tensor.square().mean(dim).sqrt()


def partition_of(**parameters):
    return Partition((Block("all", parameters),), {}, {})


def optimizer_of(rule, **parameters):
    return BlockCoordinateDescent(partition_of(**parameters), rule=rule, order=Cyclic(), inner_steps=99, lr=0.1)


def random(*shape, seed=0, scale=1.0, dtype=torch.float32):
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_every_row_moves_by_lr_and_a_row_of_zeros_stays(scale):
    matrix, stack, vector, number = (nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (2, 3, 4), (4,), ()))
    optimizer = optimizer_of(RowNormalised(), matrix=matrix, stack=stack, vector=vector, number=number)
    for p in (matrix, stack, vector, number):
        p.grad = random(*p.shape, scale=scale)
    matrix.grad[1] = 0
    optimizer.step()
    torch.testing.assert_close(rms(matrix.detach(), 1), torch.tensor([0.1, 0.0, 0.1]))
    torch.testing.assert_close(rms(stack.detach().flatten(1), 1), torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(rms(vector.detach()), torch.tensor(0.1))
    assert abs(number.item()) == pytest.approx(0.1)
    for p in (matrix, stack, vector):
        assert torch.equal(p.sign(), -p.grad.sign())


@pytest.mark.parametrize("rule", RULES, **BY_NAME)
def test_zero_gradients_and_empty_tensors_move_nothing(rule):
    shapes = {"matrix": (3, 5), "vector": (4,), "none": (0,), "no_rows": (0, 3), "no_columns": (3, 0)}
    parameters = {name: nn.Parameter(random(*shape)) for name, shape in shapes.items()}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = optimizer_of(rule, **parameters)
    for _ in range(2):
        for p in parameters.values():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())


def test_a_number_that_is_not_finite_stays_in_its_row():
    weight = nn.Parameter(torch.zeros(2, 3))
    optimizer = optimizer_of(RowNormalised(), weight=weight)
    weight.grad = torch.tensor([[1.0, float("nan"), 1.0], [1.0, 1.0, 1.0]])
    optimizer.step()
    assert weight[0].isnan().any(), "it is not hidden"
    torch.testing.assert_close(weight[1].detach(), torch.full((3,), -0.1))


def test_factored_is_torchs_adafactor_where_its_step_is_not_relative():
    """torch's step is lr max(eps2, RMS(x)) while lr < 1/sqrt(k): lr itself with eps2 = 1 and small weights."""
    ours, theirs = ([nn.Parameter(1e-2 * random(*s).double()) for s in ((6, 4), (2, 3, 5), (7,))] for _ in range(2))
    optimizer = optimizer_of(Factored(weight_decay=0.2), **{f"p{i}": p for i, p in enumerate(ours)})
    peer = torch.optim.Adafactor(theirs, lr=0.1, eps=(None, 1.0), d=1.0, weight_decay=0.2)
    for step in range(7):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            p.grad = random(*p.shape, seed=10 * step + i).double()
            q.grad = p.grad.clone()
        optimizer.step()
        peer.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
        assert {n: v.shape for n, v in optimizer.state[p].items()} == {n: v.shape for n, v in peer.state[q].items()}


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 5, 5)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_orthogonalised_step_keeps_directions_and_evens_their_sizes(shape, scale):
    weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = optimizer_of(Orthogonalised(), weight=weight)
    weight.grad = random(*shape, scale=scale).double()
    optimizer.step()
    step = -weight.detach() / (0.1 * max(shape[-2:]) ** 0.5)
    u, s, vh = torch.linalg.svd(weight.grad, full_matrices=False)
    sizes = u.mT @ step @ vh.mT  # diagonal: the step has the gradient's singular vectors
    assert (sizes - torch.diag_embed(sizes.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-9
    seen = sizes.diagonal(dim1=-2, dim2=-1)[s > 0.05 * s.amax(-1, keepdim=True)]
    assert 0.65 < seen.min() <= seen.max() < 1.25
    assert rms(weight.detach()).item() == pytest.approx(0.1, rel=0.35)


def test_the_orthogonalised_step_is_that_of_muon_without_momentum():
    """torch's has products in bfloat16."""
    ours, theirs = (nn.Parameter(random(12, 8)) for _ in range(2))
    optimizer = optimizer_of(Orthogonalised(weight_decay=0.1), weight=ours)
    peer = torch.optim.Muon(
        [theirs], lr=0.1, weight_decay=0.1, momentum=0.0, nesterov=False, adjust_lr_fn="match_rms_adamw"
    )
    start = ours.detach().clone()
    ours.grad, theirs.grad = random(12, 8, seed=5), random(12, 8, seed=5)
    optimizer.step()
    peer.step()
    decayed = start * (1 - 0.1 * 0.1)
    one, other = 0.2 * (ours.detach() - decayed), theirs.detach() - decayed
    assert (one - other).norm() < 0.03 * other.norm()


def test_an_update_is_bounded_by_one():
    weight = nn.Parameter(torch.zeros(8, 8))
    optimizer = optimizer_of(Factored(), weight=weight)
    for step in range(5):
        before = weight.detach().clone()
        weight.grad = random(8, 8, seed=step, scale=10.0**step)
        optimizer.step()
        assert rms(weight.detach() - before).item() <= 0.1 * 1.0001


@pytest.mark.parametrize("rule", RULES, **BY_NAME)
@pytest.mark.parametrize("master", ["discard", "host"])
def test_an_exact_master_moves_as_float32_weights_do(rule, master):
    start = random(6, 4, dtype=torch.bfloat16)
    exact, single_precision = nn.Parameter(start.clone()), nn.Parameter(start.float())
    one = BlockCoordinateDescent(
        partition_of(weight=exact), rule=rule, order=Cyclic(), inner_steps=99, lr=1e-3, master=master
    )
    two = optimizer_of(rule, weight=single_precision)
    two.param_groups[0]["lr"] = 1e-3
    for step in range(5):
        exact.grad = random(6, 4, seed=step, dtype=torch.bfloat16)
        single_precision.grad = exact.grad.float()
        one.step()
        two.step()
    assert torch.equal(join(exact.detach(), one.state[exact]["remainder"]), single_precision.detach())
    assert not torch.equal(exact, start)


@pytest.mark.parametrize("rule", RULES, **BY_NAME)
@pytest.mark.parametrize("state", ["reset", "host", "device"])
@pytest.mark.parametrize("master", ["off", "discard", "host"])
def test_blocks_are_trained_with_bfloat16_weights(rule, state, master, decoder):
    model = decoder().to(torch.bfloat16)
    optimizer = bcd(model, rule=rule, state=state, master=master)
    before = weights(model)
    train(model, optimizer, 6)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {f"layers.{i}.mlp.0.weight" for i in range(3)} <= moved
    held = [value for values in optimizer.state.values() for name, value in values.items() if name != "remainder"]
    assert all(value.dtype == torch.float32 for value in held)
    assert bool(held) == (state != "reset" and isinstance(rule, Factored))


def test_without_blocks_the_second_moment_goes_on_over_visits(decoder):
    """The reduction: one block whose state is kept is the rule on all weights, by hand."""
    model, plain = decoder(), decoder()
    optimizer = BlockCoordinateDescent(
        single(model, **FREEZE), rule=Factored(), order=Cyclic(), inner_steps=2, lr=1e-2, state="device"
    )
    inside = [p for name, p in plain.named_parameters() if name.startswith("layers.")]
    states = Factored().init([p.detach() for p in inside])
    for _ in range(7):
        train(model, optimizer, 1)
        plain.zero_grad()
        loss_of(plain).backward()
        gradients = [p.grad for p in inside]
        Factored().update([p.detach() for p in inside], gradients, states, 1e-2, Factored().hyperparameters())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))
    assert {float(state["step"]) for state in optimizer.state.values()} == {7.0}


def test_rows_of_a_matrix_are_normalised_alone_as_in_the_whole(decoder):
    """The reduction: where each block has all rows once, blocks of rows are the whole matrix."""

    def matrix():
        return nn.Linear(5, 6, bias=False)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = matrix()
    rows = matrix()
    rows.load_state_dict(whole.state_dict())
    gradient = random(6, 5)
    for model, partition, steps in ((whole, single(whole), 1), (rows, by_ratio(rows, 3), 3)):
        optimizer = BlockCoordinateDescent(partition, rule=RowNormalised(), order=Cyclic(), inner_steps=1, lr=0.1)
        for _ in range(steps):
            model.weight.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(whole.weight, rows.weight)


@pytest.mark.parametrize("rule", RULES, **BY_NAME)
def test_parts_that_are_not_the_whole_are_refused(rule, decoder):
    place = r"rows 0:\d of layers.0.attention.(bias|weight) in block 'part 0 of 2'"
    with pytest.raises(ValueError, match=rf"rule={type(rule).__name__}\(.* is not possible with {place}.*by_layer"):
        BlockCoordinateDescent(by_ratio(decoder(), 2, **FREEZE), rule=rule, order=Cyclic(), inner_steps=1, lr=0.1)
    with pytest.raises(ValueError, match=r"compiled=True is not possible with rule=.*it needs a formula"):
        BlockCoordinateDescent(by_layer(decoder()), rule=rule, order=Cyclic(), inner_steps=1, lr=0.1, compiled=True)


def test_complex_weights_have_rows_and_nothing_else():
    weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
    for rule in RULES:
        optimizer = optimizer_of(rule, weight=weight)
        weight.grad = torch.tensor([[3 - 4j, 0], [0, 0]], dtype=torch.complex64)
        if not isinstance(rule, RowNormalised):
            with pytest.raises(ValueError, match=r"a weight is complex, .* use Adam\(\) or Sign\(\)"):
                optimizer.step()
        else:
            optimizer.step()
            assert weight[0, 0].item() == pytest.approx(-0.1 * 2**0.5 * (3 - 4j) / 5)
            assert not weight[1].detach().any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RowNormalised(weight_decay=-1.0), "weight_decay=-1.0 is not possible"),
        (lambda: Factored(weight_decay=-0.5), "weight_decay=-0.5 is not possible"),
        (lambda: Factored(beta2_decay=0.8), "beta2_decay=0.8 is not possible"),
        (lambda: Orthogonalised(steps=0), "steps=0 is not possible"),
        (lambda: Orthogonalised(weight_decay=-0.5), "weight_decay=-0.5 is not possible"),
        (lambda: Factored(eps=0.0), "eps=0.0 is not possible"),
    ],
)
def test_impossible_hyperparameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

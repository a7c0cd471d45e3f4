"""Every rule, order and partition of conf/ against the slow reference, and the reference against exact arithmetic."""

import functools
import itertools
from fractions import Fraction

import mpmath
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

import bcd
from bcd import BlockCoordinateDescent, Cyclic, RandomReshuffle, minimise, reference
from tests.conftest import ROOT, RTOL

ATOL = 1e-14  # beside numbers of order one: a weight or a moment may cancel to almost zero


# --- the same rule in the package and in the reference ---


def _adam(rule, **types):
    beta1, beta2 = rule.betas
    return reference.adam(
        beta1=beta1, beta2=beta2, eps=rule.eps, weight_decay=rule.weight_decay, decoupled=rule.decoupled, **types
    )


def _momentum(rule):
    return reference.momentum(momentum=rule.momentum, nesterov=rule.nesterov, weight_decay=rule.weight_decay)


TRANSCRIBED = {
    bcd.Adam: _adam,
    bcd.AdamW: _adam,
    bcd.SGD: lambda rule: reference.sgd(weight_decay=rule.weight_decay),
    bcd.Momentum: _momentum,
    bcd.Sign: lambda rule: reference.sign(weight_decay=rule.weight_decay),
}
STATE_NAMES = {"exp_avg": "m", "exp_avg_sq": "v", "step": "k", "momentum_buffer": "m"}


def transcribed(name, rule):
    if type(rule) not in TRANSCRIBED:
        pytest.fail(
            f"conf/rule/{name}.yaml makes {type(rule).__name__}, which the reference does not have: "
            "add its update to bcd/reference.py and to TRANSCRIBED here"
        )
    return TRANSCRIBED[type(rule)](rule)


# --- the files of conf/, with values for what they leave open ---


def names(axis):
    return sorted(path.stem for path in (ROOT / "conf" / axis).glob("*.yaml"))


def made(axis, name, values):
    """What the file makes, with `values` in place of its own."""
    config = OmegaConf.create(
        {"seed": 0, "outside_layers": {"embedding": "join", "final_norm": "freeze", "head": "train"}}
    )
    config.node = OmegaConf.merge(OmegaConf.load(ROOT / "conf" / axis / f"{name}.yaml"), values)
    if missing := sorted(key.rpartition(".")[2] for key in OmegaConf.missing_keys(config.node)):
        pytest.fail(f"conf/{axis}/{name}.yaml asks for {missing}: add values to {axis}_values in this file")
    return instantiate(config.node)


partition_values = {
    "by_ratio": {"parts": 3},
    "by_regex": {"patterns": [r"layers\.0\..*", r".*norm.*", r"embed.*"], "rest": "train"},
}


@functools.cache
def partition_of(name):
    return made("partition", name, partition_values.get(name, {}))


@functools.cache
def rule_of(name):
    return made("rule", name, {})


def order_values(num_blocks):
    """Sets of two blocks wherever there are two."""
    two = min(2, num_blocks)
    return {
        "fixed": {"visits": [num_blocks - 1, list(range(two))]},
        "greedy": {"count": two},
        "sliding_window": {"width": two},
        "uniform": {"count": two},
        "weighted": {"weights": [1.0 + i for i in range(num_blocks)], "count": two},
    }


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(2)
        self.attention = nn.Linear(2, 2)
        self.mlp = nn.Linear(2, 3, bias=False)


class Tiny(nn.Module):
    """Parameters where a decoder has them; the objective below needs no forward."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.norm = nn.LayerNorm(2)
        self.head = nn.Linear(2, 3, bias=False)
        generator = torch.Generator().manual_seed(0)
        self.double()
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    def objective(self):
        """Every parameter is coupled with every other one, and the curvature depends on the point."""
        y = torch.cat([parameter.flatten() for parameter in self.parameters()])
        return y.sum().square() / len(y) + torch.cos(1.5 * y).sum() + (y.roll(1) * y).sum() / 3


class Recorded:
    """The rule, and the state that it left of each block; the optimizer may drop it in the same step."""

    def __init__(self, rule):
        self.rule = rule
        self.states = []

    def __getattr__(self, name):
        return getattr(self.rule, name)

    def update(self, parameters, gradients, states, lr, hyperparameters):
        self.rule.update(parameters, gradients, states, lr, hyperparameters)
        self.states.append(
            [{name: value.flatten().tolist() for name, value in state.items()} for state in states]  # per parameter
        )


class Witness:
    """The order, and the visits that the optimizer got from it."""

    def __init__(self, order):
        self.order = order
        self.visits = []

    def __getattr__(self, name):
        return getattr(self.order, name)

    def next_visit(self, num_blocks):
        self.visits.append(self.order.next_visit(num_blocks))
        return self.visits[-1]

    def choose(self, norms, sizes):
        self.visits.append(self.order.choose(norms, sizes))
        return self.visits[-1]


def flat(tensors):
    return [number for tensor in tensors for number in tensor.flatten().tolist()]


def numbers(block):
    """The block's weights, one list."""
    return flat(part.of(part.parameter) for part in block.parts)


def closes(found, expected):
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64),
        torch.tensor(expected, dtype=torch.float64),
        rtol=RTOL["float64 against the reference"],
        atol=ATOL,
    )


def compare(rule_name, rule, order_name, partition_name, inner_steps, visits=4):
    """One run of the optimizer, and the reference with the visits and gradients that it had."""
    update = transcribed(rule_name, rule)
    model = Tiny()
    partition = partition_of(partition_name)(model)
    order = Witness(made("order", order_name, order_values(len(partition)).get(order_name, {})))
    lrs = [0.01 * (1 + i) for i in range(len(partition))]
    recorded = Recorded(rule)
    optimizer = BlockCoordinateDescent(partition, rule=recorded, order=order, inner_steps=inner_steps, lr=lrs)
    start = [numbers(block) for block in partition.blocks]
    gradients, iterates = [], []
    for step in range(visits * inner_steps):
        model.objective().backward()
        full = {id(p): p.grad.clone() for p in model.parameters() if p.grad is not None}
        optimizer.step()
        iterates.append([numbers(block) for block in partition.blocks])
        for i in order.visits[step // inner_steps]:
            gradients.append((i, flat(part.of(full[id(part.parameter)]) for part in partition.blocks[i].parts)))
        optimizer.zero_grad()

    given, states = iter(gradients), []

    def gradient(i, x):
        index, values = next(given)
        assert index == i
        return values

    def updated(x, g, state, lr):
        x = update(x, g, state, lr)
        states.append({name: value if name == "k" else list(value) for name, value in state.items()})
        return x

    made_visits = order.visits[:visits]
    expected = reference.descend(gradient, start, made_visits, update=updated, inner_steps=inner_steps, lr=lrs)
    assert len(expected) == len(iterates) == visits * inner_steps
    closes([list(itertools.chain(*x)) for x in iterates], [list(itertools.chain(*x)) for x in expected])
    assert len(states) == len(recorded.states) == len(gradients)
    for ours, theirs in zip(recorded.states, states, strict=True):
        assert {STATE_NAMES[name] for name in ours[0]} == set(theirs)
        for name in ours[0]:
            if name == "step":
                assert all(state["step"] == [theirs["k"]] for state in ours)
            else:
                closes([number for state in ours for number in state[name]], theirs[STATE_NAMES[name]])


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("partition", names("partition"))
@pytest.mark.parametrize("order", names("order"))
@pytest.mark.parametrize("rule", names("rule"))
def test_weights_and_state_are_the_references(rule, order, partition, inner_steps):
    compare(rule, rule_of(rule), order, partition, inner_steps)


@pytest.mark.parametrize("rule", names("rule"))
def test_weight_decay_is_the_references(rule):
    compare(rule, made("rule", rule, {"weight_decay": 0.3}), "random_reshuffle", "by_layer", 3)


def test_the_comparison_tells_a_wrong_rule_and_names_a_new_one(monkeypatch):
    monkeypatch.setitem(TRANSCRIBED, bcd.SGD, lambda rule: reference.sgd(weight_decay=1e-9))
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        compare("sgd", bcd.SGD(), "cyclic", "by_layer", 1)
    with pytest.raises(pytest.fail.Exception, match=r"conf/rule/lion.yaml makes Fraction.*add its update"):
        transcribed("lion", Fraction(1))
    with pytest.raises(pytest.fail.Exception, match=r"conf/order/fixed.yaml asks for \['visits'\]: add values to"):
        made("order", "fixed", {})


# --- the reference computes its own gradients ---


@pytest.mark.parametrize("order", [Cyclic, RandomReshuffle])
@pytest.mark.parametrize("inner_steps", [1, 2, 5])
@pytest.mark.parametrize("rule", names("rule"))
def test_trajectory_of_minimise_is_the_references(rule, inner_steps, order):
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    A = A @ A.T / 6 + torch.eye(6, dtype=torch.float64)
    start = list(torch.randn(6, generator=generator, dtype=torch.float64).split([1, 2, 3]))

    def f(x):
        y = torch.cat(list(x))
        return y @ A @ y / 2 + torch.cos(y).sum()

    def gradient(i, x):
        y = torch.tensor([number for block in x for number in block], dtype=torch.float64)
        return (A @ y - torch.sin(y)).split([1, 2, 3])[i].tolist()

    made_rule = made("rule", rule, {"weight_decay": 0.3})
    steps = minimise(f, start, rule=made_rule, order=order(), inner_steps=inner_steps, lr=0.05, visits=9)
    expected = reference.descend(
        gradient,
        [block.tolist() for block in start],
        [(step.block,) for step in steps if step.k == 1],
        update=transcribed(rule, made_rule),
        inner_steps=inner_steps,
        lr=[0.05] * 3,
    )
    assert len(expected) == len(steps) == 9 * inner_steps
    for step, iterate in zip(steps, expected, strict=True):
        closes(torch.cat(step.after).tolist(), list(itertools.chain(*iterate)))


# --- exact arithmetic ---


# f(x) = x'Ax/2 - b'x in two blocks of one number, with dyadic entries: a few steps with a dyadic step size have short
# binary expansions, so float64 makes no rounding error at all and must equal the Fractions bit for bit.
A = [[Fraction(2), Fraction(1, 2)], [Fraction(1, 2), Fraction(1)]]
B = [Fraction(1), Fraction(-3, 4)]
START = [[Fraction(3, 2)], [Fraction(-5, 4)]]
LR = [Fraction(1, 4), Fraction(1, 2)]
VISITS = [(0,), (1,), (0,)]


def rational_gradient(i, x):
    return [A[i][0] * x[0][0] + A[i][1] * x[1][0] - B[i]]


def in_floats(rule, inner_steps):
    matrix, b = torch.tensor([list(map(float, row)) for row in A]).double(), torch.tensor(list(map(float, B))).double()

    def f(x):
        y = torch.cat(list(x))
        return y @ matrix @ y / 2 - b @ y

    start = [torch.tensor([float(number) for number in block], dtype=torch.float64) for block in START]
    lr = list(map(float, LR))
    steps = minimise(f, start, rule=rule, order=Cyclic(), inner_steps=inner_steps, lr=lr, visits=len(VISITS))
    return [[[number.item()] for number in step.after] for step in steps]


def in_fractions(update, inner_steps):
    return reference.descend(rational_gradient, START, VISITS, update=update, inner_steps=inner_steps, lr=LR)


def closed_form(beta, nesterov, inner_steps):
    """Every visit is a linear recursion of (x - x*, m), x* the block's minimiser given the other block."""
    x, found = [block[0] for block in START], []
    for (i,) in VISITS:
        a, lr, other = A[i][i], LR[i], 1 - i
        target = (B[i] - A[i][other] * x[other]) / a
        error, m = x[i] - target, Fraction(0)
        c, d = ((1 + beta) * a, beta * beta) if nesterov else (a, beta)  # the step is c error + d m
        for _ in range(inner_steps):
            error, m = (1 - lr * c) * error - lr * d * m, a * error + beta * m
            x[i] = target + error
            found.append([[x[0]], [x[1]]])
    return found


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("beta", [Fraction(0), Fraction(1, 2), Fraction(1, 3)])
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_sgd_are_exact_in_fractions(nesterov, beta, inner_steps):
    exact = in_fractions(reference.momentum(momentum=beta, nesterov=nesterov), inner_steps)
    assert exact == closed_form(beta, nesterov, inner_steps)
    assert all(isinstance(number, Fraction) for x in exact for block in x for number in block)
    if beta == 0:
        assert exact == in_fractions(reference.sgd(), inner_steps)


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize(
    ("rule", "update"),
    [
        (bcd.SGD(), reference.sgd()),
        (bcd.SGD(weight_decay=0.25), reference.sgd(weight_decay=Fraction(1, 4))),
        (bcd.Momentum(momentum=0.5), reference.momentum(momentum=Fraction(1, 2))),
        (bcd.Momentum(momentum=0.5, nesterov=True), reference.momentum(momentum=Fraction(1, 2), nesterov=True)),
        (bcd.Sign(weight_decay=0.5), reference.sign(weight_decay=Fraction(1, 2))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_optimizer_is_bitwise_the_fractions_where_nothing_is_rounded(rule, update, inner_steps):
    exact = in_fractions(update, inner_steps)
    assert all(Fraction(float(number)) == number for x in exact for block in x for number in block)
    assert in_floats(rule, inner_steps) == exact


def test_cyclic_sgd_with_exact_steps_is_gauss_seidel_bitwise():
    # Step 1 / A_ii minimises over the block; the diagonal holds powers of two, so nothing is rounded.
    assert [1 / lr for lr in (Fraction(1, 2), Fraction(1))] == [A[0][0], A[1][1]]
    matrix = torch.tensor([list(map(float, row)) for row in A]).double()
    b = torch.tensor(list(map(float, B))).double()
    steps = minimise(
        lambda x: torch.cat(list(x)) @ matrix @ torch.cat(list(x)) / 2 - b @ torch.cat(list(x)),
        [torch.zeros(1, dtype=torch.float64)] * 2,
        rule=bcd.SGD(), order=Cyclic(), inner_steps=1, lr=[0.5, 1.0], visits=12,
    )  # fmt: skip
    x = [Fraction(0), Fraction(0)]
    for t, step in enumerate(steps):
        i = t % 2
        x[i] = (B[i] - A[i][1 - i] * x[1 - i]) / A[i][i]
        assert torch.cat(step.after).tolist() == x


@pytest.mark.parametrize("rule", [bcd.Adam(weight_decay=0.1), bcd.AdamW(weight_decay=0.1)], ids=["adam", "adamw"])
def test_adam_in_float64_is_adam_in_fifty_digits(rule):
    with mpmath.workdps(50):
        exact = reference.descend(
            lambda i, x: [sum(mpmath.mpf(float(a)) * y[0] for a, y in zip(A[i], x, strict=True)) - float(B[i])],
            [[mpmath.mpf(float(number)) for number in block] for block in START],
            VISITS * 2,
            update=_adam(rule_in(mpmath.mpf, rule), sqrt=mpmath.sqrt),
            inner_steps=20,
            lr=[mpmath.mpf(float(lr)) for lr in LR],
        )
        floats = reference.descend(
            lambda i, x: [float(A[i][0]) * x[0][0] + float(A[i][1]) * x[1][0] - float(B[i])],
            [[float(number) for number in block] for block in START],
            VISITS * 2,
            update=_adam(rule),
            inner_steps=20,
            lr=list(map(float, LR)),
        )
        package = in_floats(rule, 20)
        assert len(exact) == len(floats) == 2 * len(package) == 120
        for found in (floats, package):
            for x, y in zip(exact, found, strict=False):
                assert all(abs(p[0] - q[0]) <= 1e-13 * max(1, abs(p[0])) for p, q in zip(x, y, strict=True))
        # Fifty digits are not the float's own: the comparison does compare two arithmetics.
        assert any(mpmath.mpf(float(block[0])) != block[0] for block in exact[-1])


def rule_in(number, rule):
    """The rule's values in another number type, for the reference only."""
    values = {"betas": tuple(map(number, rule.betas)), "eps": number(rule.eps)}
    return type("Values", (), {**values, "weight_decay": number(rule.weight_decay), "decoupled": rule.decoupled})

"""torch.compile around the step and the rule, and torch's kernel variants on a GPU."""

import pytest
import torch
from torch import nn

from bcd import SGD, Adam, AdamW, BlockCoordinateDescent, Cyclic, Momentum, RandomReshuffle, Sign, by_layer, precision

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])


def bcd(model, rule, **options):
    options = {"order": RandomReshuffle(seed=1), "inner_steps": 3, "lr": 1e-2} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), rule=rule, **options)


def train(model, optimizer, step, steps):
    tokens = TOKENS.to(model.embed.weight.device)
    for _ in range(steps):
        nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        step()
        optimizer.zero_grad()


@pytest.mark.integration
@pytest.mark.parametrize("rule", [Adam(), SGD()], ids=str)
def test_a_compiled_step_is_the_step_visits_included(rule, decoder):
    # Traced by the compiler, the step would stay at the first block for ever, so it is marked as not to be traced.
    eager, compiled = decoder(), decoder()
    a, b = bcd(eager, rule), bcd(compiled, rule)
    train(eager, a, a.step, 10)
    train(compiled, b, torch.compile(b.step), 10)
    assert a.visits_started == b.visits_started == 4
    assert a.active_blocks == b.active_blocks
    assert [p.requires_grad for p in eager.parameters()] == [p.requires_grad for p in compiled.parameters()]
    assert all(torch.equal(x, y) for x, y in zip(eager.parameters(), compiled.parameters(), strict=True))


# Powers of one half are exact. A compiled 1 - beta2^k is one of float32, eager's of float64, which for beta2 = 0.999
# moves the first steps by 2^-24 / (1 - beta2) / 2 = 3e-5 of lr; that is of torch's Adam and none of ours.
@pytest.mark.slow
@pytest.mark.parametrize(("plain", "options"), [(Sign, {}), (AdamW, {"betas": (0.5, 0.5)})])
def test_a_rule_may_be_compiled(plain, options):
    class Compiled(plain):
        update = torch.compile(plain.update)

    torch.compiler.reset()
    models = []
    for rule in (plain(weight_decay=0.1, **options), Compiled(weight_decay=0.1, **options)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            models.append(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)))
        optimizer = BlockCoordinateDescent(by_layer(models[-1]), rule=rule, order=Cyclic(), inner_steps=2, lr=1e-2)
        for _ in range(6):
            models[-1](torch.ones(2, 3)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert optimizer.visits_started == 4
    # The compiler contracts a product and a sum to one rounding, so this is not bitwise.
    for x, y in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-7)


VARIANTS = [Adam, AdamW, SGD, Momentum]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("variant", [{"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("rule", VARIANTS)
def test_kernel_variants_agree_over_visits(rule, variant, device, decoder):
    plain, other = decoder().to(device), decoder().to(device)
    a, b = (bcd(plain, rule(weight_decay=0.1, foreach=False)), bcd(other, rule(weight_decay=0.1, **variant)))
    train(plain, a, a.step, 10)
    train(other, b, b.step, 10)
    assert a.visits_started == b.visits_started == 4
    # Fused kernels contract products and sums; Adam divides by sqrt(v), which turns that into 1e-7 of lr.
    for x, y in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=2e-7)


RULES = [Adam(weight_decay=0.1), AdamW(), SGD(0.1), Momentum(), Momentum(nesterov=True, weight_decay=0.1), Sign(0.1)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_formulas_are_the_rules(rule):
    """The formula that a compiled update is made of, run eagerly beside the rule itself in float64."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, generator=generator.manual_seed(0), dtype=torch.float64) for _ in range(2))
    state, hyperparameters = rule.init([x])[0], rule.hyperparameters()
    tensors = tuple(torch.zeros_like(x) for _ in rule.state_names)
    for step in range(1, 6):
        g = torch.randn(50, generator=generator, dtype=torch.float64)
        rule.update([x], [g], [state], 1e-2, hyperparameters)
        numbers = torch.tensor(rule.coefficients(1e-2, hyperparameters, step), dtype=torch.float64).unbind()
        y, tensors = rule.formula(y, g, tensors, numbers)
        torch.testing.assert_close(y, x, rtol=1e-12, atol=1e-14)
        for name, tensor in zip(rule.state_names, tensors, strict=True):
            torch.testing.assert_close(tensor, state[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("device", "rule"),
    [
        pytest.param("cpu", AdamW(), marks=pytest.mark.slow),
        *(pytest.param("cuda", rule, marks=pytest.mark.gpu, id=f"cuda {rule}") for rule in RULES),
    ],
)
def test_a_compiled_update_keeps_an_exact_master(device, rule, decoder):
    """Beside the separate conversions: the masters agree to float32 rounding, visit after visit."""
    models = [decoder().bfloat16().to(device) for _ in range(2)]
    options = {"master": "host", "inner_steps": 3, "lr": 1e-3}
    one, two = (bcd(m, rule, compiled=c, **options) for m, c in zip(models, (False, True), strict=True))
    for _ in range(2 * 3 * 3 + 1):
        for model, optimizer in zip(models, (one, two), strict=True):
            for parameter in optimizer.active_parameters:
                shape, kind = parameter.shape, parameter.dtype
                noise = torch.randn(shape, generator=torch.Generator().manual_seed(optimizer.steps_in_visit))
                parameter.grad = noise.to(device, kind)
            optimizer.step()
            assert not any(p.grad is not None for p in model.parameters() if not p.requires_grad)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        if p in one.state:
            masters = [precision.join(w.detach(), o.state[w]["remainder"].to(device)) for w, o in ((p, one), (q, two))]
            assert masters[0].dtype == torch.float32
            # A step is at most about lr = 1e-3, and float32 rounds it to 1e-3 * 2^-23 and the weight to 2^-24 of it.
            torch.testing.assert_close(masters[1], masters[0], rtol=1e-6, atol=1e-8)
        else:
            assert torch.equal(p, q)


def test_compiled_is_refused_for_a_rule_with_a_kernel_of_its_own(decoder):
    with pytest.raises(ValueError, match=r"compiled=True is not possible with rule=Adam\(.*fused=True\)"):
        bcd(decoder(), Adam(fused=True), compiled=True)

"""All options together: the losses and weights of the plain path, from a plain loop and from the Trainer."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import Trainer, TrainingArguments

from bcd import SGD, Adam, BlockCoordinateDescent, Descending, by_layer
from bcd.execution import Execution
from tests.cover import tiered

ROOT = Path(__file__).resolve().parents[3]
FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
RTOL = 1e-5  # same mathematics in float32


def bcd(model, **options):
    options = {"rule": SGD(), "order": Descending(), "inner_steps": 2, "lr": 0.1} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), **options)


OPTIONS = [  # every pair of two options' values
    ("plain", 0, False, False),
    ("plain", 100_000, True, True),
    ("plain", "free", True, False),
    ("plain", None, False, True),
    ("chunked", 0, True, True),
    ("chunked", 100_000, False, False),
    ("chunked", "free", False, True),
    ("chunked", None, True, False),
    ("plain", 0, True, False),
    ("chunked", 100_000, True, True),
]


@pytest.mark.parametrize(
    ("loss", "recompute", "compiled", "inside"), tiered(OPTIONS, quick=[given for given in OPTIONS if not given[2]])
)
def test_every_combination_trains_as_the_plain_path(loss, recompute, compiled, inside, llama, tokens, train):
    usual, model = llama(), llama()
    optimizers = bcd(usual), bcd(model)
    options = Execution(
        loss=loss, chunk=16, recompute=recompute, compiled=compiled, backend="aot_eager", step_in_backward=inside
    )
    undo = options(model, optimizers[1])
    losses = [train(m, o, tokens, 8) for m, o in zip((usual, model), optimizers, strict=True)]
    assert losses[1] == pytest.approx(losses[0], rel=RTOL)
    same = loss == "plain"  # the same kernels in the same order
    assert not same or losses[0] == losses[1]
    for a, b in zip(usual.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b) or not same
        torch.testing.assert_close(a, b, rtol=RTOL, atol=RTOL * a.abs().max().item())
    undo()
    assert all("forward" not in vars(module) for module in model.modules())


def gradient(model, tokens):
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    return loss.detach().double(), torch.cat(
        [p.grad.double().flatten() for p in model.parameters() if p.requires_grad]
    )


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("active", "recompute"), [((2,), 0), ((1, 3), "free")])
def test_all_options_in_bfloat16_are_as_exact_as_the_plain_path(active, recompute, device, llama, tokens, activate):
    exact, usual, model = (llama(torch.bfloat16).to(device) for _ in range(3))
    exact.double()
    Execution(loss="chunked", chunk=16, recompute=recompute, compiled=True)(model)
    for each in (exact, usual, model):
        activate(each, *active)
    (loss, true), *found = (gradient(each, tokens.to(device)) for each in (exact, usual, model))
    usual_error, error = ((g - true).norm() / true.norm() for _, g in found)
    assert 0 < error <= 1.2 * usual_error
    assert abs(found[1][0] - loss) <= 2**-8 * loss


class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.tokens = torch.randint(0, 96, (24, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_trainer_of_transformers_with_all_options(accumulation, tmp_path, llama):
    weights, losses = [], []
    for execution in (Execution(), Execution("chunked", 16, recompute=0, compiled=True, backend="aot_eager")):
        model = llama()
        optimizer = bcd(model, master="discard")
        execution(model, optimizer)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=2, use_cpu=True, report_to=[],
            gradient_accumulation_steps=accumulation, save_strategy="no", disable_tqdm=True, logging_strategy="no",
            train_sampling_strategy="sequential", eval_strategy="steps", eval_steps=3,
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows(),
            optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
        )  # fmt: skip
        losses.append([trainer.train().training_loss, trainer.evaluate()["eval_loss"]])
        weights.append([p.detach() for p in model.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=RTOL)
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=RTOL * a.abs().max().item())


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "execution").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_are_executions(path, llama):
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        config = dict(compose(f"execution/{path.stem}").execution)
    assert config.pop("_target_") == "bcd.execution.Execution"
    execution = Execution(**config)
    assert set(config) == set(vars(execution)), "every option is visible"
    if path.stem == "plain":
        assert execution == Execution()
        model = llama()
        execution(model)
        assert all("forward" not in vars(module) for module in model.modules())


def test_impossible_values_are_named(llama):
    for changes, message in (
        ({"loss": "none"}, "loss='none' is not one of plain, chunked"),
        ({"chunk": 0}, "chunk=0 is not possible"),
        ({"z_loss": 1e-4}, 'z_loss=0.0001 is not possible with loss="plain"'),
        ({"z_loss": 1e-4, "loss": "fused"}, 'z_loss=0.0001 is not possible with loss="fused"'),
        ({"recompute": -1}, "recompute=-1 is not possible"),
        ({"compiled": 1}, "compiled=1 is not one of True, False"),
        ({"step_in_backward": None}, "step_in_backward=None is not one of"),
    ):
        with pytest.raises(ValueError, match=message):
            Execution(**changes)
    model = llama()
    with pytest.raises(ValueError, match="the step in backward needs the optimizer"):
        Execution(loss="chunked", step_in_backward=True)(model)
    assert "forward" not in vars(model), "nothing is half on"


def test_the_optimizers_kernel_and_state_are_its_own_matter(llama, tokens, train):
    model = llama(torch.bfloat16)
    optimizer = bcd(model, rule=Adam(), master="discard", lr=1e-3)
    Execution(recompute=0, step_in_backward=True)(model, optimizer)
    train(model, optimizer, tokens, 3)
    assert {name for state in optimizer.state.values() for name in state} >= {"remainder", "exp_avg", "exp_avg_sq"}


def test_trainable_parameters_in_no_block_are_named(llama):
    model = llama()
    options = {"rule": SGD(), "order": Descending(), "inner_steps": 2, "lr": 0.1}
    optimizer = BlockCoordinateDescent(by_layer(model.model), **options)
    with pytest.warns(
        UserWarning, match=r"1 trainable parameters of LlamaForCausalLM .* \(lm_head.weight the first\)"
    ):
        Execution(recompute=0)(model, optimizer)()
    model.lm_head.requires_grad_(False)
    Execution(recompute=0)(model, optimizer)()
    model = llama()
    Execution(recompute=0)(model, bcd(model))()

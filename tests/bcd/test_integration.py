"""`BlockCoordinateDescent` in other people's loops, with the real libraries."""

import copy

import pytest
import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, get_linear_schedule_with_warmup

from bcd import Adam, BlockCoordinateDescent, RandomReshuffle, by_layer

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def llama():
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


class Rows(Dataset):
    """Twenty-four fixed sequences."""

    def __init__(self):
        self.tokens = torch.randint(0, 16, (24, 6), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def make(model):
    optimizer = BlockCoordinateDescent(
        by_layer(model, **FREEZE), rule=Adam(), order=RandomReshuffle(seed=1), inner_steps=2, lr=1e-2
    )
    return optimizer, get_linear_schedule_with_warmup(optimizer, 1, 6)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_hugging_face_trainer_makes_the_steps_of_a_plain_loop(accumulation, tmp_path):
    plain, trained = llama(), llama()
    optimizer, schedule = make(plain)
    rows = Rows()
    for step in range(6):
        size = 2 * accumulation
        batch = rows.tokens[step * size : (step + 1) * size]
        plain(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in plain.parameters() if p.grad is not None], 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=accumulation,
        max_grad_norm=1.0, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
        train_sampling_strategy="sequential",
    )  # fmt: skip
    inside = make(trained)
    Trainer(model=trained, args=arguments, train_dataset=rows, optimizers=inside).train()
    assert inside[0].visits_started == 4
    for a, b in zip(plain.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_activation_checkpointing_stops_at_the_active_block():
    model = llama().train()
    # transformers turns input gradients on with checkpointing; backward would then run through every layer.
    reference = copy.deepcopy(model)
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)  # renamed in 5.23
    enable({"use_reentrant": False})
    model.disable_input_require_grads()
    gradients = []
    for each in (model, reference):
        optimizer, _ = make(each)
        (active,) = optimizer.active_blocks
        seen = {}
        for i, layer in enumerate(each.model.layers):
            layer.register_forward_hook(lambda module, args, out, i=i, seen=seen: seen.update({i: out.requires_grad}))
        each(input_ids=Rows().tokens, labels=Rows().tokens).loss.backward()
        assert seen == {i: i >= active for i in range(4)}
        gradients.append([p.grad for p in optimizer.active_parameters])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_accelerate_prepares_and_steps_it():
    from accelerate import Accelerator

    plain, prepared = llama(), llama()
    optimizer, _ = make(plain)
    inner, _ = make(prepared)
    accelerator = Accelerator(cpu=True)
    model, wrapped = accelerator.prepare(prepared, inner)
    tokens = Rows().tokens
    for _ in range(5):
        plain(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        accelerator.backward(model(input_ids=tokens, labels=tokens).loss)
        wrapped.step()
        wrapped.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), prepared.parameters(), strict=True))

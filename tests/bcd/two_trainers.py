"""transformers.Trainer and accelerate in two processes: what `test_processes.py` starts with torchrun."""

import sys
import tempfile
from pathlib import Path

import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from bcd import SGD, BlockCoordinateDescent, Cyclic, by_layer

STEPS = 10
FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def llama():
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def bcd(model):
    return BlockCoordinateDescent(by_layer(model, **FREEZE), rule=SGD(), order=Cyclic(), inner_steps=2, lr=0.5)


class Rows(Dataset):
    """Eighty fixed sequences."""

    def __init__(self):
        self.tokens = torch.randint(0, 16, (80, 6), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def with_trainer(batch_size, **options):
    """The weights after `STEPS` steps of transformers.Trainer."""
    model = llama()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=STEPS, per_device_train_batch_size=batch_size, max_grad_norm=0.1,
            use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
            lr_scheduler_type="constant", train_sampling_strategy="sequential", **options,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=Rows(), optimizers=(bcd(model), None)).train()
    return [p.detach().clone() for p in model.parameters()]


def with_accelerate():
    """The weights after `STEPS` steps of two accumulated batches of one row in every process."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = llama()
    prepared, optimizer, rows = accelerator.prepare(model, bcd(model), DataLoader(Rows(), batch_size=1))
    for i, row in enumerate(rows):
        if i == 2 * STEPS:
            break
        with accelerator.accumulate(prepared):
            accelerator.backward(prepared(**row).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    return [p.detach().clone() for p in model.parameters()]


def main(folder):
    results = {
        "Trainer": with_trainer(2, ddp_backend="gloo"),
        "Trainer, unused parameters": with_trainer(2, ddp_backend="gloo", ddp_find_unused_parameters=True),
        "Trainer, accumulation": with_trainer(
            1, ddp_backend="gloo", gradient_accumulation_steps=2,
            accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}},
        ),
        "accelerate": with_accelerate(),
    }  # fmt: skip
    torch.save(results, Path(folder) / f"{distributed.get_rank()}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])

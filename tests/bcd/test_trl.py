"""`BlockCoordinateDescent` inside trl's SFTTrainer, and activation checkpointing in both trainers."""

import itertools

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)
from trl import SFTConfig, SFTTrainer

from bcd import Adam, BlockCoordinateDescent, RandomReshuffle, badam, by_layer
from bcd.execution import recomputed_layers
from bcd.integrations import BlockCallback, checkpoint_active_layers, trainer_badam
from tests.conftest import RTOL
from tests.cover import tiered

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
WORDS = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(13))]
TEXTS = [" ".join(f"w{(3 * i + j) % 13}" for j in range(6)) for i in range(24)]


def llama():
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def tokenizer():
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make(model):
    optimizer = BlockCoordinateDescent(
        by_layer(model, **FREEZE), rule=Adam(), order=RandomReshuffle(seed=1), inner_steps=2, lr=1e-2
    )
    return optimizer, get_cosine_schedule_with_warmup(optimizer, 1, 7)


class Watch(TrainerCallback):
    """Per step the active blocks, the layers whose weights moved, and the layers whose outputs carried a gradient."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.active, self.moved, self.carried = [], [], []
        self.outputs = {}
        for i, layer in enumerate(model.model.layers):
            layer.register_forward_hook(lambda module, args, out, i=i: self.outputs.update({i: out.requires_grad}))

    def on_train_begin(self, *args, optimizer, **kwargs):
        if self.optimizer is None:  # the trainer has made it
            self.optimizer = optimizer.optimizer

    def on_step_begin(self, *args, **kwargs):
        self.active.append(self.optimizer.active_blocks)
        self.before = {name: p.detach().clone() for name, p in self.model.named_parameters()}

    def on_step_end(self, *args, **kwargs):
        changed = {name for name, p in self.model.named_parameters() if not torch.equal(self.before[name], p)}
        assert all(name.startswith("model.layers.") for name in changed), "everything else is frozen"
        self.moved.append(tuple(sorted({int(name.split(".")[2]) for name in changed})))
        self.carried.append([i for i, carries in self.outputs.items() if carries])


def options(tmp_path, **more):
    return {
        "output_dir": str(tmp_path), "max_steps": 6, "per_device_train_batch_size": 2, "use_cpu": True,
        "report_to": [], "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no",
        "train_sampling_strategy": "sequential", "max_grad_norm": 1.0, "bf16": False,
        "activation_checkpointing": False,
    } | more  # fmt: skip


def sft(model, tmp_path, optimizers, watch):
    data = Dataset.from_list([{"text": text} for text in TEXTS])
    arguments = SFTConfig(**options(tmp_path, gradient_accumulation_steps=2))
    return SFTTrainer(
        model=model, args=arguments, train_dataset=data, processing_class=tokenizer(), optimizers=optimizers,
        callbacks=[watch],
    )  # fmt: skip


@pytest.mark.slow
def test_sft_trainer_makes_the_steps_of_a_plain_loop_one_block_at_a_time(tmp_path):
    plain, trained = llama(), llama()
    optimizer, schedule = make(plain)
    tokens = torch.tensor([[WORDS.index(word) for word in text.split()] + [1] for text in TEXTS])
    for step in range(6):
        batch = tokens[4 * step : 4 * step + 4]
        plain(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.active_parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    inside = make(trained)
    watch = Watch(trained, inside[0])
    sft(trained, tmp_path, inside, watch).train()
    assert inside[0].visits_started == 4
    assert len(set(watch.active)) == 3
    assert watch.moved[0] == (), "transformers' warm-up starts at lr 0"
    assert watch.moved[1:] == watch.active[1:], "one layer moves, everything else stays bitwise"
    # The trainer sums two half batches and divides once, so float32 rounds otherwise; Adam's first steps are lr times
    # the gradient's sign, up to m / (sqrt(v) + eps) for the smallest gradients.
    for a, b in zip(plain.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL["same mathematics in float32"], atol=1e-6)


class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.tokens = torch.randint(0, 16, (24, 6), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("checkpointing", "library"),
    tiered(list(itertools.product(["ours", "the trainer's"], ["transformers", "trl"])), quick=[("ours", "trl")]),
)
def test_checkpointing_stops_at_the_active_block_in_a_trainer(checkpointing, library, tmp_path):
    trained, reference = llama(), llama()
    weights = []
    for model in (reference, trained):
        inside = make(model)
        watch = Watch(model, inside[0])
        recomputed = []
        if model is trained and checkpointing == "ours":
            checkpoint_active_layers(model)
        if library == "trl":
            trainer = sft(model, tmp_path, inside, watch)
        else:
            trainer = Trainer(
                model=model, args=TrainingArguments(**options(tmp_path)), train_dataset=Rows(), optimizers=inside,
                callbacks=[watch],
            )  # fmt: skip
        trainer.args.activation_checkpointing = model is trained and checkpointing != "ours"
        model.model.layers[3].self_attn.register_forward_hook(lambda *_, seen=recomputed: seen.append(1))
        trainer.train()
        weights.append([p.detach() for p in model.parameters()])
        batches = 6 * trainer.args.gradient_accumulation_steps
        assert len(recomputed) == (2 if model is trained else 1) * batches, "the top layer is computed twice"
        above = [list(range(active, 4)) for (active,) in watch.active]
        if model is trained and checkpointing != "ours":
            assert watch.carried == [[0, 1, 2, 3]] * 6, "why checkpoint_active_layers is there"
        else:
            assert watch.carried == above
            assert min(map(len, above)) < 4
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL["same mathematics in float32"], atol=1e-6)


# --- the trainer makes the optimizer, and the callback looks after the rest ---

PAIRS = [
    {"prompt": f"w{i % 13} w{(i + 1) % 13}", "chosen": f" w{(i + 2) % 13} w3", "rejected": f" w{(i + 5) % 13} w4"}
    for i in range(24)
]


def trainer_of(kind, model, tmp_path, **given):
    """A trainer of trl on made-up rows, one process, six steps."""
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer

    common = options(tmp_path, logging_strategy="steps", logging_steps=1, activation_checkpointing=True)
    words = tokenizer()
    if kind == "sft":
        rows = Dataset.from_list([{"text": text} for text in TEXTS])
        return SFTTrainer(model=model, args=SFTConfig(**common), train_dataset=rows, processing_class=words, **given)
    if kind == "grpo":
        arguments = GRPOConfig(
            **common | {"per_device_train_batch_size": 4}, num_generations=2, max_completion_length=4
        )
        return GRPOTrainer(
            model=model, args=arguments, processing_class=words, train_dataset=Dataset.from_list(PAIRS),
            reward_funcs=lambda completions, **_: [float(len(set(text.split()))) for text in completions], **given,
        )  # fmt: skip
    if kind == "dpo":
        given["ref_model"] = llama()
    config, trainer = {"dpo": (DPOConfig, DPOTrainer), "reward": (RewardConfig, RewardTrainer)}[kind]
    return trainer(
        model=model, args=config(**common), processing_class=words, train_dataset=Dataset.from_list(PAIRS), **given
    )


def scorer():
    from transformers import LlamaForSequenceClassification

    config = llama().config
    config.num_labels = 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForSequenceClassification(config)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # trl asks by that name
@pytest.mark.parametrize("kind", ["sft", "dpo", "reward", "grpo"])
def test_every_trainer_of_trl_trains_one_block_at_a_time(kind, tmp_path):
    model = scorer() if kind == "reward" else llama()
    watch = Watch(model, None)
    choices = {"inner_steps": 2, "lr": 1e-2, "seed": 1}
    if kind in ("dpo", "grpo"):  # which take no other
        given = {"optimizers": (badam(model, **choices), None)}
    else:
        given = {"optimizer_cls_and_kwargs": (trainer_badam, choices)}
    trainer = trainer_of(kind, model, tmp_path, callbacks=[watch, BlockCallback()], **given)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "active_block" in entry]
    assert len(logged) >= 6
    assert {entry["visit"] for entry in logged} == {1, 2, 3, 4}
    assert all(entry["active_block"].startswith("model.layers.") for entry in logged)
    assert logged[-1]["used_lr"] >= 0
    assert len(set(watch.active)) == 3
    assert all(set(moved) <= set(active) for moved, active in zip(watch.moved, watch.active, strict=True))
    assert any(watch.moved)
    assert recomputed_layers(model) is None, "undone at the end"
    if kind in ("sft", "dpo"):
        assert watch.carried == [list(range(active, 4)) for (active,) in watch.active], "backward stops at the block"


def test_parameters_or_another_optimizer_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"needs the model and got list: .*optimizers=\(bcd\.badam\(model"):
        trainer_badam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    with pytest.raises(TypeError, match="needs the model and got nothing"):
        trainer_badam(lr=1e-3)
    assert isinstance(trainer_badam()(llama(), lr=1e-3), BlockCoordinateDescent)
    assert isinstance(trainer_badam(llama(), lr=1e-3), BlockCoordinateDescent), "older trainers call it at once"
    with pytest.raises(TypeError, match="the trainer's optimizer is AdamW, and this callback is for"):
        BlockCallback().on_train_begin(
            None, None, None, model=llama(), optimizer=torch.optim.AdamW(llama().parameters())
        )


def test_a_model_without_layers_is_named():
    with pytest.raises(ValueError, match="Linear has no ModuleList or Sequential of layers"):
        checkpoint_active_layers(torch.nn.Linear(1, 1))

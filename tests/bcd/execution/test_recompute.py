"""Which layers recompute: the budget, the bytes, and gradients that stay bitwise."""

import itertools

import pytest
import torch
import transformers as hf
from transformers import Trainer, TrainingArguments

from bcd import Adam, BlockCoordinateDescent, Descending, Expansion, Fixed, Sign, by_layer
from bcd.execution import chunked_loss, compile_layers, recompute, recompute_layers, recomputed_layers
from bcd.memory import measured_held
from bcd.memory.activations import LivePeak, SavedTensors
from bcd.partitions import find_layers
from tests.cover import tiered

LAYERS = 4
FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def backward(model, tokens):
    """Gradients of one pass, and the bytes saved for backward when forward ends."""
    with SavedTensors() as saved:
        loss = model(input_ids=tokens, labels=tokens).loss
        held = saved.nbytes([*model.parameters(), *model.buffers(), tokens])
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return gradients, held


def counted(model):
    """Layer -> how often its attention ran."""
    seen = dict.fromkeys(range(LAYERS), 0)
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.register_forward_hook(lambda *_, i=i: seen.update({i: seen[i] + 1}))
    return seen


@pytest.mark.parametrize("active", [(0,), (2,), (3,), (1, 3)])
@pytest.mark.parametrize("budget", [None, 0, 200_000, 10**9, "free"])
def test_gradients_are_bitwise_those_without_and_nothing_below_is_kept(budget, active, llama, tokens, activate):
    usual, model = llama(), llama()
    recompute_layers(model, budget)
    for each in (usual, model):
        activate(each, *active)
        backward(each, tokens)  # once before counting: layers are tried to measure them
    seen, graph = counted(model), {}
    for i, layer in enumerate(model.model.layers):
        layer.register_forward_hook(lambda _m, _a, out, i=i: graph.update({i: out.requires_grad}))
    model.model.embed_tokens.register_forward_hook(lambda _m, _a, out: graph.update({"embedding": out.requires_grad}))
    (expected, held_by_all), (gradients, held) = backward(usual, tokens), backward(model, tokens)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    assert graph == {"embedding": False, **{i: i >= active[0] for i in range(LAYERS)}}
    kept = recomputed_layers(model).kept
    assert {i: n == 2 for i, n in seen.items()} == {i: i >= active[0] and i not in kept for i in range(LAYERS)}
    if budget in (None, 10**9, "free"):
        assert kept == set(range(active[0], LAYERS))
        assert held == held_by_all
    elif budget == 0:
        assert kept == set()
    else:
        assert kept == set(range(min(kept), LAYERS)), "the top layers, which backward frees first"


@pytest.mark.parametrize("active", range(LAYERS))
def test_layers_hold_what_the_budget_allows_and_no_layer_more_would_fit(active, llama, tokens, activate):
    model = llama()
    activate(model, active)
    _, all_kept = backward(model, tokens)
    undo = recompute_layers(model, 0)
    _, none_kept = backward(model, tokens)
    undo()
    hidden = 4 * tokens.numel() * 32
    rotary = 2 * 4 * 20 * 8  # sine and cosine, which all layers share
    outside = none_kept - hidden * (LAYERS - active)  # the final norm and the loss
    for budget in range(0, all_kept + 50_000, 20_000):
        undo = recompute_layers(model, budget)
        _, held = backward(model, tokens)
        kept, cost = len(recomputed_layers(model).kept), max(recomputed_layers(model).cost.values(), default=all_kept)
        undo()
        assert held - outside - rotary <= max(budget, hidden * (LAYERS - active))
        if kept < LAYERS - active:
            assert held - outside + cost > budget
    assert kept == LAYERS - active
    assert all("forward" not in vars(layer) for layer in model.model.layers)


def test_the_peak_falls_with_the_budget(llama, tokens, activate):
    model = llama(num_hidden_layers=LAYERS)
    activate(model, 0)
    chunked_loss(model, chunk=4)
    peaks = []
    for budget in (None, 200_000, 0):
        undo = recompute_layers(model, budget)
        with LivePeak() as live:
            model(input_ids=tokens, labels=tokens).loss.backward()
        peaks.append(live.peak)
        model.zero_grad()
        undo()
    assert peaks[0] > peaks[1] > peaks[2]


def test_a_trial_draws_no_random_number(llama, tokens, activate):
    losses = []
    for budget in (None, 200_000):
        model = llama(attention_dropout=0.5)
        activate(model, 1)
        recompute_layers(model, budget)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
        losses.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True)), "dropout is drawn alike and replayed"


def test_free_fills_what_the_device_has_left(monkeypatch, llama, tokens, activate):
    model = llama()
    activate(model, 1)
    hidden = 4 * tokens.numel() * 32
    undo = recompute_layers(model, 10**9)
    backward(model, tokens)
    cost = max(recomputed_layers(model).cost.values())
    undo()
    for layers in range(4):
        # Layers 1 to 3 need a gradient; one layer's worth is for backward itself.
        free = 1000 + cost + 3 * hidden + layers * (cost - hidden)
        monkeypatch.setattr(recompute, "available", lambda *_, free=free: free)
        undo = recompute_layers(model, "free", reserve=1000)
        backward(model, tokens)
        assert recomputed_layers(model).kept == set(range(4 - layers, 4))
        undo()


def test_free_is_planned_anew_at_every_visit(monkeypatch, llama, tokens, train):
    model = llama()
    optimizer = BlockCoordinateDescent(
        by_layer(model, **FREEZE), rule=Adam(), order=Fixed([1]), inner_steps=2, lr=1e-3
    )
    asked = []
    monkeypatch.setattr(recompute, "available", lambda *_: asked.append(optimizer.visits_started) or 10**12)
    undo = recompute_layers(model, "free", optimizer=optimizer)
    train(model, optimizer, tokens, 5)
    assert asked == [1, 2, 3], "once in each, though the same block is active"
    optimizer.load_state_dict(optimizer.state_dict())
    train(model, optimizer, tokens, 1)
    assert asked == [1, 2, 3, 3]
    undo()
    assert not optimizer._visit_hooks


@pytest.mark.parametrize(
    "expansion",
    [None, Expansion(ratio=0.1), Expansion(Sign(), reach="above"), Expansion(Sign(), when="backward")],
    ids=["none", "all", "above", "in backward"],
)
def test_pending_is_what_the_first_step_of_a_visit_allocates(expansion, llama, tokens):
    model = llama(torch.bfloat16)
    optimizer = BlockCoordinateDescent(
        by_layer(model, **FREEZE), rule=Adam(), order=Descending(), inner_steps=2, lr=1e-3, master="discard",
        expansion=expansion,
    )  # fmt: skip
    for _ in range(3):
        expected = recompute.pending(model, optimizer)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        now = measured_held(model.parameters(), optimizer)
        counters = 4 * len(optimizer.active_parameters)
        assert expected == now.master + now.gradients + now.state - counters
        assert recompute.pending(model, optimizer) == 0
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.tokens = torch.randint(0, 96, (12, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


@pytest.mark.integration
def test_the_trainer_of_transformers_recomputes(tmp_path, llama):
    weights = []
    for budget in (None, 0):
        model = llama()
        optimizer = BlockCoordinateDescent(
            by_layer(model, **FREEZE), rule=Adam(), order=Descending(), inner_steps=1, lr=1e-2
        )
        recompute_layers(model, budget)
        seen = counted(model)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=3, use_cpu=True, report_to=[],
            save_strategy="no", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=arguments, train_dataset=Rows(),
            optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
        )  # fmt: skip
        trainer.train()
        weights.append([p.detach() for p in model.parameters()])
        # Active are the layers 3, 2, 1, 0: layer i is above or active in the last i + 1 of four steps.
        assert seen == {i: 4 if budget is None else 4 + i + 1 for i in range(LAYERS)}
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_librarys_own_input_gradients_are_refused(llama, tokens, activate):
    model = llama()
    activate(model, 2)
    model.enable_input_require_grads()
    recompute_layers(model)
    with pytest.raises(RuntimeError, match="backward would run through all frozen layers"):
        model(input_ids=tokens, labels=tokens)
    model.disable_input_require_grads()
    backward(model, tokens)


def test_refusals(llama):
    model = llama()
    for budget in (-1, 1.5, True, "all"):
        with pytest.raises(ValueError, match=f"budget={budget!r} is not possible"):
            recompute_layers(model, budget)
    with pytest.raises(ValueError, match="reserve=-1 is not possible"):
        recompute_layers(model, 0, reserve=-1)
    undo = recompute_layers(model)
    with pytest.raises(ValueError, match="recomputed already"):
        recompute_layers(model)
    undo()
    undo_compiled = compile_layers(model, backend="eager")
    undo = recompute_layers(model)
    undo_compiled()
    assert all("forward" in vars(layer) for layer in model.model.layers), "recomputation still needs its place"
    undo()
    assert all("forward" not in vars(layer) for layer in model.model.layers)


@pytest.mark.gpu
def test_free_keeps_within_the_process_memory_fraction():
    """A model whose activations do not fit the fraction is trained within it, and some layers are kept."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.cuda.empty_cache()
    config = LlamaConfig(
        vocab_size=256, hidden_size=1024, intermediate_size=4096, num_hidden_layers=12, num_attention_heads=8,
        use_cache=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(torch.bfloat16).cuda().train()
    tokens = torch.zeros(8, 1024, dtype=torch.long, device="cuda")
    optimizer = BlockCoordinateDescent(
        by_layer(model, **FREEZE), rule=Adam(), order=Fixed([0]), inner_steps=9, lr=1e-3, master="discard"
    )
    chunked_loss(model, chunk=512)
    undo = recompute_layers(model, 10**12)
    backward(model, tokens)
    cost = max(recomputed_layers(model).cost.values())
    undo()
    reserve = 10**9
    total = torch.cuda.get_device_properties(0).total_memory
    limit = torch.cuda.memory_allocated() + reserve + recompute.pending(model, optimizer) + 6 * cost
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        recompute_layers(model, "free", reserve=reserve, optimizer=optimizer)
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert 1 <= len(recomputed_layers(model).kept) < 12
        assert torch.cuda.max_memory_allocated() <= limit
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MIXED = {  # decoders whose layers take different arguments
    "Gemma 4": lambda: hf.Gemma4ForCausalLM(
        hf.Gemma4TextConfig(
            **SMALL, head_dim=8, hidden_size_per_layer_input=8, vocab_size_per_layer_input=96,
            layer_types=["sliding_attention", "full_attention"] * 2,
        )
    ),
    "Gemma 3": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(
            **SMALL, head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 2
        )
    ),
    "LFM 2": lambda: hf.Lfm2ForCausalLM(hf.Lfm2Config(**SMALL, layer_types=["conv", "full_attention"] * 2)),
    "MiniMax": lambda: hf.MiniMaxForCausalLM(
        hf.MiniMaxConfig(
            **SMALL, head_dim=8, num_local_experts=2, layer_types=["linear_attention", "full_attention"] * 2
        )
    ),
}  # fmt: skip


def mixed(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MIXED[name]().train()


@pytest.mark.parametrize(
    ("active", "budget"),
    tiered(list(itertools.product([0, 1], [20_000, 10**9, "free"])), quick=[(0, 10**9), (1, "free")]),
)
@pytest.mark.parametrize("name", MIXED)
def test_layers_that_take_other_arguments_than_the_lowest(name, active, budget, tokens, monkeypatch):
    monkeypatch.setattr(recompute, "available", lambda *_: 400_000)
    usual, model = mixed(name), mixed(name)
    recompute_layers(model, budget, reserve=0)
    for each in (usual, model):
        each.requires_grad_(False)
        find_layers(each)[1][active].requires_grad_(True)
    expected, held_by_all = backward(usual, tokens)
    decided = recomputed_layers(model)
    costs = []
    for _ in range(3):
        gradients, held = backward(model, tokens)
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
        costs.append(dict(decided.cost))
    assert costs[1] == costs[2], "everything is measured once"
    assert decided.kept == set(range(min(decided.kept, default=LAYERS), LAYERS))
    if budget == 10**9:
        assert decided.kept == set(range(active, LAYERS))
        assert held == held_by_all
    else:
        assert len(decided.kept) < LAYERS - active

"""Every decoder of transformers that is quickly built from a tiny configuration, and what the library does with it.

    python -m tests.bcd.zoo              prints a table: one line a type, one column a check
    python -m tests.bcd.zoo llama gpt2   of some types

A check is "ok", "refused" with the library's one-line message, or "FAIL" with what went wrong. "not built" says why a
type is left out: most of them need more than token ids.
"""

import copy
import logging
import os
import sys
import time
import warnings
from collections import Counter

import torch
import transformers as hf
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from bcd import (
    Adam,
    BlockCoordinateDescent,
    Fixed,
    by_groups,
    by_layer,
    by_matrix,
    by_module,
    by_ratio,
    by_regex,
    single,
)
from bcd.execution import chunked_loss, recompute_layers
from bcd.integrations import checkpoint_active_layers
from bcd.outside import find_layers

TYPES = list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
SECONDS = 1.0
WEIGHTS = 10**7
SIZES = {
    64: ("vocab_size", "max_position_embeddings", "n_positions", "n_ctx", "vocab_size_per_layer_input", "max_seq_len"),
    32: (
        "hidden_size", "n_embd", "d_model", "dim", "embedding_size", "embed_dim", "hidden_dim",
        "attention_hidden_size",
    ),
    48: (
        "intermediate_size", "n_inner", "ffn_dim", "d_ff", "decoder_ffn_dim", "encoder_ffn_dim",
        "moe_intermediate_size", "shared_expert_intermediate_size", "ffn_hidden_size", "dim_feedforward", "d_inner",
        "dim_ff", "ffn_size",
    ),
    4: (
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_attention_heads", "n_head",
        "n_heads", "num_heads", "decoder_attention_heads", "num_experts", "num_local_experts", "n_routed_experts",
        "chunk_size", "mamba_chunk_size",
        "conv_kernel", "state_size", "mamba_d_state", "time_step_rank", "hidden_size_per_layer_input", "laurel_rank",
    ),
    2: ("num_key_value_heads", "num_experts_per_tok", "moe_topk", "encoder_layers", "encoder_attention_heads"),
    8: (
        "head_dim", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
        "mamba_headdim", "linear_key_head_dim", "linear_value_head_dim", "dim_head", "d_kv", "global_head_dim",
        "sliding_window",
    ),
    1: ("n_group", "topk_group", "bos_token_id", "n_shared_experts", "mamba_ngroups", "n_groups"),
    0: ("pad_token_id", "first_k_dense_replace"),
}  # fmt: skip
SPECIAL = {  # what no rule above finds
    "codegen": {"rotary_dim": 4},
    "gptj": {"rotary_dim": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 0, "expert_layer_period": 2, "mamba_dt_rank": 4},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "openai-gpt": {"afn": "gelu"},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2, "n_mamba_heads": 8, "num_mem_blocks": 1, "chunk_size": 4,
        "use_shared_attention_adapter": False, "mamba_headdim": 8, "mamba_d_state": 4, "mamba_ngroups": 1,
        "attention_hidden_size": 64, "attention_head_dim": 16,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "chunk_size": 4},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0] * 4,
    },
}  # fmt: skip
IDS = torch.tensor([[3, 9, 27, 14, 5, 11, 40, 2], [7, 1, 33, 21, 8, 17, 4, 12]])
PARTITIONS = {
    "by_layer": by_layer,
    "by_module": by_module,
    "by_matrix": by_matrix,
    "by_groups": lambda model: by_groups(model, 2),
    "by_ratio": lambda model: by_ratio(model, 2),
    "single": single,
    "by_regex": lambda model: by_regex(model, [r".*weight"], rest="train"),
}


def config(kind):
    """The smallest configuration that the rules above make; dropout is off."""
    cls = hf.CONFIG_MAPPING[kind]
    usual = vars(cls())
    changes = {name: size for size, names in SIZES.items() for name in names if isinstance(usual.get(name), int)}
    off = {n: 0.0 for n, v in usual.items() if isinstance(v, float) and ("drop" in n or n.endswith("jitter_noise"))}
    if "kv_lora_rank" in changes:  # latent attention has keys for every head
        changes["num_key_value_heads"] = changes.get("num_attention_heads")
    made = changes | off | {"eos_token_id": 2} | SPECIAL.get(kind, {})
    if hasattr(cls(), "is_decoder"):
        made["is_decoder"] = True
    return cls(**made)


def build(kind):
    """A model with weights from seed 0 in training mode.

    Raises:
        Exception: where none is built, and computes a loss, in `SECONDS` each and with at most `WEIGHTS`.
    """
    made = config(kind)
    with torch.device("meta"):
        size = sum(p.numel() for p in hf.AutoModelForCausalLM.from_config(made).parameters())
    if size > WEIGHTS:
        raise ValueError(f"{size} weights")
    begin = time.process_time()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(made, dtype=torch.float32).train()
        with torch.no_grad():
            for p in model.parameters():  # so that a greedy choice is one
                if p.ndim > 1:
                    p.normal_(0, 0.15)
    called = time.process_time()
    loss_of(copy.deepcopy(model))
    seconds = called - begin, time.process_time() - called
    if max(seconds) > SECONDS:
        raise ValueError(f"{seconds[0]:.1f} s to build, {seconds[1]:.1f} s to call")
    return model


def loss_of(model):
    torch.manual_seed(1)
    return model(input_ids=IDS, labels=IDS).loss


def gradients(model):
    model.zero_grad()
    loss_of(model).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def close(a, b):
    """Equal up to rounding: what is computed again lies elsewhere in memory, by which some kernels of a CPU round.

    Some gradients are zero but for rounding, as those of biases of keys: the largest entry of all sets the scale.
    """
    scale = max(float(gradient.abs().max()) for gradient in b.values() if gradient.numel())
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], rtol=1e-4, atol=1e-6 * scale) for n in a)


def check_partitions(model):
    for name, make in PARTITIONS.items():
        partition = make(model)
        partition.check_covers(model)
        held = sum(block.numel for block in partition.blocks) + sum(p.numel() for p in partition.frozen.values())
        assert held == sum(p.numel() for p in model.parameters()), f"{name} holds {held}"


def check_places(model):
    """Backward of the final norm and the head does not come to the layers; that of the embedding does."""
    layers = find_layers(model)[1]
    seen = []
    handles = [
        layer.register_forward_hook(lambda _m, _a, out: seen.append(any(t.requires_grad for t in tensors(out))))
        for layer in layers
    ]
    try:
        for block in by_layer(model).blocks:
            if block.name not in ("embedding", "final_norm", "head"):
                continue
            model.requires_grad_(False)
            for parameter in block.parameters.values():
                parameter.requires_grad_(True)
            seen.clear()
            loss_of(model)
            assert any(seen) == (block.name == "embedding"), f"{block.name}: {list(block.parameters)}"
    finally:
        for handle in handles:
            handle.remove()
        model.requires_grad_(True)


def tensors(tree):
    return [t for t in torch.utils._pytree.tree_leaves(tree) if isinstance(t, torch.Tensor)]


def check_visit(model):
    partition = by_layer(model)
    index = len(partition) // 2
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = BlockCoordinateDescent(partition, rule=Adam(), order=Fixed([index]), inner_steps=2, lr=1e-2)
    for _ in range(2):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    active = set(partition.blocks[index].parameters)
    assert moved, "nothing moved"
    assert moved <= active, f"{sorted(moved - active)} moved too"


def check_recompute(model):
    layers = find_layers(model)[1]
    for budget in (0, 30_000):
        model.requires_grad_(False)
        layers[1].requires_grad_(True)
        expected = gradients(model)
        undo = recompute_layers(model, budget)
        for _ in range(2):
            assert close(gradients(model), expected), f"other gradients with the budget {budget}"
        undo()


def check_generation(model):
    def generated(each):
        torch.manual_seed(1)
        with torch.no_grad():
            result = each.generate(
                IDS[:1, :4], max_new_tokens=4, min_new_tokens=4, do_sample=False, return_dict_in_generate=True,
                output_logits=True,
            )  # fmt: skip
        return {"tokens": result.sequences, "logits": torch.stack(result.logits)}

    try:
        expected = generated(copy.deepcopy(model))
    except Exception as error:
        return f"the plain model fails: {one_line(error)}"
    assert equal(generated(copy.deepcopy(model)), expected), "the plain model generates differently each time"
    checkpoint_active_layers(model)
    assert equal(generated(model), expected), "other tokens or logits"
    assert model.training
    return "ok"


def check_chunked(model):
    model.requires_grad_(True)
    expected, plain = loss_of(model), gradients(model)
    chunked_loss(model, chunk=3)
    torch.testing.assert_close(loss_of(model), expected, rtol=1e-4, atol=1e-5)
    largest = max(g.abs().max().item() for g in plain.values())
    found = gradients(model)
    assert found.keys() == plain.keys(), "gradients of other parameters"
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4 * largest, msg=f"gradient of {name}")


CHECKS = {
    "partitions": check_partitions,
    "places": check_places,
    "visit": check_visit,
    "recompute": check_recompute,
    "generation": check_generation,
    "chunked": check_chunked,
}
MAY_REFUSE = {"partitions", "places", "visit", "recompute", "chunked"}


def results(kind):
    """Check -> "ok", "refused: WHY" or "FAIL: WHY"; or only "not built" -> WHY."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about tiny configurations
        try:
            model = build(kind)
        except Exception as error:
            return {"not built": one_line(error)}
        found = {}
        for name, check in CHECKS.items():
            try:
                found[name] = check(copy.deepcopy(model)) or "ok"
            except (ValueError, TypeError) as error:
                # The library's own word, and one line of it.
                ours = name in MAY_REFUSE and "bcd" in innermost(error) and "\n" not in str(error)
                found[name] = f"{'refused' if ours else 'FAIL'}: {one_line(error)}"
            except Exception as error:
                found[name] = f"FAIL: {one_line(error)}"
        return found


def innermost(error):
    """The file in which an error was raised, below the repository."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return os.path.relpath(trace.tb_frame.f_code.co_filename).split(os.sep)


def one_line(error):
    return f"{type(error).__name__} {str(error).strip().partition(chr(10))[0][:150]}"


def main(kinds):
    logging.disable(logging.WARNING)
    totals = Counter()
    for kind in kinds or TYPES:
        found = results(kind)
        totals.update(f"{name}: {value.partition(':')[0] if name in CHECKS else ''}" for name, value in found.items())
        print(kind, *(f"{name}={value}" for name, value in found.items()), sep="\t", flush=True)  # noqa: T201
    for name, count in sorted(totals.items()):
        print(f"{count:4}  {name}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])

"""Predicted memory of a method on a model: fake tensors run the visit that needs most. No line knows a method's name.

Assumed: full sequences without padding, so that attention needs no mask and takes a flash kernel (see
`bcd.activations`); every token has a label and the loss holds all logits, as `answer_loss` does; no cache of keys and
values; the kernels that `bcd` takes on a GPU; an allocator without fragmentation. On one H100 (torch 2.11, Llama 3-8B
with random weights, 2,048 and 8,192 tokens) BAdam allocated 0.07 GB more than predicted in each phase: workspaces.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bcd import BlockCoordinateDescent
from bcd.activations import LivePeak, SavedTensors
from bcd.compiled import supports
from bcd.integrations import checkpoint_active_layers
from bcd.memory import Held, Phases, held, nbytes, phases, scratch_bytes, update_bytes
from bcd.partitions import find_layers
from experiments.methods import Method, Trainable

ATTENTION = "sdpa_without_mask"


@dataclass(frozen=True)
class Prediction:
    """Predicted bytes of a method in the visit that needs most.

    weights_count: scalars of the model.     visit, visits: index of that visit, and how many there are.
    first: name of its first parameter.     held, scratch: see `bcd.memory`.
    activations, loss: saved for backward by the model and by the loss.
    """

    weights_count: int
    visit: int
    visits: int
    first: str
    held: Held
    scratch: int
    activations: int
    loss: int
    phases: Phases


def predict(model: Any, method: Method, *, batch: int, sequence: int, recompute: bool) -> Prediction:
    """Predict the bytes of training `model`, which is on the meta device and is used up.

    batch, sequence: sequences of one forward and backward pass, and tokens of each.
    recompute: checkpoint each layer, see `bcd.integrations.checkpoint_active_layers`.
    """
    model.train()
    without_mask(model)
    trainable = method(model)
    if recompute:
        checkpoint_active_layers(trainable.model)
    chosen = {index: (_held(trainable, index), *_update(trainable, index)) for index in candidates(trainable)}
    with FakeTensorMode():
        copies = fake_parameters(trainable.model)
        tokens = torch.zeros(batch, sequence, dtype=torch.long)
        consumed = trainable.foreign.consumed if trainable.foreign else None
        found = [_visit(trainable, index, *static, copies, tokens, consumed) for index, static in chosen.items()]
    return max(found, key=lambda prediction: prediction.phases.peak)


def without_mask(model: Any) -> None:
    """Give attention no mask, as transformers does for real sequences without padding.

    On fake tensors it cannot look whether a mask is needed, and a mask brings other kernels and tokens x tokens bytes.
    An attention function that transformers has no mask for gets none.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(ATTENTION, sdpa_attention_forward)
    model.set_attn_implementation(ATTENTION)


def fake_parameters(model: nn.Module) -> dict[int, nn.Parameter]:
    """Put fake CPU tensors in place of the parameters and buffers of a model on the meta device, tied ones kept tied.

    Returns id of the former parameter -> its fake copy. Call it inside FakeTensorMode. The method is built on the meta
    device before, because block orders draw real numbers.
    """
    copies: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in copies:
                copies[id(parameter)] = nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype))
            setattr(module, name, copies[id(parameter)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
    return copies


def all_logits(model: Any, tokens: Tensor) -> Tensor:
    """Logits of every token that has a next one, chosen as `answer_loss` chooses them."""
    columns = torch.arange(tokens.shape[1] - 1)
    return model(input_ids=tokens, logits_to_keep=columns, use_cache=False).logits


def activations(
    model: nn.Module, tokens: Tensor, consumed: Callable[[Tensor], None] | None = None
) -> tuple[int, int, int]:
    """Bytes saved by the model, bytes saved by the loss, and the live peak of forward and backward.

    Runs both passes on the parameters that require a gradient, real or fake, and drops the gradients again.
    consumed: what happens to a parameter as soon as its gradient is complete; None: nothing.
    """
    known = [*model.parameters(), *model.buffers(), tokens]
    hooks = []
    if consumed is not None:
        trained = (p for p in model.parameters() if p.requires_grad)
        hooks = [parameter.register_post_accumulate_grad_hook(consumed) for parameter in trained]
    with SavedTensors() as saved, LivePeak() as live:
        logits = all_logits(model, tokens)
        by_model = saved.nbytes(known)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        del logits
        total = saved.nbytes(known)
        loss.backward()
    for hook in hooks:
        hook.remove()
    for parameter in model.parameters():
        parameter.grad = None
    return by_model, total - by_model, live.peak


def candidates(trainable: Trainable) -> list[int]:
    """Indices of the visits that may need most: no other one starts in a lower layer and holds as much.

    Visits of the same parameters (rows of them) differ in their state only, so the largest stands for them.
    """
    _, layers = find_layers(trainable.model)
    place = {id(p): i for i, layer in enumerate(layers) for p in layer.parameters()}
    seen = {id(p) for p in trainable.model.get_input_embeddings().parameters()}  # pyright: ignore[reportCallIssue]
    place |= dict.fromkeys(seen, -1)
    largest: dict[frozenset[int], tuple[int, int]] = {}
    for index, visit in enumerate(trainable.visits):
        size = _held(trainable, index).device
        key = frozenset(id(part.parameter) for part in visit)
        if key not in largest or size > largest[key][0]:
            largest[key] = (size, index)
    lowest = {key: min(place.get(parameter, len(layers)) for parameter in key) for key in largest}
    return [
        index
        for key, (size, index) in largest.items()
        if not any(lowest[other] < lowest[key] and largest[other][0] >= size for other in largest)
    ]


def _held(trainable: Trainable, index: int) -> Held:
    visit, optimizer = trainable.visits[index], trainable.optimizer
    if trainable.foreign is not None:
        return trainable.foreign.held(index)
    rule = {"state_tensors": trainable.state_tensors, "counts_steps": trainable.counts_steps}
    parameters = list(trainable.model.parameters())
    if not isinstance(optimizer, BlockCoordinateDescent):
        return held(parameters, visit, **rule)
    everything = [part for block in optimizer.partition.blocks for part in block.parts]
    now = {(id(part.parameter), part.rows) for part in visit}
    visited = [part for part in everything if (id(part.parameter), part.rows) not in now]
    found = held(parameters, visit, visited, **rule, state=optimizer.state_lifetime, master=optimizer.master)
    if getattr(optimizer.order, "needs_gradients", False):  # to choose the next blocks
        return dataclasses.replace(found, gradients=nbytes(part.parameter for part in everything))
    return found


def _update(trainable: Trainable, index: int) -> tuple[int, int]:
    """Temporary bytes of the update, and of what it keeps as scratch, on a GPU."""
    visit, optimizer, tensors = trainable.visits[index], trainable.optimizer, trainable.state_tensors
    if trainable.foreign is not None:
        return trainable.foreign.update(index), 0
    if not isinstance(optimizer, BlockCoordinateDescent):
        return update_bytes([visit], state_tensors=tensors, fused=bool(optimizer.defaults.get("fused"))), 0
    now = {(id(part.parameter), part.rows) for part in visit}
    parts = (block.parts for block in optimizer.partition.blocks)
    active = [block for block in parts if {(id(part.parameter), part.rows) for part in block} <= now]
    fused, master = bool(getattr(optimizer.rule, "fused", False)), optimizer.master
    compiled = supports(optimizer.rule) if optimizer.compiled is None else optimizer.compiled
    temporary = update_bytes(active, state_tensors=tensors, fused=fused, master=master, compiled=compiled)
    return temporary, scratch_bytes(visit, master=master, compiled=compiled)


def _visit(
    trainable: Trainable,
    index: int,
    now: Held,
    update: int,
    scratch: int,
    copies: Mapping[int, nn.Parameter],
    tokens: Tensor,
    consumed: Callable[[Tensor], None] | None,
) -> Prediction:
    visit, model, optimizer = trainable.visits[index], trainable.model, trainable.optimizer
    graph = {id(part.parameter) for part in visit}
    if isinstance(optimizer, BlockCoordinateDescent) and getattr(optimizer.order, "needs_gradients", False):
        graph = {id(p) for block in optimizer.partition.blocks for p in block.parameters.values()}
    for former, parameter in copies.items():
        parameter.requires_grad_(former in graph)
    by_model, by_loss, peak = activations(model, tokens, consumed)
    if consumed is not None:
        now = dataclasses.replace(now, gradients=0)
    return Prediction(
        weights_count=sum(p.numel() for p in model.parameters()),
        visit=index,
        visits=len(trainable.visits),
        first=visit[0].name,
        held=now,
        scratch=scratch,
        activations=by_model,
        loss=by_loss,
        phases=phases(now, saved=by_model + by_loss, live_peak=peak, update=update, scratch=scratch),
    )

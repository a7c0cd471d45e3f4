"""Predicted memory of a method on a model: fake tensors run the visit that needs most. No line knows a method's name.

Assumed: full sequences without padding, so that attention needs no mask and takes a flash kernel (see
`bcd.memory.activations`); every token has a label; no cache of keys and
values; the kernels that `bcd` takes on a GPU; an allocator without fragmentation.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bcd.execution import Execution, recomputed_layers, sliced_bytes
from bcd.execution.row_gradients import slice_anew
from bcd.memory import Held, Phases, phases
from bcd.memory.activations import LivePeak, SavedTensors
from bcd.partitions import find_layers
from experiments.cost.graphs import fused_backend
from experiments.methods import Method, Trainable

ATTENTION = "sdpa_without_mask"
CONTEXT = 5 * 10**8
"""Bytes that a process takes on a GPU for its CUDA context, about: 0.5 GB on an H100."""
Consumed = Callable[[Tensor], None]
"""What backward does with a parameter whose gradient is complete and used up."""


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


@dataclass(frozen=True)
class Prediction:
    """Predicted bytes of a method in the visit that needs most.

    Attributes:
        weights_count: scalars of the model.
        visit: index of that visit.
        visits: how many there are.
        first: name of the visit's first parameter.
        held: see `bcd.memory.held`.
        scratch: see `bcd.memory.scratch_bytes`.
        activations: saved for backward by the model.
        loss: saved for backward by the loss.
        phases: see `bcd.memory.phases`.
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


def predict(
    model: Any,
    method: Method,
    execution: Execution,
    *,
    batch: int,
    sequence: int,
    limit: int | None = None,
    accumulated: bool = False,
) -> Prediction:
    """Predict the bytes of training `model`, which is on the meta device and is used up.

    Args:
        model: any Hugging Face model.
        method: makes it trainable.
        execution: how the step is computed.
        batch: sequences of one forward and backward pass.
        sequence: tokens of each sequence.
        limit: bytes of the card that an execution with recompute="free" fills, CUDA context included; None: no limit.
        accumulated: whether a step has further micro-batches, whose gradients are there during forward and backward.
    """
    model.train()
    without_mask(model)
    trainable = method(model)
    set_up(execution, trainable, limit)
    footprint = trainable.footprint
    inside = execution.step_in_backward
    consumed = _drop if inside else footprint.consumed or _drop
    static: dict[int, tuple[Held, int, int]] = {}
    for i in candidates(trainable):
        held = footprint.held(i)
        if execution.row_gradients == "sliced":
            held = dataclasses.replace(held, gradients=sliced_bytes(trainable.model, trainable.visits[i]))
        static[i] = held, footprint.update(i), footprint.scratch(i)
    with FakeTensorMode():
        copies = fake_parameters(trainable.model)
        slice_anew(trainable.model)
        tokens = torch.zeros(batch, sequence, dtype=torch.long)
        each = [_visit(trainable, index, *sizes, copies, tokens, consumed, inside) for index, sizes in static.items()]
    if accumulated:
        each = [_with_gradients(prediction) for prediction in each]
    return max(each, key=lambda prediction: prediction.phases.peak)


def _with_gradients(prediction: Prediction) -> Prediction:
    """The same with the gradients of earlier micro-batches beside those of the present one."""
    first, gradients = prediction.phases, prediction.held.gradients
    later = dataclasses.replace(first, forward=first.forward + gradients, backward=first.backward + gradients)
    return dataclasses.replace(prediction, phases=later)


def set_up(execution: Execution, trainable: Trainable, limit: int | None) -> None:
    """What `execution` does, in a form that runs on fake tensors: graphs as `experiments.cost.graphs` runs them.

    The step in backward is left out: on fake tensors it is to drop each gradient.

    Args:
        execution: how the step is computed.
        trainable: what is set up.
        limit: see `predict`.
    """
    torch.compiler.reset()  # graphs of other predictions count towards the compiler's limit
    backend: Any = fused_backend() if execution.compiled else execution.backend
    shown = dataclasses.replace(execution, backend=backend, step_in_backward=False)
    shown(trainable.model, trainable.optimizer, check=False)
    keeps = recomputed_layers(trainable.model)
    if keeps is not None and limit is not None:
        largest = max(trainable.footprint.held(index).device for index in candidates(trainable))
        keeps.available = lambda model, optimizer: limit - CONTEXT - largest


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

    Call it inside FakeTensorMode. The method is built on the meta device before, because block orders draw real
    numbers.

    Returns:
        id of the former parameter -> its fake copy.
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


def activations(
    model: Any, tokens: Tensor, consumed: Consumed = _drop, used_up: Sequence[Tensor] = ()
) -> tuple[int, int, int]:
    """Run forward and backward on the parameters that require a gradient, and drop the gradients again.

    Args:
        model: real or fake.
        tokens: (sequences, length).
        consumed: what happens to a parameter of `used_up` as soon as its gradient is complete.
        used_up: parameters of the model.

    Returns:
        Bytes saved by the model, bytes saved by the loss, and the live peak of both passes.
    """
    before = [*model.parameters(), *model.buffers(), tokens]
    hooks: list[Any] = [parameter.register_post_accumulate_grad_hook(consumed) for parameter in used_up]
    with SavedTensors() as saved, LivePeak() as live:
        seen: list[int] = []
        hooks.append(model.get_decoder().register_forward_hook(lambda *_: seen.append(saved.nbytes(before))))
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        (by_model,) = seen
        total = saved.nbytes(before)
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
        size = trainable.footprint.held(index).device
        key = frozenset(id(part.parameter) for part in visit)
        if key not in largest or size > largest[key][0]:
            largest[key] = (size, index)
    lowest = {key: min(place.get(parameter, len(layers)) for parameter in key) for key in largest}
    return [
        index
        for key, (size, index) in largest.items()
        if not any(lowest[other] < lowest[key] and largest[other][0] >= size for other in largest)
    ]


def _visit(
    trainable: Trainable,
    index: int,
    now: Held,
    update: int,
    scratch: int,
    copies: Mapping[int, nn.Parameter],
    tokens: Tensor,
    consumed: Consumed,
    inside: bool,
) -> Prediction:
    visit, model = trainable.visits[index], trainable.model
    graph = {id(p): copies[id(p)] for p in trainable.footprint.differentiated(index)}
    used_up = list(graph.values()) if inside else [copies[id(p)] for p in trainable.footprint.used_up(index)]
    for former, parameter in copies.items():
        parameter.requires_grad_(former in graph)
    by_model, by_loss, peak = activations(model, tokens, consumed, used_up)
    if len(used_up) == len(graph):
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

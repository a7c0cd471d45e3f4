"""Partitions of a module: by layer, module, matrix, group of layers, ratio or regular expression, and single.

Layers are found in the module tree, never by name, so any Hugging Face decoder and a plain nn.Sequential will do.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from bcd.blocks import Block, Partition, has_gradient, is_frozen_by_others, warn_of_frozen
from bcd.checks import require_choice, require_flag, require_whole
from bcd.outside import (
    find_layers,
    other_parts,
    outside_layers,
    require_one_choice_for_a_tied_head,
    tied_names,
)

__all__ = ["by_groups", "by_layer", "by_matrix", "by_module", "by_ratio", "by_regex", "single"]

Choice = Literal["train", "join", "freeze"]
"""What happens to the parameters outside the layers: an own block, part of the neighbouring layer's block,
or no training at all."""
Rest = Literal["train", "freeze"] | None
"""What happens to other parts of a model than the one with the layers, such as a vision tower and its projector: a
first block "rest", no training, or (None) a refusal that names them."""


def single(
    module: nn.Module,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
    only_trainable: bool = False,
) -> Partition:
    """One block with everything that is not frozen: block coordinate descent becomes the full optimizer.

    Choices and errors are those of `by_layer`; ``"train"`` and ``"join"`` mean the same. Layers are needed only to
    freeze something.
    """
    if {embedding, final_norm, head} == {"train"}:
        taken = _takes(only_trainable)
        everything = dict(module.named_parameters())
        mine = {name: p for name, p in everything.items() if taken(p)}
        frozen = {name: p for name, p in everything.items() if name not in mine}
        return _finished((Block("all", mine),) if mine else (), frozen, tied_names(module), only_trainable)
    layered = by_layer(module, embedding=embedding, final_norm=final_norm, head=head, only_trainable=only_trainable)
    everything = {name: p for block in layered.blocks for name, p in block.parameters.items()}
    return Partition((Block("all", everything),), layered.frozen, layered.tied)


def by_layer(
    module: nn.Module,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
    only_trainable: bool = False,
    rest: Rest = None,
) -> Partition:
    """One block per layer (the partition of BAdam, arXiv 2404.02827, section 2).

    Parameters outside the layers: ``"train"`` makes them a block (embedding first, final norm and head last),
    ``"join"`` adds them to the neighbouring layer, ``"freeze"`` never trains them. BAdam as published freezes all.
    A tied head is one tensor with the embedding: both choices must agree. A tensor that several layers share is in the
    block of the first. Which parameters are embedding, final norm and head says `bcd.outside`.

    Parameters that are not floating point, such as quantized weights, stay frozen, and all others are trained whatever
    their ``requires_grad`` was: a warning says so of both.

    Args:
        module: any Hugging Face decoder model or a plain ``nn.Sequential``.
        embedding: what happens to it; its neighbour is the first layer.
        final_norm: what happens to it; its neighbour is the last layer.
        head: what happens to it; its neighbour is the last layer. A tied one is trained where the embedding is.
        only_trainable: leave parameters frozen that do not require a gradient, such as those below an adapter. What an
            optimizer of this library has frozen for a visit does not count.
        rest: see `Rest`. The layers are the largest list of them.

    Raises:
        ValueError: on an unknown choice, a module without layers, a tied head whose choice differs, or a second list
            of layers with rest=None.

    >>> from torch import nn
    >>> partition = by_layer(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
    >>> [(block.name, block.numel) for block in partition.blocks]
    [('0', 9), ('2', 4)]
    """
    return _by_pieces(module, _whole, embedding, final_norm, head, only_trainable, rest)


def by_module(
    module: nn.Module,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
    only_trainable: bool = False,
    rest: Rest = None,
) -> Partition:
    """One block per module inside each layer, for example attention and MLP.

    Children of a layer that hold a matrix become blocks. The norms of the layer (children with vectors only)
    are dealt to these blocks in registration order, which pairs ``input_layernorm`` with attention and
    ``post_attention_layernorm`` with the MLP. A layer without such children stays one block.
    Choices and errors are those of `by_layer`.
    """
    return _by_pieces(module, _split_layer, embedding, final_norm, head, only_trainable, rest)


def by_matrix(
    module: nn.Module,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
    only_trainable: bool = False,
    rest: Rest = None,
) -> Partition:
    """One block per matrix inside each layer; the vectors of a layer (norms, biases) join its first matrix.

    Choices and errors are those of `by_layer`.
    """
    return _by_pieces(module, _split_matrices, embedding, final_norm, head, only_trainable, rest)


def by_groups(
    module: nn.Module,
    size: int,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
    only_trainable: bool = False,
    rest: Rest = None,
) -> Partition:
    """One block per `size` neighbouring layers; the last block has what is left.

    Choices and errors are those of `by_layer`.

    Raises:
        ValueError: when size < 1.
    """
    require_whole("size", size, least=1, why="a block has a whole number of layers, at least one")
    return _by_pieces(module, _whole, embedding, final_norm, head, only_trainable, rest, size)


def by_ratio(
    module: nn.Module,
    parts: int,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
    only_trainable: bool = False,
) -> Partition:
    """`parts` blocks, each with 1/parts of the rows of every tensor that is not frozen (dense storage).

    Every visit touches every tensor, so autograd computes all gradients: gradients take as many bytes as in full
    training, and only the optimizer state shrinks by the factor `parts`. A tensor with fewer rows than `parts` is in
    as many blocks as it has rows. ``"train"`` and ``"join"`` mean the same here.

    Choices and errors are those of `single`.

    Raises:
        ValueError: when parts < 1 or a block would be empty.
    """
    require_whole("parts", parts, least=1, why="a whole number of parts is needed, at least one")
    whole = single(module, embedding=embedding, final_norm=final_norm, head=head, only_trainable=only_trainable)
    tensors = whole.blocks[0].parameters
    longest = max(tensor.shape[0] if tensor.ndim else 1 for tensor in tensors.values())
    if parts > longest:
        raise ValueError(f"parts={parts} is not possible: the longest tensor has {longest} rows, so a block is empty")
    rows_of: list[dict[str, tuple[int, int] | None]] = [{} for _ in range(parts)]
    for name, tensor in tensors.items():
        if not tensor.ndim or not len(tensor):  # a single number has no rows, and an empty tensor none to share
            rows_of[-1][name] = None
            continue
        rows = tensor.shape[0]
        for i in range(parts):
            start, stop = i * rows // parts, (i + 1) * rows // parts
            if start < stop:
                rows_of[i][name] = (start, stop)
    blocks = [
        Block(
            f"part {i} of {parts}",
            {name: tensors[name] for name in ranges},
            {name: rows for name, rows in ranges.items() if rows is not None},
        )
        for i, ranges in enumerate(rows_of)
    ]
    return Partition(tuple(blocks), whole.frozen, whole.tied)


def by_regex(module: nn.Module, patterns: Sequence[str], *, rest: Literal["train", "freeze"]) -> Partition:
    """One block per regular expression: the parameters whose whole name matches it and no earlier one.

    Args:
        patterns: of parameter names, for example ``r"model\\.layers\\.[0-3]\\..*"``.
        rest: what happens to parameters that match none: a last block "rest" (but for whole numbers, such as quantized
            weights, which have no gradient), or no training.

    Raises:
        ValueError: for a pattern that is no regular expression or matches nothing, or an unknown choice.
    """
    require_choice("rest", rest, ("train", "freeze"))
    if isinstance(patterns, str):
        raise ValueError(f"patterns={patterns!r} is not possible: one pattern is a list too, [{patterns!r}]")
    remaining = dict(module.named_parameters())
    blocks = []
    for pattern in patterns:
        try:
            matched = {name: remaining[name] for name in remaining if re.fullmatch(pattern, name)}
        except (re.error, TypeError) as error:
            raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from error
        if not matched:
            raise ValueError(
                f"pattern {pattern!r} matches no parameter that is left; there are {', '.join(remaining)}"
            )
        blocks.append(Block(pattern, matched))
        remaining = {name: p for name, p in remaining.items() if name not in matched}
    if rest == "train" and (trained := {name: p for name, p in remaining.items() if has_gradient(p)}):
        blocks.append(Block("rest", trained))
        remaining = {name: p for name, p in remaining.items() if name not in trained}
    return Partition(tuple(blocks), remaining, tied_names(module))


Named = Callable[[str, nn.Module], dict[str, Tensor]]
"""Name and module to its parameters that are trained, by their names in the model."""


def _takes(only_trainable: bool) -> Callable[[Tensor], bool]:
    """Whether a partition trains a parameter."""
    require_flag("only_trainable", only_trainable)
    return lambda p: has_gradient(p) and not (only_trainable and is_frozen_by_others(p))


def _whole(name: str, layer: nn.Module, named: Named) -> list[Block]:
    parameters = named(name, layer)
    return [Block(name, parameters)] if parameters else []


def _split_matrices(name: str, layer: nn.Module, named: Named) -> list[Block]:
    parameters = named(name, layer)
    matrices = {n: {n: p} for n, p in parameters.items() if p.ndim > 1}
    if not matrices:
        return _whole(name, layer, named)
    next(iter(matrices.values())).update({n: p for n, p in parameters.items() if p.ndim <= 1})
    return [Block(n, part) for n, part in matrices.items()]


def _split_layer(name: str, layer: nn.Module, named: Named) -> list[Block]:
    children = {child_name: named(f"{name}.{child_name}", child) for child_name, child in layer.named_children()}
    matrices = {n: ps for n, ps in children.items() if any(p.ndim > 1 for p in ps.values())}
    norms = [ps for n, ps in children.items() if ps and n not in matrices]
    direct = {n: p for n, p in named(name, layer).items() if "." not in n.removeprefix(f"{name}.")}
    if not matrices:
        return _whole(name, layer, named)
    parts = list(matrices.values())
    for j, norm in enumerate(norms):
        parts[j * len(parts) // len(norms)].update(norm)
    parts[0].update(direct)
    return [Block(f"{name}.{n}", part) for n, part in zip(matrices, parts, strict=True)]


def _joined(blocks: Sequence[Block]) -> Block:
    """One block of several neighbours, named by the first and the last."""
    name = blocks[0].name if len(blocks) == 1 else f"{blocks[0].name}..{blocks[-1].name.rpartition('.')[2]}"
    return Block(name, {n: p for block in blocks for n, p in block.parameters.items()})


def _without_repetition(blocks: Sequence[Block]) -> list[Block]:
    """Every tensor in the first block that has it, and no block that has none of its own."""
    held: set[int] = set()
    kept = []
    for block in blocks:
        own = {name: p for name, p in block.parameters.items() if id(p) not in held}
        held.update(map(id, own.values()))
        kept += [Block(block.name, own)] if own else []
    return kept


def _by_pieces(
    module: nn.Module,
    split: Callable[[str, nn.Module, Named], list[Block]],
    embedding: Choice,
    final_norm: Choice,
    head: Choice,
    only_trainable: bool,
    rest: Rest,
    size: int = 1,
) -> Partition:
    choices = {"embedding": embedding, "final_norm": final_norm, "head": head}
    for key, choice in choices.items():
        require_choice(key, choice, get_args(Choice))
    if rest is not None:
        require_choice("rest", rest, ("train", "freeze"))
    taken = _takes(only_trainable)

    def named(prefix: str, inner: nn.Module) -> dict[str, Tensor]:
        return {name: p for name, p in inner.named_parameters(prefix=prefix) if taken(p)}

    prefix, layers = find_layers(module)
    names = {id(child): name for name, child in module.named_modules()}
    pieces = _without_repetition([block for layer in layers for block in split(names[id(layer)], layer, named)])
    blocks = [_joined(pieces[i : i + size]) for i in range(0, len(pieces), size)]
    inside = {id(p): p for layer in layers for p in layer.parameters()}
    others = {} if rest is None else other_parts(module, prefix, set(inside))
    outside = outside_layers(module, prefix, layers, set(inside), others)
    require_one_choice_for_a_tied_head(module, outside["embedding"], choices)
    frozen: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if not taken(p)}
    for key, parameters in outside.items():
        mine = {name: p for name, p in parameters.items() if name not in frozen}
        if not mine:
            continue
        first = key == "embedding"
        if choices[key] == "freeze":
            frozen.update(mine)
        elif choices[key] == "join" and blocks:
            place = 0 if first else -1
            blocks[place] = Block(blocks[place].name, {**blocks[place].parameters, **mine})
        else:
            blocks.insert(0 if first else len(blocks), Block(key, mine))
    if rest == "train" and (mine := {name: p for name, p in others.items() if name not in frozen}):
        blocks.insert(0, Block("rest", mine))
    elif rest == "freeze":
        frozen.update(others)
    partition = _finished(tuple(blocks), frozen, tied_names(module), only_trainable)
    partition.check_covers(module)
    return partition


def _finished(
    blocks: tuple[Block, ...], frozen: Mapping[str, Tensor], tied: Mapping[str, str], only_trainable: bool
) -> Partition:
    if not blocks and only_trainable:
        raise ValueError(
            "only_trainable=True is not possible: no parameter requires a gradient outside of what is frozen by choice"
        )
    partition = Partition(blocks, frozen, tied)
    if not only_trainable:
        warn_of_frozen(partition)
    return partition

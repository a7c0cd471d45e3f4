"""Partitions of a module: by layer, module, matrix, group of layers, ratio or regular expression, and single.

Layers are found in the module tree, never by name, so any Hugging Face decoder and a plain nn.Sequential will do.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from bcd.blocks import Block, Partition
from bcd.checks import require_choice, require_whole

__all__ = ["by_groups", "by_layer", "by_matrix", "by_module", "by_ratio", "by_regex", "single"]

Choice = Literal["train", "join", "freeze"]
"""What happens to the parameters outside the layers: an own block, part of the neighbouring layer's block,
or no training at all."""


def find_layers(module: nn.Module) -> tuple[str, list[nn.Module]]:
    """The repeated layers of `module`: the outermost ModuleList or Sequential that holds most parameters.

    Works on any Hugging Face decoder (``model.layers``, ``transformer.h``, ...) and on a plain ``nn.Sequential``;
    names are never matched, so ``layers.1`` cannot catch ``layers.10``.

    Returns:
        Its qualified name (``""`` when `module` itself is the Sequential) and its children that have parameters.

    Raises:
        ValueError: when there is none.
    """
    candidates: dict[str, nn.Module] = {}
    for name, child in module.named_modules():
        inside_another = any(outer == "" or name.startswith(outer + ".") for outer in candidates)
        if isinstance(child, nn.ModuleList | nn.Sequential) and not inside_another:
            candidates[name] = child
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in candidates.items()}
    if not sizes or max(sizes.values()) == 0:
        children = [name for name, _ in module.named_children()]
        raise ValueError(
            f"{type(module).__name__} has no ModuleList or Sequential of layers with parameters "
            f"(its children are {children}); use single() or build a Partition by hand"
        )
    name = max(sizes, key=lambda key: sizes[key])
    return name, [layer for layer in candidates[name].children() if any(True for _ in layer.parameters())]


def single(
    module: nn.Module, *, embedding: Choice = "train", final_norm: Choice = "train", head: Choice = "train"
) -> Partition:
    """One block with everything that is not frozen: block coordinate descent becomes the full optimizer.

    Choices and errors are those of `by_layer`; ``"train"`` and ``"join"`` mean the same. Layers are needed only to
    freeze something.
    """
    if {embedding, final_norm, head} == {"train"}:
        return Partition((Block("all", dict(module.named_parameters())),), {}, _tied(module))
    layered = by_layer(module, embedding=embedding, final_norm=final_norm, head=head)
    everything = {name: p for block in layered.blocks for name, p in block.parameters.items()}
    return Partition((Block("all", everything),), layered.frozen, layered.tied)


def by_layer(
    module: nn.Module, *, embedding: Choice = "train", final_norm: Choice = "train", head: Choice = "train"
) -> Partition:
    """One block per layer (the partition of BAdam, arXiv 2404.02827, section 2).

    Parameters outside the layers: ``"train"`` makes them a block (embedding first, final norm and head last),
    ``"join"`` adds them to the neighbouring layer, ``"freeze"`` never trains them. BAdam as published freezes all.
    A tied head is one tensor with the embedding: both choices must agree.

    Args:
        module: any Hugging Face decoder model or a plain ``nn.Sequential``.
        embedding: what happens to it; its neighbour is the first layer.
        final_norm: what happens to it; its neighbour is the last layer.
        head: what happens to it; its neighbour is the last layer. A tied one is trained where the embedding is.

    Raises:
        ValueError: on an unknown choice, a module without layers, or a tied head whose choice differs.

    >>> from torch import nn
    >>> partition = by_layer(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
    >>> [(block.name, block.numel) for block in partition.blocks]
    [('0', 9), ('2', 4)]
    """
    return _by_pieces(module, _whole, embedding, final_norm, head)


def by_module(
    module: nn.Module, *, embedding: Choice = "train", final_norm: Choice = "train", head: Choice = "train"
) -> Partition:
    """One block per module inside each layer, for example attention and MLP.

    Children of a layer that hold a matrix become blocks. The norms of the layer (children with vectors only)
    are dealt to these blocks in registration order, which pairs ``input_layernorm`` with attention and
    ``post_attention_layernorm`` with the MLP. A layer without such children stays one block.
    Choices and errors are those of `by_layer`.
    """
    return _by_pieces(module, _split_layer, embedding, final_norm, head)


def by_matrix(
    module: nn.Module, *, embedding: Choice = "train", final_norm: Choice = "train", head: Choice = "train"
) -> Partition:
    """One block per matrix inside each layer; the vectors of a layer (norms, biases) join its first matrix.

    Choices and errors are those of `by_layer`.
    """
    return _by_pieces(module, _split_matrices, embedding, final_norm, head)


def by_groups(
    module: nn.Module,
    size: int,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
) -> Partition:
    """One block per `size` neighbouring layers; the last block has what is left.

    Choices and errors are those of `by_layer`.

    Raises:
        ValueError: when size < 1.
    """
    require_whole("size", size, least=1, why="a block has a whole number of layers, at least one")
    return _by_pieces(module, _whole, embedding, final_norm, head, size)


def by_ratio(
    module: nn.Module,
    parts: int,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
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
    whole = single(module, embedding=embedding, final_norm=final_norm, head=head)
    tensors = whole.blocks[0].parameters
    longest = max(tensor.shape[0] if tensor.ndim else 1 for tensor in tensors.values())
    if parts > longest:
        raise ValueError(f"parts={parts} is not possible: the longest tensor has {longest} rows, so a block is empty")
    rows_of: list[dict[str, tuple[int, int] | None]] = [{} for _ in range(parts)]
    for name, tensor in tensors.items():
        if not tensor.ndim:  # a single number has no rows
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
        rest: what happens to parameters that match none: a last block "rest", or no training.

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
    if remaining and rest == "train":
        blocks.append(Block("rest", remaining))
        remaining = {}
    return Partition(tuple(blocks), remaining, _tied(module))


def _whole(name: str, layer: nn.Module) -> list[Block]:
    return [Block(name, _named(name, layer))]


def _split_matrices(name: str, layer: nn.Module) -> list[Block]:
    parameters = _named(name, layer)
    matrices = {n: {n: p} for n, p in parameters.items() if p.ndim > 1}
    if not matrices:
        return _whole(name, layer)
    next(iter(matrices.values())).update({n: p for n, p in parameters.items() if p.ndim <= 1})
    return [Block(n, part) for n, part in matrices.items()]


def _joined(blocks: Sequence[Block]) -> Block:
    """One block of several neighbours, named by the first and the last."""
    name = blocks[0].name if len(blocks) == 1 else f"{blocks[0].name}..{blocks[-1].name.rpartition('.')[2]}"
    return Block(name, {n: p for block in blocks for n, p in block.parameters.items()})


def _split_layer(name: str, layer: nn.Module) -> list[Block]:
    children = {child_name: _named(f"{name}.{child_name}", child) for child_name, child in layer.named_children()}
    matrices = {n: ps for n, ps in children.items() if any(p.ndim > 1 for p in ps.values())}
    norms = [ps for n, ps in children.items() if ps and n not in matrices]
    direct = {f"{name}.{n}": p for n, p in layer.named_parameters(recurse=False)}
    if not matrices:
        return _whole(name, layer)
    parts = list(matrices.values())
    for j, norm in enumerate(norms):
        parts[j * len(parts) // len(norms)].update(norm)
    parts[0].update(direct)
    return [Block(f"{name}.{n}", part) for n, part in zip(matrices, parts, strict=True)]


def _by_pieces(
    module: nn.Module,
    split: Callable[[str, nn.Module], list[Block]],
    embedding: Choice,
    final_norm: Choice,
    head: Choice,
    size: int = 1,
) -> Partition:
    choices = {"embedding": embedding, "final_norm": final_norm, "head": head}
    for key, choice in choices.items():
        require_choice(key, choice, get_args(Choice))
    prefix, layers = find_layers(module)
    names = {id(child): name for name, child in module.named_modules()}
    pieces = [block for layer in layers for block in split(names[id(layer)], layer)]
    blocks = [_joined(pieces[i : i + size]) for i in range(0, len(pieces), size)]
    outside = _outside_layers(module, prefix, {id(p) for block in blocks for p in block.parameters.values()})
    tied = _tied(module)
    _check_tied_head(module, outside["embedding"], choices)
    frozen: dict[str, Tensor] = {}
    for key, parameters in outside.items():
        if not parameters:
            continue
        first = key == "embedding"
        if choices[key] == "freeze":
            frozen.update(parameters)
        elif choices[key] == "join":
            place = 0 if first else -1
            blocks[place] = Block(blocks[place].name, {**blocks[place].parameters, **parameters})
        else:
            blocks.insert(0 if first else len(blocks), Block(key, parameters))
    partition = Partition(tuple(blocks), frozen, tied)
    partition.check_covers(module)
    return partition


def _outside_layers(module: nn.Module, prefix: str, held: set[int]) -> dict[str, dict[str, Tensor]]:
    """Sort the parameters outside the layers into embedding, final norm and head.

    nn.Embedding, and whatever has "emb" in its name, is embedding. Of the rest, modules with vectors only are the
    final norm wherever they are registered (OPT registers it before the layers), and matrices are the head, unless
    they come before the layers and are no output embedding (a projection into the model's width).

    Raises:
        ValueError: when a parameter is inside another list of layers, such as an encoder or a vision tower.
    """
    get_head = getattr(module, "get_output_embeddings", None)
    output = get_head() if callable(get_head) else None
    lists = [name for name, child in module.named_modules() if isinstance(child, nn.ModuleList | nn.Sequential)]
    outside: dict[str, dict[str, Tensor]] = {"embedding": {}, "final_norm": {}, "head": {}}
    before = True
    for name, parameter in module.named_parameters():
        if id(parameter) in held:
            before = before and not (prefix == "" or name.startswith(prefix + "."))
            continue
        if inside := [other for other in lists if name.startswith(f"{other}.")]:
            raise ValueError(
                f"{name} is in {inside[0]!r}, a second list of layers beside {prefix!r}; "
                "name the blocks yourself with by_regex()"
            )
        owner = module.get_submodule(name.rpartition(".")[0])
        matrix = any(p.ndim > 1 for p in owner.parameters(recurse=False))
        if isinstance(owner, nn.Embedding) or "emb" in name.rpartition(".")[0].lower():
            outside["embedding"][name] = parameter
        elif not matrix:
            outside["final_norm"][name] = parameter
        elif before and owner is not output and "out" not in name:
            outside["embedding"][name] = parameter
        else:
            outside["head"][name] = parameter
    return outside


def _check_tied_head(module: nn.Module, embedding: Mapping[str, Tensor], choices: Mapping[str, str]) -> None:
    get_head = getattr(module, "get_output_embeddings", None)
    head = get_head() if callable(get_head) else None
    weight = getattr(head, "weight", None)
    shared = {first for second, first in _tied(module).items() if _is_head(second, module)}
    for name, parameter in embedding.items():
        if (parameter is weight or name in shared) and choices["head"] != choices["embedding"]:
            raise ValueError(
                f"the head is tied to {name}, so it cannot be treated differently: "
                f"embedding={choices['embedding']!r} but head={choices['head']!r}; set both alike"
            )


def _is_head(name: str, module: nn.Module) -> bool:
    """Whether the parameter belongs to a linear map, which outside the layers is the head."""
    return isinstance(module.get_submodule(name.rpartition(".")[0]), nn.Linear)


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters(prefix=prefix))


def _tied(module: nn.Module) -> dict[str, str]:
    first = {id(p): name for name, p in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if first[id(p)] != name}

"""Blocks and partitions: which parameters are trained together.

A *block* is a named set of parameters. A *partition* is a list of blocks that are disjoint and, together
with the parameters that are frozen by explicit choice, cover the module. Both properties are checked when
a `Partition` is made, over the parameter tensors themselves, so a tensor that two modules share (a tied
head) is in exactly one block.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

Choice = Literal["train", "join", "freeze"]
"""What happens to the parameters outside the layers: an own block, part of the neighbouring layer's block,
or no training at all."""


@dataclass(frozen=True)
class Block:
    """A named set of parameters that are active together.

    name: unique within the partition, for example ``"model.layers.3"``.
    parameters: parameter name -> parameter tensor, in the module's order; not empty.
    """

    name: str
    parameters: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError(f"block {self.name!r} has no parameters; drop it from the partition")

    @property
    def numel(self) -> int:
        """Number of scalar weights in the block."""
        return sum(p.numel() for p in self.parameters.values())


@dataclass(frozen=True)
class Partition:
    """Disjoint blocks, and the parameters that no block trains.

    blocks: D blocks, D >= 1; the order of the tuple is the order of the block indices.
    frozen: parameter name -> tensor for everything that is never trained.
    tied: second name -> first name for every tensor that the module reaches under two names.

    Raises ValueError when there is no block, a block name repeats, or one tensor is in two places.
    """

    blocks: tuple[Block, ...]
    frozen: Mapping[str, Tensor]
    tied: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a partition needs at least one block; everything is frozen or nothing matched")
        owner: dict[int, str] = {}
        for block in self.blocks:
            for name, parameter in block.parameters.items():
                place = f"block {block.name!r} ({name})"
                if (other := owner.setdefault(id(parameter), place)) != place:
                    raise ValueError(f"blocks must be disjoint: one tensor is in {other} and in {place}")
        for name, parameter in self.frozen.items():
            if id(parameter) in owner:
                raise ValueError(f"{name} is both frozen and in {owner[id(parameter)]}")
        names = [block.name for block in self.blocks]
        if len(set(names)) != len(names):
            raise ValueError(f"block names must be unique, got {sorted(n for n in names if names.count(n) > 1)}")

    def __len__(self) -> int:
        return len(self.blocks)

    def check_covers(self, module: nn.Module) -> None:
        """Raise ValueError unless every parameter of `module` is in a block or listed as frozen."""
        held = {id(p) for block in self.blocks for p in block.parameters.values()}
        held |= {id(p) for p in self.frozen.values()}
        if missing := [name for name, p in module.named_parameters() if id(p) not in held]:
            raise ValueError(f"the partition does not cover {missing}; put them in a block or freeze them")


def find_layers(module: nn.Module) -> tuple[str, list[nn.Module]]:
    """The repeated layers of `module`: the outermost ModuleList or Sequential that holds most parameters.

    Returns its qualified name (``""`` when `module` itself is the Sequential) and its children that have
    parameters. Works on any Hugging Face decoder (``model.layers``, ``transformer.h``, ...) and on a plain
    ``nn.Sequential``; names are never matched, so ``layers.1`` cannot catch ``layers.10``.

    Raises ValueError when there is none.
    """
    candidates: dict[str, nn.Module] = {}
    for name, child in module.named_modules():
        inside_another = any(outer == "" or name.startswith(outer + ".") for outer in candidates)
        if isinstance(child, nn.ModuleList | nn.Sequential) and not inside_another:
            candidates[name] = child
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in candidates.items()}
    if not sizes or max(sizes.values()) == 0:
        found = [name for name, _ in module.named_children()]
        raise ValueError(
            f"{type(module).__name__} has no ModuleList or Sequential of layers with parameters "
            f"(its children are {found}); use single() or build a Partition by hand"
        )
    name = max(sizes, key=lambda key: sizes[key])
    return name, [layer for layer in candidates[name].children() if any(True for _ in layer.parameters())]


def single(
    module: nn.Module,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
) -> Partition:
    """One block with everything that is not frozen: block coordinate descent becomes the full optimizer.

    Choices and errors are those of `by_layer`; ``"train"`` and ``"join"`` mean the same here. A module without
    layers is welcome when nothing is frozen.
    """
    if {embedding, final_norm, head} == {"train"}:
        return Partition((Block("all", dict(module.named_parameters())),), {}, _tied(module))
    layered = by_layer(module, embedding=embedding, final_norm=final_norm, head=head)
    everything = {name: p for block in layered.blocks for name, p in block.parameters.items()}
    return Partition((Block("all", everything),), layered.frozen, layered.tied)


def by_layer(
    module: nn.Module,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
) -> Partition:
    """One block per layer (the partition of BAdam, arXiv 2404.02827, section 2).

    module: any Hugging Face decoder model or a plain ``nn.Sequential``.
    embedding, final_norm, head: what happens to the parameters outside the layers. ``"train"`` makes an own
        block (embedding first, final norm and head last), ``"join"`` adds them to the neighbouring layer
        (the first for the embedding, the last for the others), ``"freeze"`` never trains them. BAdam as
        published freezes all three. A tied head is one tensor with the embedding: both choices must agree,
        and the tensor is trained where the embedding is.

    Raises ValueError on an unknown choice, a module without layers, or a tied head whose choice differs.

    >>> from torch import nn
    >>> partition = by_layer(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
    >>> [(block.name, block.numel) for block in partition.blocks]
    [('0', 9), ('2', 4)]
    """
    return _by_pieces(module, lambda name, layer: [Block(name, _named(name, layer))], embedding, final_norm, head)


def by_module(
    module: nn.Module,
    *,
    embedding: Choice = "train",
    final_norm: Choice = "train",
    head: Choice = "train",
) -> Partition:
    """One block per module inside each layer, for example attention and MLP.

    Children of a layer that hold a matrix become blocks. The norms of the layer (children with vectors only)
    are dealt to these blocks in registration order, which pairs ``input_layernorm`` with attention and
    ``post_attention_layernorm`` with the MLP. A layer without such children stays one block.
    Choices and errors are those of `by_layer`.
    """
    return _by_pieces(module, _split_layer, embedding, final_norm, head)


def _split_layer(name: str, layer: nn.Module) -> list[Block]:
    children = {child_name: _named(f"{name}.{child_name}", child) for child_name, child in layer.named_children()}
    matrices = {n: ps for n, ps in children.items() if any(p.ndim > 1 for p in ps.values())}
    norms = [ps for n, ps in children.items() if ps and n not in matrices]
    direct = {f"{name}.{n}": p for n, p in layer.named_parameters(recurse=False)}
    if not matrices:
        return [Block(name, _named(name, layer))]
    parts = list(matrices.values())
    for j, norm in enumerate(norms):
        parts[j * len(parts) // len(norms)].update(norm)
    parts[0].update(direct)
    return [Block(f"{name}.{n}", part) for n, part in zip(matrices, parts, strict=True)]


def _by_pieces(module, split, embedding: Choice, final_norm: Choice, head: Choice) -> Partition:
    choices = {"embedding": embedding, "final_norm": final_norm, "head": head}
    for key, choice in choices.items():
        if choice not in get_args(Choice):
            raise ValueError(f"{key}={choice!r} is not one of {', '.join(get_args(Choice))}")
    prefix, layers = find_layers(module)
    names = {id(child): name for name, child in module.named_modules()}
    blocks = [block for layer in layers for block in split(names[id(layer)], layer)]
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

    Whatever is registered before the layers, or belongs to an nn.Embedding, is on the embedding side; after the
    layers, matrices (and the biases of their modules) are the head and the rest is the final norm.
    """
    outside: dict[str, dict[str, Tensor]] = {"embedding": {}, "final_norm": {}, "head": {}}
    before = True
    for name, parameter in module.named_parameters():
        if id(parameter) in held:
            before = before and not (prefix == "" or name.startswith(prefix + "."))
            continue
        owner = module.get_submodule(name.rpartition(".")[0])
        if before or isinstance(owner, nn.Embedding):
            outside["embedding"][name] = parameter
        elif any(p.ndim > 1 for p in owner.parameters(recurse=False)):
            outside["head"][name] = parameter
        else:
            outside["final_norm"][name] = parameter
    return outside


def _check_tied_head(module: nn.Module, embedding: Mapping[str, Tensor], choices: Mapping[str, str]) -> None:
    get_head = getattr(module, "get_output_embeddings", None)
    head = get_head() if callable(get_head) else None
    weight = getattr(head, "weight", None)
    for name, parameter in embedding.items():
        if parameter is weight and choices["head"] != choices["embedding"]:
            raise ValueError(
                f"the head is tied to {name}, so it cannot be treated differently: "
                f"embedding={choices['embedding']!r} but head={choices['head']!r}; set both alike"
            )


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters(prefix=prefix))


def _tied(module: nn.Module) -> dict[str, str]:
    first = {id(p): name for name, p in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if first[id(p)] != name}

"""The layers of a model, and what is outside them: embedding, final norm or head, by the order in which it is used.

Most models need no trial: their tables are nn.Embedding, their head is get_output_embeddings(), and one norm is left.
Where more is left, a Hugging Face model is called once on four tokens without any arithmetic (fake tensors), and

    embedding    what is used before the last layer is
    final norm   modules with vectors only that are used after it, unless they are parts of one with a matrix
    head         the rest

Other models are sorted by the kind of a module, its name and the order of registration.
"""

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bcd.processes import is_sharded

Outside = dict[str, dict[str, Tensor]]


def is_list_of_layers(module: nn.Module) -> bool:
    """Whether a module is a ModuleList or Sequential, and not the tensors of a parametrization."""
    return isinstance(module, nn.ModuleList | nn.Sequential) and not isinstance(module, ParametrizationList)


def has_deep_layers(layers: nn.Module) -> bool:
    """Whether a child has parameters in several modules, as a layer of a network has and a single matrix has not."""
    return any(
        sum(1 for inner in child.modules() if any(True for _ in inner.parameters(recurse=False))) > 1
        for child in layers.children()
    )


def find_layers(module: nn.Module) -> tuple[str, list[nn.Module]]:
    """The repeated layers of `module`: the outermost ModuleList or Sequential that holds most parameters.

    A list whose members have parameters in several modules, as layers have, goes before one of single matrices.

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
        if is_list_of_layers(child) and not inside_another:
            candidates[name] = child
    # Beside layers a list of tables or projections, such as one a layer, is none of layers, however large it is.
    candidates = {name: child for name, child in candidates.items() if has_deep_layers(child)} or candidates
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in candidates.items()}
    if not sizes or max(sizes.values()) == 0:
        children = [name for name, _ in module.named_children()]
        raise ValueError(
            f"{type(module).__name__} has no ModuleList or Sequential of layers with parameters "
            f"(its children are {children}); use single() or build a Partition by hand"
        )
    name = max(sizes, key=lambda key: sizes[key])
    return name, [layer for layer in candidates[name].children() if any(True for _ in layer.parameters())]


def owner_of(module: nn.Module, name: str) -> tuple[str, nn.Module]:
    """Name and module to which a parameter belongs; a parametrized tensor to the module that uses it."""
    owner = name.rpartition(".")[0].partition(".parametrizations.")[0]
    owner = "" if owner.startswith("parametrizations.") else owner
    return owner, module.get_submodule(owner)


def tied_names(module: nn.Module) -> dict[str, str]:
    """Second name -> first name of every tensor that the module reaches under two names."""
    first = {id(p): name for name, p in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if first[id(p)] != name}


def other_parts(module: nn.Module, prefix: str, held: set[int]) -> dict[str, Tensor]:
    """Parameters of other parts of a model than the one with the layers, such as a vision tower and its projector.

    The part with the layers is the smallest module around them that has a table, or the module that holds their list
    where no other has one; the output embedding belongs to it wherever it is.

    Args:
        module: the model.
        prefix: name of its list of layers.
        held: ids of the parameters inside them.
    """
    parts = prefix.split(".")
    around = [".".join(parts[:i]) for i in reversed(range(len(parts)))]
    tables = [name for name, child in module.named_modules() if isinstance(child, nn.Embedding)]
    own = next((name for name in around if any(t.startswith(f"{name}.") or not name for t in tables)), around[0])
    mine = held | {id(p) for p in module.get_submodule(own).parameters()}
    head = output_of(module)
    mine |= set() if head is None else {id(p) for p in head.parameters()}
    return {name: p for name, p in module.named_parameters() if id(p) not in mine}


def outside_layers(
    module: nn.Module, prefix: str, layers: list[nn.Module], held: set[int], others: Mapping[str, Tensor] | None = None
) -> Outside:
    """Sort the parameters outside the layers into embedding, final norm and head, see the module's docstring.

    Args:
        module: the model.
        prefix: name of its list of layers.
        layers: in that list.
        held: ids of the parameters inside them.
        others: what is left out; None: nothing.

    Raises:
        ValueError: when a parameter is inside another list of layers, such as an encoder or a vision tower.
    """
    lists = [name for name, child in module.named_modules() if is_list_of_layers(child) and has_deep_layers(child)]
    left_out = others or {}
    parameters = {n: p for n, p in module.named_parameters() if id(p) not in held and n not in left_out}
    for name in parameters:
        if inside := [other for other in lists if name.startswith(f"{other}.")]:
            raise ValueError(
                f"{name} is in {inside[0]!r}, a second list of layers beside {prefix!r}; by_layer(rest='freeze') or "
                "rest='train' says what happens to other parts of a model, or name the blocks with by_regex()"
            )
    outside, unsure = _by_kind(module, parameters)
    if not unsure:
        return outside
    owners = {owner_of(module, name)[0] for name in unsure}
    norms = [o for o in owners if not _has_matrix(module.get_submodule(o))]
    if len(owners) == len(norms) == 1 and "emb" not in norms[0].lower():
        outside["final_norm"].update(unsure)
        return _in_order(parameters, outside)
    places = _by_use(module, unsure, prefix, layers)
    for name, parameter in unsure.items():
        place = places.get(name) or _by_name(module, name, prefix, held)
        outside[place][name] = parameter
    return _in_order(parameters, outside)


def _in_order(parameters: Mapping[str, Tensor], outside: Outside) -> Outside:
    return {place: {name: p for name, p in parameters.items() if name in named} for place, named in outside.items()}


def _has_matrix(owner: nn.Module) -> bool:
    direct = [*owner.parameters(recurse=False)]
    for kept in getattr(owner, "parametrizations", {}).values():
        direct += kept.parameters()
    return any(p.ndim > 1 for p in direct)


def output_of(module: nn.Module) -> nn.Module | None:
    """The output embedding of a Hugging Face model."""
    get_head = getattr(module, "get_output_embeddings", None)
    return get_head() if callable(get_head) else None  # pyright: ignore[reportReturnType]


def _by_kind(module: nn.Module, parameters: Mapping[str, Tensor]) -> tuple[Outside, dict[str, Tensor]]:
    """Tables are embedding, also if they are the head too (tied), the output is head, and the rest is not sure."""
    head = output_of(module)
    every = module.named_parameters(remove_duplicate=False)
    tables = {id(p) for name, p in every if isinstance(owner_of(module, name)[1], nn.Embedding)}
    outside: Outside = {"embedding": {}, "final_norm": {}, "head": {}}
    unsure = {}
    for name, parameter in parameters.items():
        owner = owner_of(module, name)[1]
        if id(parameter) in tables:
            outside["embedding"][name] = parameter
        elif owner is head:
            outside["head"][name] = parameter
        else:
            unsure[name] = parameter
    return outside, unsure


def _by_name(module: nn.Module, name: str, prefix: str, held: set[int]) -> str:
    """Where names and registration put a parameter.

    Whatever has "emb" in the name of its module is embedding. Of the rest, modules with vectors only are the final
    norm wherever they are registered, and matrices are the head, unless they come before the layers and are no output.
    """
    owner, of = owner_of(module, name)
    if "emb" in owner.lower():
        return "embedding"
    if not _has_matrix(of):
        return "final_norm"
    names = [each for each, _ in module.named_parameters()]
    inside = [i for i, (n, p) in enumerate(module.named_parameters()) if id(p) in held and n.startswith(prefix)]
    return "embedding" if names.index(name) < min(inside, default=0) and "out" not in name else "head"


def _by_use(module: nn.Module, unsure: Mapping[str, Tensor], prefix: str, layers: list[nn.Module]) -> dict[str, str]:
    """Where the order of use puts parameters; nothing for those that are not used or where no trial is possible.

    Warns if a model that could be tried fails.
    """
    if getattr(module, "config", None) is None:
        return {}
    last = next(p for p in layers[-1].parameters())
    try:
        if any("_hf_hook" in vars(m) for m in module.modules()) or any(map(is_sharded, module.parameters())):
            raise RuntimeError("its weights are in several places")
        used = _uses(module, {**unsure, "": last})
    except Exception as error:  # whatever a model's code raises
        reason = str(error).partition("\n")[0]
        warnings.warn(
            f"{type(module).__name__} could not be tried on four tokens ({type(error).__name__}: {reason}), so the "
            f"places of {', '.join(unsure)} follow their names; name the blocks with by_regex() if they are wrong",
            stacklevel=6,
        )
        return {}
    places, after = {}, False
    for name in used:
        if not name:
            after = True
        elif not after:
            places[name] = "embedding"
        else:
            inside = _beside_layers(owner_of(module, name)[0], prefix)
            matrix = any(_has_matrix(m) for m in module.get_submodule(inside).modules()) if inside else False
            places[name] = "head" if matrix or unsure[name].ndim > 1 else "final_norm"
    return places


def _beside_layers(owner: str, prefix: str) -> str:
    """The outermost module around `owner` that does not hold the layers, such as a head of several parts."""
    parts = owner.split(".")
    outer = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return next((name for name in outer if name and not f"{prefix}.".startswith(f"{name}.")), "")


@torch.no_grad()
def _uses(module: nn.Module, parameters: Mapping[str, Tensor]) -> list[str]:
    """Names of parameters in the order in which a call of the model first uses them."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # loads a part of the compiler

    names = {id(p): name for name, p in parameters.items()}
    used: dict[str, None] = {}

    class Uses(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            for leaf in tree_leaves((args, kwargs)):
                if id(leaf) in names:
                    used.setdefault(names[id(leaf)])
            return func(*args, **(kwargs or {}))

    device = next(module.parameters()).device
    with _as_it_was(module), FakeTensorMode(allow_non_fake_inputs=True), Uses():
        module.eval()
        for each in module.modules():  # hooks are not meant for this call
            each._forward_hooks, each._forward_pre_hooks = OrderedDict(), OrderedDict()
        module(input_ids=torch.zeros((1, 4), dtype=torch.long, device=device), use_cache=False)
    return list(used)


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """What a trial changes of the modules, such as a kept mask or the training mode, is taken back."""
    before = [(each, dict(vars(each)), dict(each._buffers)) for each in module.modules()]
    try:
        yield
    finally:
        for each, attributes, buffers in before:
            vars(each).clear()
            vars(each).update(attributes)
            each._buffers.clear()
            each._buffers.update(buffers)


def require_one_choice_for_a_tied_head(
    module: nn.Module, embedding: Mapping[str, Tensor], choices: Mapping[str, str]
) -> None:
    """Raise ValueError if the head is tied to the embedding and other things are to happen to it."""
    weight = getattr(output_of(module), "weight", None)
    shared = {first for second, first in tied_names(module).items() if _is_linear(second, module)}
    for name, parameter in embedding.items():
        if (parameter is weight or name in shared) and choices["head"] != choices["embedding"]:
            raise ValueError(
                f"the head is tied to {name}, so it cannot be treated differently: "
                f"embedding={choices['embedding']!r} but head={choices['head']!r}; set both alike"
            )


def _is_linear(name: str, module: nn.Module) -> bool:
    """Whether the parameter belongs to a linear map, which outside the layers is the head."""
    return isinstance(owner_of(module, name)[1], nn.Linear)

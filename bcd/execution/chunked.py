"""A causal language model whose loss is computed without holding the logits, see `bcd.execution.kernels.loss`."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bcd.checks import require_flag, require_number, require_whole
from bcd.execution.kernels.loss import CHUNK, linear_cross_entropy, require_fused


class LossOutput(dict[str, Tensor]):
    """What a model with `chunked_loss` returns in training: the loss by name, by index 0 and as an attribute."""

    def __getattr__(self, name: str) -> Tensor:
        if name in self:
            return self[name]
        raise AttributeError(
            f"there is no {name}: the loss was computed without keeping logits (bcd.execution.chunked_loss); call the "
            "model without labels, or undo chunked_loss"
        )

    def __getitem__(self, key: Any) -> Tensor:
        return tuple(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


def chunked_loss(
    model: nn.Module,
    *,
    chunk: int = CHUNK,
    z_loss: float = 0.0,
    compiled: bool = False,
    backend: str = "inductor",
    fused: bool = False,
    check: bool = True,
) -> Callable[[], None]:
    """Let ``model(input_ids=..., labels=...).loss`` of a causal language model be `linear_cross_entropy`.

        undo = chunked_loss(model)                      # then the training loop or transformers.Trainer as before

    The output has no logits. In evaluation mode, without labels or with `logits_to_keep` the model works as before.
    Labels are shifted here, as transformers does; `num_items_in_batch`, `shift_labels` and `ignore_index` mean the
    same as there. Images and sounds are welcome where the model's body takes them in, `model.model(pixel_values=...)`.
    What would change the loss behind the check's back raises ValueError in the call: an argument that the model takes
    and its body does not, and the loss of routers (`output_router_logits`, as an argument or in the configuration).

    Args:
        model: with get_decoder() and get_output_embeddings(), as every Hugging Face decoder has.
        chunk: see `linear_cross_entropy`.
        z_loss: see `linear_cross_entropy`.
        compiled: see `linear_cross_entropy`.
        backend: see `linear_cross_entropy`.
        fused: see `linear_cross_entropy`.
        check: compare logits and loss of four tokens with the model's own, since some models cap or scale their logits
            or add other terms, and again whenever its configuration or loss function has been changed; weights without
            values (the meta device, fake tensors) need False.

    Returns:
        A function that undoes it.

    Raises:
        TypeError: for a model without these functions, or without a head that is one matrix, such as a classifier.
        ValueError: if it has a chunked loss already or the comparison fails, and what `linear_cross_entropy` says of
            its arguments.
    """
    require_whole("chunk", chunk, least=1, why="a chunk has a whole number of tokens, at least one")
    require_number("z_loss", z_loss, least=0.0)
    require_flag("fused", fused)
    if not callable(getattr(model, "get_decoder", None)) or not callable(
        getattr(model, "get_output_embeddings", None)
    ):
        raise TypeError(f"{type(model).__name__} has no get_decoder() and get_output_embeddings() to take apart")
    if isinstance(vars(model).get("forward"), ChunkedForward):
        raise ValueError(f"{type(model).__name__} has a chunked loss already; undo it first")
    _require_matrix(model)
    if fused:
        require_fused(model.get_output_embeddings().weight, z_loss)  # pyright: ignore[reportCallIssue]
    options = {"chunk": chunk, "z_loss": z_loss, "compiled": compiled, "backend": backend, "fused": fused}
    forward = ChunkedForward(model, options, check)
    if check:
        forward.compare()
    model.forward = forward

    def undo() -> None:
        if forward.before is None:
            del model.forward
        else:
            model.forward = forward.before

    return undo


class ChunkedForward:
    """Callable in place of `model.forward`, with its signature; a copied model gets one of its own.

    Attributes:
        original: the model's own forward.
        before: what was set on the model in its place, usually nothing.
        taken: the arguments that the model names, or a model that it wraps.
    """

    def __init__(self, model: nn.Module, options: dict[str, Any], check: bool) -> None:
        functools.update_wrapper(self, model.forward)
        self.model = model
        self.original: Callable[..., Any] = model.forward
        self.before: Any = vars(model).get("forward")
        self.options = options
        self.check = check
        parameters = inspect.signature(model.forward).parameters.values()
        self.names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
        head: Any = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        around = [m for m in model.modules() if m is not head and any(inner is head for inner in m.modules())]
        self.taken = set().union(*map(_names, around))
        self._compared_with: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The loss alone, or what the model's own forward returns.

        Raises:
            ValueError: for an argument that changes the loss in a way that is not seen here.
        """
        inputs = dict(zip(self.names, args, strict=False)) | kwargs
        keep = inputs.get("logits_to_keep")
        some = keep is not None and (isinstance(keep, Tensor) or keep != 0)
        if inputs.get("labels") is None or some or not self.model.training:
            return self.original(*args, **kwargs)
        self._require_possible(inputs)
        if self.check and not _same(self._compared_with, _settings(self.model)):
            self.compare()
        return LossOutput(loss=_loss(self.model, inputs, self.options))

    def _require_possible(self, inputs: Mapping[str, Any]) -> None:
        name, advice = type(self.model).__name__, "leave it out, or leave the loss plain"
        routers = inputs.get("output_router_logits")
        if routers or (routers is None and any(vars(c).get("output_router_logits") for c in _configs(self.model))):
            raise ValueError(
                f"output_router_logits=True is not possible with a chunked loss: the loss of {name}'s routers would "
                f"not be added; {advice}"
            )
        known = HANDLED | _names(_body(self.model))
        for key, value in inputs.items():
            if key in self.taken and key not in known and value is not None and value is not False:
                raise ValueError(
                    f"{key} is not possible with a chunked loss: {name} uses it outside its body "
                    f"({type(_body(self.model)).__name__}), so the loss would not see it; {advice}"
                )

    @torch.no_grad()
    def compare(self) -> None:
        """Raise ValueError unless the model's logits and loss are those of its head on its body."""
        model: Any = self.model
        body = _body(model)
        inside = {id(module) for module in body.modules()}
        training = [module for module in model.modules() if module.training]
        device = model.get_output_embeddings().weight.device
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                for outside in (False, True):  # training may change what is outside the body: dropout before the head
                    for module in model.modules():
                        module.training = outside and id(module) not in inside
                    _compare(model, self.original, device)
        finally:
            for module in model.modules():
                module.training = False
            for module in training:
                module.training = True
        self._compared_with = _settings(model)


UNSEEN = ("logits_to_keep", "return_dict", "use_cache")
HANDLED = {"labels", "shift_labels", "num_items_in_batch", "ignore_index", *UNSEEN}
"""Arguments of a model's forward that mean the same with a chunked loss."""


def _require_matrix(model: Any) -> None:
    """Raise TypeError unless the model's head is one matrix, with or without a bias."""
    head = model.get_output_embeddings()
    name = type(model).__name__
    if not isinstance(getattr(head, "weight", None), Tensor) or head.weight.ndim != 2:
        raise TypeError(f"{name} has no head that turns its body's output into logits (get_output_embeddings())")
    own = {n for n, _ in head.named_parameters() if not n.startswith("parametrizations.")}
    if further := sorted(own - {"weight", "bias"}):
        raise TypeError(
            f"the head of {name} is more than a matrix and a bias: it has {further[0]}, such as an adapter"
        )


def _body(model: Any) -> nn.Module:
    """What computes the head's input: the base model, which also takes in images, or else the decoder."""
    base, head = getattr(model, "base_model", None), model.get_output_embeddings()
    if isinstance(base, nn.Module) and base is not model and all(module is not head for module in base.modules()):
        return base
    return model.get_decoder()


def _names(module: nn.Module) -> set[str]:
    """The arguments that the forward of a module names."""
    return set(inspect.signature(module.forward).parameters)


def _configs(model: nn.Module) -> list[Any]:
    """The model's configuration, and that of its text decoder if it is another one."""
    config: Any = getattr(model, "config", None)
    if config is None:
        return []
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return [config] if text is config else [config, text]


def _settings(model: nn.Module) -> list[Any]:
    """What may change a model's loss between two calls; the loss of routers is looked at in every call."""
    configs = [{key: v for key, v in vars(c).items() if key != "output_router_logits"} for c in _configs(model)]
    return [getattr(model, "loss_function", None), *configs]


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except (RuntimeError, ValueError):  # of tensors or arrays among the values
        return False


def _loss(model: Any, inputs: dict[str, Any], options: dict[str, Any]) -> Tensor:
    labels, shifted = inputs.pop("labels"), inputs.pop("shift_labels", None)
    count, ignored = inputs.pop("num_items_in_batch", None), inputs.pop("ignore_index", -100)
    for name in UNSEEN:
        inputs.pop(name, None)
    hidden = _body(model)(**inputs, use_cache=False)[0]
    if shifted is None:
        shifted = nn.functional.pad(labels, (0, 1), value=ignored)[..., 1:]
    head = model.get_output_embeddings()
    bias = getattr(head, "bias", None)
    return linear_cross_entropy(hidden, head.weight, shifted, bias=bias, count=count, ignore_index=ignored, **options)


def _compare(model: Any, original: Callable[..., Any], device: torch.device) -> None:
    tokens = torch.arange(4, device=device)[None]
    name = type(model).__name__
    try:
        expected = original(input_ids=tokens, labels=tokens, use_cache=False)
        hidden = _body(model)(input_ids=tokens, use_cache=False)[0]
        same = torch.equal(expected.logits, model.get_output_embeddings()(hidden))
        loss = _loss(model, {"input_ids": tokens, "labels": tokens}, {})
    except Exception as error:  # whatever a model's code raises
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the loss of {name} cannot be computed by its head on its body ({type(error).__name__}: {reason}); it "
            "needs its own loss"
        ) from error
    rtol = 1e-5 if hidden.dtype in (torch.float32, torch.float64) else 1e-3
    if not same or not torch.allclose(expected.loss.float(), loss.float(), rtol=rtol):
        raise ValueError(
            f"the loss of {name} is not the cross-entropy of its head on its decoder (capped or scaled logits, or a "
            "further term); it needs its own loss"
        )

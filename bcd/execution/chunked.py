"""A causal language model whose loss is computed without holding the logits, see `bcd.execution.kernels.loss`."""

import functools
import inspect
from collections.abc import Callable
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
    same as there.

    Args:
        model: with get_decoder() and get_output_embeddings(), as every Hugging Face decoder has.
        chunk: see `linear_cross_entropy`.
        z_loss: see `linear_cross_entropy`.
        compiled: see `linear_cross_entropy`.
        backend: see `linear_cross_entropy`.
        fused: see `linear_cross_entropy`.
        check: compare logits and loss of four tokens with the model's own, since some models cap or scale their logits
            or add other terms; weights without values (the meta device, fake tensors) need False.

    Returns:
        A function that undoes it.

    Raises:
        TypeError: for a model without these functions.
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
    if fused:
        require_fused(model.get_output_embeddings().weight, z_loss)  # pyright: ignore[reportCallIssue]
    options = {"chunk": chunk, "z_loss": z_loss, "compiled": compiled, "backend": backend, "fused": fused}
    if check:
        _compare(model, model.forward)
    forward = ChunkedForward(model, options)
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
    """

    def __init__(self, model: nn.Module, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, model.forward)
        self.model = model
        self.original: Callable[..., Any] = model.forward
        self.before: Any = vars(model).get("forward")
        self.options = options
        parameters = inspect.signature(model.forward).parameters.values()
        self.names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = dict(zip(self.names, args, strict=False)) | kwargs
        keep = inputs.get("logits_to_keep")
        some = keep is not None and (isinstance(keep, Tensor) or keep != 0)
        if inputs.get("labels") is None or some or not self.model.training:
            return self.original(*args, **kwargs)
        return LossOutput(loss=_loss(self.model, inputs, self.options))


def _loss(model: Any, inputs: dict[str, Any], options: dict[str, Any]) -> Tensor:
    labels, shifted = inputs.pop("labels"), inputs.pop("shift_labels", None)
    count, ignored = inputs.pop("num_items_in_batch", None), inputs.pop("ignore_index", -100)
    for name in ("logits_to_keep", "return_dict", "use_cache"):
        inputs.pop(name, None)
    hidden = model.get_decoder()(**inputs, use_cache=False)[0]
    if shifted is None:
        shifted = nn.functional.pad(labels, (0, 1), value=ignored)[..., 1:]
    head = model.get_output_embeddings()
    bias = getattr(head, "bias", None)
    return linear_cross_entropy(hidden, head.weight, shifted, bias=bias, count=count, ignore_index=ignored, **options)


@torch.no_grad()
def _compare(model: Any, original: Callable[..., Any]) -> None:
    """Raise ValueError unless the model's logits and loss are those of its head on its decoder."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        device = model.get_output_embeddings().weight.device
        tokens = torch.arange(4, device=device)[None]
        expected = original(input_ids=tokens, labels=tokens, use_cache=False)
        hidden = model.get_decoder()(input_ids=tokens, use_cache=False)[0]
        same = torch.equal(expected.logits, model.get_output_embeddings()(hidden))
        loss = _loss(model, {"input_ids": tokens, "labels": tokens}, {})
    finally:
        for module in training:
            module.training = True
    if not same or not torch.allclose(expected.loss.float(), loss.float(), rtol=1e-3):
        raise ValueError(
            f"the loss of {type(model).__name__} is not the cross-entropy of its head on its decoder (capped or "
            "scaled logits, or a further term); it needs its own loss"
        )

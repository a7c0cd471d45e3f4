"""Cross-entropy of a linear head that never holds the logits.

    z_s    = W h_s + b                                         logits of token s, for a few tokens at a time
    loss   = (1/n) sum over labelled s of  lse(z_s) - z_s[y_s] + zeta lse(z_s)^2,   lse = log sum exp
    dz_s   = (1/n) ((1 + 2 zeta lse(z_s)) softmax(z_s) - e_{y_s})
    dh_s   = W' dz_s,   dW = sum_s dz_s h_s',   db = sum_s dz_s

The gradients are computed together with the loss, chunk by chunk, so that backward only scales them: logits of a
vocabulary of 128,000 would take more memory than all layers below. h: `hidden`; W, b: `weight`, `bias`; y: `labels`;
n: number of labelled tokens; zeta: `z_loss` (Chowdhery et al., arXiv 2204.02311, section 5).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bcd.checks import require_flag, require_number, require_whole
from bcd.execution.kernels.operators import quack, require_quack
from bcd.execution.kernels.versions import SOFTMAX_COMPILES_ON_CPU
from bcd.toolchain import name_libraries_plainly

CHUNK = 1024
"""Tokens whose logits exist at the same time, enough to fill a GPU: 0.26 GB in bfloat16 for 128,000 words."""


@dataclass(frozen=True)
class _Setting:
    chunk: int
    ignore_index: int
    z_loss: float
    compiled: bool
    backend: str
    fused: bool


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    count: int | Tensor | None = None,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    chunk: int = CHUNK,
    compiled: bool = False,
    backend: str = "inductor",
    fused: bool = False,
) -> Tensor:
    """The mean loss of the module's docstring, a float32 scalar (float64 for float64 input).

    Products are in the dtype of `hidden` (autocast's under autocast), everything between them in float32, the weight's
    gradient is summed in float32. Only gradients that are needed are computed. Without any label the loss is NaN, as
    torch's.

    Args:
        hidden: (..., width).
        weight: (vocabulary, width).
        labels: (...), whole numbers.
        bias: (vocabulary).
        count: n if it is not the number of labels other than ignore_index: all labels of a step that has several
            micro-batches, as `num_items_in_batch` of transformers.
        ignore_index: label of tokens that do not count.
        z_loss: zeta.
        chunk: tokens whose logits exist at the same time.
        compiled: kernels of torch.compile for a chunk's loss and its gradient (not on a CPU with torch 2.11, whose
            inductor cannot make it).
        backend: of torch.compile.
        fused: on an H100 or H200 one kernel of quack for both, compiled or not, which reads a chunk's logits once;
            z_loss must be 0, and it does not check that labels are in the vocabulary.

    Raises:
        ValueError: for shapes that do not fit, chunk < 1 and z_loss < 0; with `fused` for a z_loss above 0 too, and on
            a GPU for a compute capability other than 9 and float64.
        ImportError: on a GPU without quack, for a fused loss.

    >>> hidden, weight = torch.ones(2, 3, 4), torch.eye(5, 4)
    >>> round(linear_cross_entropy(hidden, weight, torch.zeros(2, 3, dtype=torch.long), chunk=2).item(), 4)
    1.4743
    """
    require_whole("chunk", chunk, least=1, why="a chunk has a whole number of tokens, at least one")
    require_number("z_loss", z_loss, least=0.0)
    require_flag("compiled", compiled)
    require_flag("fused", fused)
    if fused:
        require_fused(hidden, z_loss)
    if hidden.shape[:-1] != labels.shape or hidden.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)} and labels {tuple(labels.shape)} do not fit: "
            "wanted (..., width), (vocabulary, width) and (...)"
        )
    labels = labels.reshape(-1).contiguous().to(hidden.device)
    if count is None:
        count = (labels != ignore_index).sum()
    count = torch.as_tensor(count, device=hidden.device)
    needs = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (hidden, weight, bias)]
    setting = _Setting(chunk, ignore_index, z_loss, compiled, backend, fused)
    loss: Any = _LinearCrossEntropy.apply(hidden.flatten(0, -2), weight, bias, labels, count, needs, setting)
    return loss


def require_fused(hidden: Tensor, z_loss: float) -> None:
    """Raise what `linear_cross_entropy` says of `fused`, for hidden states or weights like `hidden`."""
    if z_loss:
        raise ValueError(f"z_loss={z_loss!r} is not possible with a fused loss: quack's kernel has no such term")
    require_quack(hidden, "a fused loss is", "logits", torch.bfloat16, torch.float16, torch.float32)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        count: Tensor,
        needs: list[bool],
        setting: _Setting,
    ) -> Tensor:
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        inverse = count.to(wide).reciprocal()
        # In float16 a probability over n would underflow, so it is divided afterwards; that rounds once more.
        ctx.late = inverse.nan_to_num(posinf=0.0) if dtype == torch.float16 else None
        scale = torch.ones_like(inverse) if dtype == torch.float16 else inverse
        matrix = weight.to(dtype)
        gradients = [
            torch.empty_like(hidden) if needs[0] else None,
            torch.zeros_like(weight, dtype=wide) if needs[1] else None,
            torch.zeros_like(bias, dtype=wide) if bias is not None and needs[2] else None,
        ]
        of_chunk = _of_chunk(setting, device, scale, len(weight), any(needs))
        total = hidden.new_zeros((), dtype=wide)
        pieces = -(-hidden.shape[0] // setting.chunk)
        size = max(1, -(-hidden.shape[0] // max(1, pieces)))  # equal chunks: one shape is one kernel
        with torch.autocast(device, enabled=False):
            for i in range(0, hidden.shape[0], size):
                h, y = hidden[i : i + size].to(dtype), labels[i : i + size]
                logits = h @ matrix.t() if bias is None else torch.addmm(bias.to(dtype), h, matrix.t())
                total += of_chunk(logits, y)
                _collect(gradients, logits, h, matrix, slice(i, i + size))
                del logits  # before the next chunk's, or two would exist together
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [hidden.dtype, weight.dtype, None if bias is None else bias.dtype]
        return total * inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        factor = upstream if ctx.late is None else upstream * ctx.late
        gradients = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if g is None else _scaled(g, factor, dtype) for g, dtype in gradients), None, None, None, None


def _of_chunk(
    setting: _Setting, device: str, scale: Tensor, vocabulary: int, differentiates: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """What takes a chunk's logits and labels, returns its summed loss and overwrites the logits by their gradient."""
    if setting.fused and device == "cuda":
        run, weights = quack("cross_entropy").cross_entropy_fwd_out, scale.expand(vocabulary).contiguous()

        def in_one(logits: Tensor, labels: Tensor) -> Tensor:
            loss = torch.empty_like(labels, dtype=torch.float32)
            run(logits, labels, None, loss, None, logits if differentiates else None, weights, setting.ignore_index)
            return loss.sum() / scale  # it is weighted too

        return in_one
    possible = SOFTMAX_COMPILES_ON_CPU or device != "cpu" or setting.backend != "inductor"
    kernels: list[Callable[..., Any]] = [_normalise, _differentiate]
    if setting.compiled and possible:
        kernels = [_compiled(function, setting.backend) for function in kernels]
    normalise, differentiate = kernels

    def in_two(logits: Tensor, labels: Tensor) -> Tensor:
        loss, *of_tokens = normalise(logits, labels, scale, setting.ignore_index, setting.z_loss)
        if differentiates:
            differentiate(logits, labels, *of_tokens)
        return loss

    return in_two


def _normalise(logits: Tensor, labels: Tensor, scale: Tensor, ignore_index: int, z_loss: float) -> tuple[Tensor, ...]:
    """The chunk's loss, summed; and of each token, as a column, what its gradient takes.

    These are the largest logit, lse less that, `scale` or 0 without a label, and that times 1 + 2 zeta lse.
    """
    wanted = labels != ignore_index
    index = labels.where(wanted, 0)[:, None]
    x = logits if logits.dtype == torch.float64 else logits.float()
    picked = x.gather(-1, index)[:, 0]
    # In this form the compiler finds the largest value and the sum in one pass.
    top = x.amax(-1, keepdim=True)
    rest = (x - top).exp_().sum(-1, keepdim=True).log()
    lse = (top + rest)[:, 0]
    loss = lse - picked
    if z_loss:
        loss = loss + z_loss * lse.square()
    weight = scale.where(wanted, 0)[:, None]
    return loss.where(wanted, 0).sum(), top, rest, weight, weight * (1 + 2 * z_loss * lse[:, None])


def _differentiate(
    logits: Tensor, labels: Tensor, top: Tensor, rest: Tensor, weight: Tensor, weight_of_softmax: Tensor
) -> None:
    """Overwrite the logits by their gradient, for what `_normalise` found.

    Apart from it, or the compiler would compute the tokens' numbers again for every word.
    """
    x = logits if logits.dtype == torch.float64 else logits.float()
    softmax = (x - top).sub_(rest).exp_().mul_(weight_of_softmax)
    is_label = torch.arange(x.shape[1], device=x.device) == labels[:, None]
    logits.copy_(softmax.sub_(is_label * weight))


@functools.cache
def _compiled(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    name_libraries_plainly()
    return torch.compile(function, fullgraph=True, backend=backend)


def _collect(gradients: list[Tensor | None], dz: Tensor, h: Tensor, matrix: Tensor, rows: slice) -> None:
    """Add what a chunk's gradient of the logits says to the gradients that are wanted."""
    of_hidden, of_weight, of_bias = gradients
    if of_hidden is not None:
        if of_hidden.dtype == dz.dtype:
            torch.mm(dz, matrix, out=of_hidden[rows])
        else:
            of_hidden[rows] = dz @ matrix
    if of_weight is not None:
        if of_weight.dtype == dz.dtype:
            of_weight.addmm_(dz.t(), h)
        else:
            of_weight.add_(dz.t() @ h)
    if of_bias is not None:
        of_bias.add_(dz.sum(0, dtype=of_bias.dtype))


def _scaled(gradient: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """factor gradient, rounded once: a float32 factor would be rounded to bfloat16 before the product."""
    result = torch.empty_like(gradient, dtype=dtype)
    # A factor without dimensions would not raise the precision of the product.
    return torch.mul(gradient, factor.reshape([1] * gradient.ndim), out=result)

"""All options of `bcd.execution` in one value, for a configuration file or one line of a script."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from bcd.checks import require_choice, require_flag, require_whole
from bcd.execution.backward import require_possible, step_in_backward
from bcd.execution.chunked import chunked_loss
from bcd.execution.compiled import compile_layers
from bcd.execution.frozen_products import float8_products, fused_products
from bcd.execution.host import host_embedding
from bcd.execution.kernels.loss import CHUNK
from bcd.execution.recompute import RESERVE, Budget, recompute_layers
from bcd.execution.row_gradients import require_rows, sliced_gradients
from bcd.optimizer import BlockCoordinateDescent

Loss = Literal["plain", "chunked", "fused"]
Autocast = Literal["bfloat16"] | None
Embedding = Literal["device", "host"]
FrozenProducts = Literal["plain", "fused", "float8"]
RowGradients = Literal["whole", "sliced"]


@dataclass(frozen=True)
class Execution:
    """How a step is computed; the default is torch's own way and changes nothing.

    Attributes:
        loss: "plain", the model's own; "chunked", see `chunked_loss`; or "fused", that with one kernel for a chunk's
            loss and gradient.
        chunk: tokens of a chunk.
        z_loss: weight of the squared log-normaliser ("chunked").
        recompute: budget in bytes, 0, None or "free", see `recompute_layers`.
        reserve: bytes that "free" leaves free.
        compiled: compile every layer, and a "chunked" loss, see `compile_layers`.
        backend: of torch.compile.
        autocast: "bfloat16": products of forward and loss in bfloat16, with weights, gradients and state in their own
            dtype (torch.autocast). It changes what is computed by that rounding; in force inside `autocasting` only.
        step_in_backward: use gradients inside backward, see `bcd.execution.backward`.
        embedding: "host" keeps a frozen embedding table in the host's memory, see `host_embedding`.
        frozen_products: "plain", torch's own; "fused", those of gated MLPs with the activation inside, see
            `fused_products`; or "float8", see `float8_products`, which is not the same mathematics.
        row_gradients: of a partition by rows: "whole" weight gradients, as autograd has them, or those of the active
            rows, "sliced", see `sliced_gradients`.

    Raises:
        ValueError: for an impossible value.
    """

    loss: Loss = "plain"
    chunk: int = CHUNK
    z_loss: float = 0.0
    recompute: Budget = None
    reserve: int = RESERVE
    compiled: bool = False
    backend: str = "inductor"
    autocast: Autocast = None
    step_in_backward: bool = False
    embedding: Embedding = "device"
    frozen_products: FrozenProducts = "plain"
    row_gradients: RowGradients = "whole"

    def __post_init__(self) -> None:
        require_choice("loss", self.loss, get_args(Loss))
        require_whole("chunk", self.chunk, least=1, why="a chunk has a whole number of tokens, at least one")
        if self.z_loss and self.loss != "chunked":
            given = f'z_loss={self.z_loss!r} is not possible with loss="{self.loss}"'
            raise ValueError(f'{given}: it is of loss="chunked"')
        if self.recompute is not None and self.recompute != "free":
            why = 'give bytes, 0 to recompute all, None to keep all, or "free"'
            require_whole("recompute", self.recompute, least=0, why=why)
        require_flag("compiled", self.compiled)
        if self.autocast not in (None, "bfloat16"):
            raise ValueError(
                f"autocast={self.autocast!r} is not possible: give bfloat16, or None for the weights' dtype"
            )
        require_flag("step_in_backward", self.step_in_backward)
        require_choice("embedding", self.embedding, get_args(Embedding))
        require_choice("frozen_products", self.frozen_products, get_args(FrozenProducts))
        if self.frozen_products == "fused" and self.autocast is not None:
            raise ValueError(
                f"frozen_products='fused' is not possible with autocast={self.autocast!r}: its products are in the "
                "weights' dtype"
            )
        require_choice("row_gradients", self.row_gradients, get_args(RowGradients))
        if self.row_gradients == "sliced" and self.step_in_backward:
            raise ValueError(
                "row_gradients='sliced' with step_in_backward=True is not possible: what is left of the gradients "
                "stays until the step; leave one off"
            )

    def autocasting(self, device: torch.device) -> AbstractContextManager[object]:
        """Forward and loss on `device` are computed as `autocast` says inside the block; backward follows them."""
        return nullcontext() if self.autocast is None else torch.autocast(device.type, torch.bfloat16)

    def __call__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, check: bool = True
    ) -> Callable[[], None]:
        """Turn the options on; call the function that it returns to turn them off.

        What raises leaves no option on. A warning names parameters that are trainable and in no block of a
        `BlockCoordinateDescent`: their gradients pile up, since its `zero_grad` does not know them.

        Args:
            model: see the functions' own docstrings; on the device where it is trained.
            optimizer: needed for step_in_backward, row_gradients="sliced" and a "free" budget; embedding="host"
                refuses a table that it trains.
            check: see `chunked_loss`.
        """
        if self.step_in_backward:
            require_possible(optimizer)
        if self.row_gradients == "sliced":
            require_rows(optimizer)
        _warn_of_trainable_parameters_outside(model, optimizer)
        with ExitStack() as on:
            if self.embedding == "host":
                on.callback(host_embedding(model, optimizer))
            if self.row_gradients == "sliced":
                on.callback(sliced_gradients(model, optimizer))  # pyright: ignore[reportArgumentType]
            if self.frozen_products != "plain":
                on.callback(fused_products(model) if self.frozen_products == "fused" else float8_products(model))
            if self.loss != "plain":
                undo = chunked_loss(
                    model,
                    chunk=self.chunk,
                    z_loss=self.z_loss,
                    compiled=self.compiled,
                    backend=self.backend,
                    fused=self.loss == "fused",
                    check=check,
                )
                on.callback(undo)
            if self.compiled:
                on.callback(compile_layers(model, backend=self.backend))
            if self.recompute is not None:
                on.callback(recompute_layers(model, self.recompute, reserve=self.reserve, optimizer=optimizer))
            if self.step_in_backward:
                on.callback(step_in_backward(optimizer))  # pyright: ignore[reportArgumentType]
            return on.pop_all().close


def _warn_of_trainable_parameters_outside(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    if not isinstance(optimizer, BlockCoordinateDescent):
        return
    known = {id(p) for block in optimizer.partition.blocks for p in block.parameters.values()}
    known |= {id(p) for p in optimizer.partition.frozen.values()}
    if outside := [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in known]:
        warnings.warn(
            f"{len(outside)} trainable parameters of {type(model).__name__} are in no block of the optimizer "
            f"({outside[0]} the first): they get gradients that nothing uses or clears; freeze them with "
            "requires_grad_(False), or make the partition of the whole model",
            stacklevel=3,
        )

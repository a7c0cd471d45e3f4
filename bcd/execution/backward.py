"""The optimizer's step inside backward: each gradient is used and freed as soon as it is complete.

Without it the gradients of the whole active block wait for `optimizer.step()`; with it at most those of one layer's
graph exist together (of one parameter, if the layer is not compiled). The update of a parameter is bitwise that of a
step, because a rule moves every tensor by itself. `optimizer.step()` stays where it is in the loop: it counts the step
and starts the next visit.

What needs the gradients of a step together cannot work:

* gradient accumulation: the second backward of a step raises RuntimeError.
* clipping by the global norm: the gradients are gone when `clip_grad_norm_` looks, and it returns 0. Leave it off
  (`max_grad_norm=0` in transformers.Trainer).
* torch.amp.GradScaler: gradients are scaled when they are used, and its `unscale_` finds none and raises. bfloat16
  needs no scaler.
* several processes (DistributedDataParallel, FSDP), which reduce gradients after these hooks.
* a greedy order, an expansion, or nonfinite="skip" and "raise", which look at gradients first: ValueError.

Saving and resuming are as without it, between `optimizer.step()` and the next backward.
"""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from bcd.optimizer import BlockCoordinateDescent


def step_in_backward(optimizer: BlockCoordinateDescent) -> Callable[[], None]:
    """Let backward move each active parameter by its gradient and free it.

        undo = step_in_backward(optimizer)

    Args:
        optimizer: whose `step` stays where it is in the loop.

    Returns:
        A function that undoes it.

    Raises:
        ValueError: for an optimizer with an option that needs all gradients, or in a process group of several
            processes.
    """
    require_possible(optimizer)
    itself = weakref.ref(optimizer)
    moved: set[int] = set()

    def use(parameter: Tensor) -> None:
        alive = itself()
        if alive is None or parameter.grad is None:
            return
        if id(parameter) in moved:
            raise RuntimeError(
                "a second backward came before optimizer.step(): the step in backward uses every gradient at once, so "
                "gradients cannot be accumulated"
            )
        if _processes() > 1:
            raise RuntimeError(
                "a process group of several processes came after step_in_backward was turned on, whose gradients are "
                "averaged after the step in backward has used them: leave it off"
            )
        moved.add(id(parameter))
        alive.step_on(parameter)

    handles = [
        optimizer.register_step_post_hook(lambda *_: moved.clear()),
        optimizer.register_visit_hook(start=lambda _: moved.clear()),  # of a loaded state, nothing has moved yet
    ]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            trains = parameter.requires_grad
            # torch wants a parameter that requires a gradient to hang a hook on.
            handles.append(parameter.requires_grad_(True).register_post_accumulate_grad_hook(use))
            parameter.requires_grad_(trains)

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


def require_possible(optimizer: object) -> None:
    """Raise ValueError unless the step may be inside backward."""
    if optimizer is None:
        raise ValueError("the step in backward needs the optimizer: pass it beside the model")
    if not isinstance(optimizer, BlockCoordinateDescent):
        raise ValueError(
            f"optimizer={type(optimizer).__name__} is not possible: only BlockCoordinateDescent steps in backward"
        )
    reasons = {
        "a greedy order chooses by all gradients": getattr(optimizer.order, "needs_gradients", False),
        "an expansion uses gradients in its own way": optimizer.expansion is not None,
        f"nonfinite={optimizer.nonfinite!r} looks at all gradients first": optimizer.nonfinite != "ignore",
        "several processes reduce gradients after backward": _processes() > 1,
    }
    if why := [reason for reason, holds in reasons.items() if holds]:
        raise ValueError(f"step_in_backward is not possible: {'; '.join(why)}")


def _processes() -> int:
    available = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if available else 1

"""What other libraries need so that block coordinate descent runs in them and keeps its savings.

    Trainer(
        model=model,
        optimizer_cls_and_kwargs=(trainer_badam, {"lr": 1e-5}),      # or optimizers=(optimizer, schedule)
        callbacks=[BlockCallback()],
        ...
    )

holds for `Trainer` of transformers and for SFTTrainer and RewardTrainer of trl; its DPOTrainer and GRPOTrainer take
``optimizers=(bcd.badam(model, lr=1e-5), None)``. Nothing of them is imported here.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from bcd.execution.recompute import checkpoint_active_layers, recompute_layers, recomputed_layers
from bcd.optimizer import BlockCoordinateDescent
from bcd.published import badam

__all__ = ["BlockCallback", "checkpoint_active_layers", "trainer_badam"]


def trainer_badam(*arguments: Any, **options: Any) -> Any:
    """For ``optimizer_cls_and_kwargs=(trainer_badam, {"lr": 1e-5})``, with the options of `bcd.badam`.

    Trainers call it without arguments for a function of the model; called with the model it is `bcd.badam` itself.

    Raises:
        TypeError: where a trainer gives parameters or their groups, whose model nobody knows.
    """
    if not arguments and not options:
        return badam
    if not arguments or not isinstance(arguments[0], nn.Module):
        kind = type(arguments[0]).__name__ if arguments else "nothing"
        raise TypeError(
            f"trainer_badam needs the model and got {kind}: this trainer makes optimizers of parameters; give it "
            "optimizers=(bcd.badam(model, lr=...), None)"
        )
    return badam(*arguments, **options)


class BlockCallback:
    """A callback of transformers' trainers for runs whose optimizer is `BlockCoordinateDescent`.

    - Where the trainer's own activation checkpointing is on (which is trl's default), it is exchanged for
      `checkpoint_active_layers`, whose backward stops at the active block, until training ends.
    - Every entry of ``state.log_history`` and of what is logged gets `active_block` (names, joined by ", "), `visit`
      (counted from 1) and `used_lr` (the step size of the last step). Reports of the trainer (``report_to``) come
      before callbacks that are given to it: pass their callback behind this one to have these there too.

    It has the methods of ``transformers.TrainerCallback`` without being one, so that nothing is imported.

    Raises:
        TypeError: from the start of training, with another optimizer.
    """

    def __init__(self) -> None:
        self._optimizer: BlockCoordinateDescent | None = None
        self._undo: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):  # the events that it has nothing to do at
            return _nothing
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._optimizer = _inside(given.get("optimizer"))
        model = given["model"]
        if not any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            return
        # transformers renames it: the old name warns, and a model of an older version has no other.
        disable = getattr(model, "activation_checkpointing_disable", None)
        (model.gradient_checkpointing_disable if disable is None else disable)()
        if getattr(model, "_require_grads_hook", None) is not None:
            model.disable_input_require_grads()
        if recomputed_layers(model) is None:
            self._undo = recompute_layers(model, 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        optimizer = self._optimizer
        if optimizer is None:
            return
        entry = {
            "active_block": ", ".join(optimizer.partition.blocks[i].name for i in optimizer.active_blocks),
            "visit": optimizer.visits_started,
            "used_lr": max(optimizer.used_lr.values(), default=0.0),
        }
        for place in (logs, state.log_history[-1] if state.log_history else None):
            if place is not None:
                place.update(entry)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None


def _nothing(*arguments: Any, **given: Any) -> None:
    pass


def _inside(optimizer: Any) -> BlockCoordinateDescent:
    """The optimizer inside what accelerate wraps around it."""
    while not isinstance(optimizer, BlockCoordinateDescent):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer) or inner is optimizer:
            raise TypeError(
                f"the trainer's optimizer is {type(optimizer).__name__}, and this callback is for "
                "bcd.BlockCoordinateDescent; give the trainer optimizer_cls_and_kwargs=(trainer_badam, {'lr': ...})"
            )
        optimizer = inner
    return optimizer

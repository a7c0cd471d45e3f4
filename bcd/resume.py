"""Saving an optimizer and continuing it: what must be equal for that, and the refusal that names the difference."""

import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bcd.blocks import Partition
from bcd.processes import Averaging
from bcd.visits import Visits


def setting(partition: Partition, **options: Any) -> dict[str, Any]:
    """The options as they are, and the blocks with names, shapes and rows, all plain values."""
    blocks = {
        block.name: [[part.name, list(part.of(part.parameter).shape), *(part.rows or ())] for part in block.parts]
        for block in partition.blocks
    }
    return {**options, "blocks": blocks}


WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What torch.compile and other wrappers put into the names of a model's parameters."""


def unwrapped(name: str) -> str:
    """A name as in the model itself: without wrappers, and without the "module." of DistributedDataParallel."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    return ".".join(parts[1:] if parts[:1] == ["module"] and len(parts) > 1 else parts)


def _unwrapped(setting: Mapping[str, Any]) -> dict[str, Any]:
    blocks = {
        unwrapped(block): [[unwrapped(name), *rest] for name, *rest in parts]
        for block, parts in setting["blocks"].items()
    }
    return {**setting, "blocks": blocks, "always_active": list(map(unwrapped, setting["always_active"]))}


ENTRIES = {"held", "active_blocks", "choosing", "visits_started", "steps_in_visit", "skipped_steps", "full_backwards"}


def require_saved(state_dict: Any) -> None:
    """Raise ValueError, naming what lacks, unless the state_dict was saved by `BlockCoordinateDescent`."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"state_dict={state_dict!r} is not possible: give what optimizer.state_dict() returned")
    if state_dict.get("visit") is None:
        raise ValueError(
            "this state_dict has no 'visit' entry; it was not saved by BlockCoordinateDescent.state_dict()"
        )
    lacking = sorted({*ENTRIES, "setting"} - state_dict["visit"].keys())
    if lacking := lacking + ["param_groups"] * ("param_groups" not in state_dict):
        raise ValueError(f"the state_dict is incomplete, it lacks {lacking}; save optimizer.state_dict() as it is")


LATER: dict[str, Any] = {"decay_vectors": True}
"""Options that a setting saved before they were there lacks, with what they were then."""


def require_equal(saved: Mapping[str, Any], here: Mapping[str, Any], *, other_inner_steps: bool = False) -> None:
    """Raise ValueError, naming the difference, unless a saved setting is that of this optimizer.

    Wrappers of the model, such as DistributedDataParallel and torch.compile, make no difference.

    Args:
        saved: the setting in a state_dict.
        here: that of the optimizer.
        other_inner_steps: whether K may differ.
    """
    saved, here = LATER | _unwrapped(saved), _unwrapped(here)
    old, new = saved["blocks"], here["blocks"]
    if old.keys() != new.keys():
        gone, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
        raise ValueError(f"the state_dict is of another partition: it has the blocks {gone}, here are {added}")
    if other := [name for name in new if old[name] != new[name]]:
        raise ValueError(f"the state_dict is of another partition: other parameters, shapes or rows in {other}")
    if list(old) != list(new):
        raise ValueError(f"the state_dict is of another partition: its blocks are in the order {list(old)}")
    for name, value in here.items():
        if saved[name] != value and not (name == "inner_steps" and other_inner_steps):
            way = "; other_inner_steps=True goes on with this one" if name == "inner_steps" else ""
            raise ValueError(f"the state_dict has {name}={saved[name]!r}, here it is {value!r}{way}")


def require_complete(held: Iterable[int], state: Mapping[int, Any]) -> None:
    """Raise ValueError unless `state` has an entry for each parameter that held state when it was saved (no other)."""
    if missing := sorted(set(held) - state.keys()):
        raise ValueError(
            f"the state_dict lacks the state of the parameters {missing}, which was saved with it; "
            "torch.distributed.checkpoint.load reads only what the state_dict that it is given already holds"
        )
    if unknown := sorted(state.keys() - set(held)):
        raise ValueError(f"the state_dict has state of the parameters {unknown}, which had none when it was saved")


@contextmanager
def _without(hooks: OrderedDict[int, Any]) -> Iterator[list[Any]]:
    """torch's hooks, which the optimizer calls itself, away inside the block."""
    kept = dict(hooks)
    hooks.clear()
    try:
        yield list(kept.values())
    finally:
        hooks.update(kept)


class Resumable(Visits):
    """The part of `BlockCoordinateDescent` that saves and continues it, and makes copies."""

    always_active: tuple[str, ...]
    decay_vectors: bool
    skipped_steps: int
    _averaging: Averaging

    def __getstate__(self) -> dict[str, Any]:
        """torch would keep three attributes only, and a copied or unpickled optimizer would have lost its blocks.

        Hooks of visits stay with the optimizer that they were registered with.
        """
        return {**self.__dict__, "_visit_hooks": OrderedDict()}

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict and, under ``"visit"``, the block, the position in the visit and the order's state.

        All of it is needed to continue. Of torch.distributed.checkpoint, `get_optimizer_state_dict` drops the visit,
        and `load` into the state_dict of a new optimizer, which has no moments yet, reads none; both are refused here.
        Save this state_dict with `save` and read it back with `dcp_to_torch_save` and torch.load.
        """
        with _without(self._optimizer_state_dict_post_hooks) as hooks:  # they are to see the visit too
            state = super().state_dict()
        state["visit"] = {
            "active_blocks": list(self.active_blocks),
            "choosing": self._choosing,
            "visits_started": self.visits_started,
            "steps_in_visit": self.steps_in_visit,
            "skipped_steps": self.skipped_steps,
            "full_backwards": self.full_backwards,
            "setting": self._setting(),
            "order": self.order.state_dict(),
            "held": sorted(state["state"]),
            "expansion": {key: dict(values) for key, values in self.expansion_state.items()},
        }
        for hook in hooks:
            changed = hook(self, state)
            state = state if changed is None else changed
        return state

    def _setting(self) -> dict[str, Any]:
        """What must be equal for a state to be continued."""
        return setting(
            self.partition,
            inner_steps=self.inner_steps,
            rule=type(self.rule).__name__,
            order=type(self.order).__name__,
            state=self.state_lifetime,
            master=self.master,
            always_active=list(self.always_active),
            expansion=repr(self.expansion),
            decay_vectors=self.decay_vectors,
        )

    def load_state_dict(self, state_dict: Mapping[str, Any], *, other_inner_steps: bool = False) -> None:
        """Continue exactly where `state_dict` was taken, also in the middle of a visit.

        Args:
            state_dict: what `state_dict()` returned.
            other_inner_steps: go on with this optimizer's K where it differs from the saved one: from the visit that
                is under way, which ends with the next step if it has as many steps already.

        Raises:
            ValueError: naming the difference, when it comes from another partition, rule, order, K or option, or from
                no BlockCoordinateDescent; nothing is changed in that case.
        """
        state_dict = dict(state_dict) if isinstance(state_dict, Mapping) else state_dict
        for hook in list(self._optimizer_load_state_dict_pre_hooks.values()):
            changed = hook(self, state_dict)  # pyright: ignore[reportArgumentType]
            state_dict = state_dict if changed is None else changed
        require_saved(state_dict)
        visit = state_dict["visit"]
        require_equal(visit["setting"], self._setting(), other_inner_steps=other_inner_steps)
        # torch.distributed.checkpoint makes strings of integer keys and leaves empty dicts out.
        state = {int(index): values for index, values in state_dict.get("state", {}).items()}
        require_complete(visit["held"], state)
        order = visit.get("order", {})
        try:  # on a copy: an order that cannot read its state should say so before anything changes
            copy.deepcopy(self.order).load_state_dict(order)
        except KeyError as error:
            raise ValueError(
                f"the state_dict's order lacks {error}, which {type(self.order).__name__} needs"
            ) from error
        # torch would cast float32 moments and integer remainders to the dtype of bfloat16 weights, so it gets none.
        groups = copy.deepcopy(list(state_dict["param_groups"]))
        pre, post = self._optimizer_load_state_dict_pre_hooks, self._optimizer_load_state_dict_post_hooks
        with _without(pre), _without(post) as after:
            super().load_state_dict({"state": {}, "param_groups": groups})
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, values in state.items():
            self.state[parameters[index]] = copy.deepcopy(values)
        for parameter in parameters:
            parameter.grad = None
        self.order.load_state_dict(order)
        self._choosing = visit["choosing"]
        for name in ("visits_started", "steps_in_visit", "skipped_steps", "full_backwards"):
            setattr(self, name, visit[name])
        self._averaging.done = False
        self._apply.drop_freed()
        self._apply.end_visit()
        self._activate(tuple(visit["active_blocks"]))
        # What the steps before met is not saved.
        self._reached = set(self.active_blocks) if self.steps_in_visit else set()
        if not self._choosing:
            self._bring()
        self.expansion_state.clear()
        for key, values in copy.deepcopy(visit.get("expansion", {})).items():
            index, place = map(int, key.split("."))
            device = self.partition.blocks[index].parts[place].parameter.device
            self.expansion_state[key] = {n: v if n == "step" else v.to(device) for n, v in values.items()}
        for hook in after:
            hook(self)
        self._call_visit_hooks("start")

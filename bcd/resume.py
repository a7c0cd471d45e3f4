"""What must be equal for a saved optimizer state to be continued, and the refusal that names the difference."""

from collections.abc import Iterable, Mapping
from typing import Any

from bcd.blocks import Partition


def setting(partition: Partition, **options: Any) -> dict[str, Any]:
    """The options as they are, and the blocks with names, shapes and rows, all plain values."""
    blocks = {
        block.name: [[part.name, list(part.of(part.parameter).shape), *(part.rows or ())] for part in block.parts]
        for block in partition.blocks
    }
    return {**options, "blocks": blocks}


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


def require_equal(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the difference, unless a saved setting is that of this optimizer."""
    old, new = saved["blocks"], own["blocks"]
    if old.keys() != new.keys():
        gone, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
        raise ValueError(f"the state_dict is of another partition: it has the blocks {gone}, here are {added}")
    if other := [name for name in new if old[name] != new[name]]:
        raise ValueError(f"the state_dict is of another partition: other parameters, shapes or rows in {other}")
    if list(old) != list(new):
        raise ValueError(f"the state_dict is of another partition: its blocks are in the order {list(old)}")
    for name, value in own.items():
        if saved[name] != value:
            raise ValueError(f"the state_dict has {name}={saved[name]!r}, here it is {value!r}")


def require_complete(held: Iterable[int], state: Mapping[int, Any]) -> None:
    """Raise ValueError unless `state` has an entry for each parameter that held state when it was saved (no other)."""
    if missing := sorted(set(held) - state.keys()):
        raise ValueError(
            f"the state_dict lacks the state of the parameters {missing}, which was saved with it; "
            "torch.distributed.checkpoint.load reads only what the state_dict that it is given already holds"
        )
    if unknown := sorted(state.keys() - set(held)):
        raise ValueError(f"the state_dict has state of the parameters {unknown}, which had none when it was saved")

"""The record of an entry point that computes one thing as a whole: read if it is there, else computed and written."""

from collections.abc import Callable, Mapping
from typing import Any

import records
from records.provenance import provenance


def recorded(
    study: str,
    name: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    measure: Callable[[], dict[str, Any]],
    *,
    force: bool,
) -> tuple[records.Record, str]:
    """The record of that study and name for this config and these inputs, and a line that says where it is.

    Args:
        inputs: name -> hash of the code and data that produce it, see `records.run_key`.
        measure: its measurements.
        force: compute again although the record exists.
    """
    key = records.run_key(config, inputs)
    finished = None if force else records.find(study, name, key, records.OUTPUTS)
    if finished:
        return finished, f"finished before, read from {finished.path} (--force computes it again)"
    origin = provenance("cpu")
    made = records.Record("verify", study, name, key, "finished", dict(config), measure(), origin)
    return made, f"wrote {records.write(made, records.OUTPUTS)}"

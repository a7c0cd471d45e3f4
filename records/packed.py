"""Tables of numbers inside a record as text: each row scaled to [-1, 1] and rounded to 16-bit floats (IEEE binary16).

A number keeps about three digits relative to the largest of its row, for 2.7 characters instead of 20.
"""

import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

from records import RecordError


def pack(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """A table as JSON: `shape`, `scale` (largest absolute value of each row) and `half` (base64, little endian).

    Raises:
        RecordError: when rows differ in length or a number is not finite.

    >>> unpack(pack([[1.0, -0.5], [0.0, 0.0]]))
    [[1.0, -0.5], [0.0, 0.0]]
    """
    width = len(rows[0]) if rows else 0
    if any(len(row) != width for row in rows):
        raise RecordError(f"rows of {sorted({len(row) for row in rows})} numbers are no table")
    if not all(math.isfinite(x) for row in rows for x in row):
        raise RecordError("a number of the table is not finite")
    scale = [max((abs(x) for x in row), default=0.0) for row in rows]
    flat = [x / size if size else 0.0 for row, size in zip(rows, scale, strict=True) for x in row]
    text = base64.b64encode(struct.pack(f"<{len(flat)}e", *flat)).decode()
    return {"shape": [len(rows), width], "scale": scale, "half": text}


def unpack(table: dict[str, Any]) -> list[list[float]]:
    """The rows that `pack` was given, rounded.

    Raises:
        RecordError: when the table is damaged.
    """
    try:
        (height, width), scale = table["shape"], table["scale"]
        flat = struct.unpack(f"<{height * width}e", base64.b64decode(table["half"], validate=True))
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise RecordError(f"a packed table is damaged: {error}") from error
    if len(scale) != height:
        raise RecordError(f"a packed table has {len(scale)} scales for {height} rows")
    return [[x * size for x in flat[i * width : (i + 1) * width]] for i, size in enumerate(scale)]

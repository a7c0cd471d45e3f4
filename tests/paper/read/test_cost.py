"""The rows of the study of cost: versions in print, and fewer layers followed to the whole model."""

import dataclasses
from typing import Any

import pytest

from paper.read import cost
from records import RecordError
from tests.paper.small import of_study


def test_versions_in_print():
    rows = cost.rows(of_study("cost"))
    printed = {(row.family, row.tokens, cost.in_print(row)) for row in rows}
    assert printed >= {
        ("badam", 8192, "8-bit products"),
        ("badam", 2048, "600 MB kept"),
        ("lora", 8192, "documented, no TF32"),
    }
    options = rows[0].options

    def printed_as(**values: Any) -> str:
        changed = dataclasses.replace(options, **values)
        return cost.in_print(dataclasses.replace(small, options=changed))

    small = dataclasses.replace(rows[0], key=cost.Key("badam", "some", without_tf32=False, tokens=2048))
    assert printed_as(products="float8", recompute=700_000_000) == "700 MB kept, 8-bit"
    assert printed_as(recompute=1_750_000_000) == "1750 MB kept"
    assert printed_as(recompute=16 * 10**9) == "16 GB kept"
    assert printed_as(recompute=0, host=True) == "recomputed, host"
    assert printed_as(products="fused", host=True, recompute=1, card=24) == "24 GB card, host, fused"
    assert printed_as(clipped=True) == "all kept, clipped"
    assert found(cost.recomputed(rows, 2048)) == ("600mb", "")
    assert found(cost.recomputed(rows, 2048, "fused")) == ("fused_host_600mb", "fused")
    assert cost.recomputed(rows, 100) is None
    shown = {(row.version, row.key.without_tf32) for row in cost.compared(rows, 8192)}
    assert shown == {(name, False) for name in ("documented", "options", "keep", "fused", "float8")} | {
        ("documented", True)
    }


def found(row: cost.Row | None) -> tuple[str, str]:
    assert row is not None
    return row.version, row.options.products


def test_fewer_layers_are_followed_to_the_whole_model():
    (adamw,) = (row for row in cost.rows(of_study("cost")) if row.family == "adamw")
    assert adamw.layers == [8, 16]
    assert adamw.seconds["step"] == pytest.approx(0.5), "a quarter and a half of it at 8 and 16 of 32 layers"
    assert adamw.peak == pytest.approx(20e9)
    one = [record for record in of_study("cost") if record.config["layers"] == 8]
    with pytest.raises(ValueError, match="two depths are needed"):
        cost.rows(one)


def test_a_run_without_labels_is_named_with_its_field():
    first, *others = of_study("cost")
    bare = dataclasses.replace(first, config=first.config | {"about": {"family": "badam", "version": None}})
    with pytest.raises(RecordError, match=r"cost: run-00 has no config\.about\.version, which the paper groups by"):
        cost.rows([bare, *others])
    with pytest.raises(RecordError, match=r"no config\.about\.family"):
        cost.rows([dataclasses.replace(first, config={k: v for k, v in first.config.items() if k != "about"})])

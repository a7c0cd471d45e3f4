"""The rows of the study of cost: versions in print, and fewer layers followed to the whole model."""

import dataclasses

import pytest

from paper.read import cost
from tests.paper.small import of_study


def test_versions_in_print():
    rows = cost.rows(of_study("cost"))
    printed = {(row.family, row.tokens, cost.in_print(row)) for row in rows}
    assert printed >= {
        ("badam", 8192, "8-bit products"),
        ("badam", 2048, "600 MB kept"),
        ("lora", 8192, "documented, no TF32"),
    }
    small = dataclasses.replace(rows[0], version="float8_700mb")
    assert cost.in_print(small) == "700 MB kept, 8-bit"
    assert cost.in_print(dataclasses.replace(rows[0], version="host_0gb")) == "recomputed, host"
    assert cost.in_print(dataclasses.replace(rows[0], version="fused_host_card24")) == "24 GB card, host, fused"
    assert cost.recomputed(rows, 2048).version == "600mb"
    assert cost.recomputed(rows, 2048, "fused").version == "fused_host_600mb"
    assert cost.recomputed(rows, 100) is None
    shown = {row.version for row in cost.compared(rows, 8192)}
    assert shown == {"documented", "options", "documented-without_tf32", "keep", "fused", "float8"}


def test_fewer_layers_are_followed_to_the_whole_model():
    (adamw,) = (row for row in cost.rows(of_study("cost")) if row.family == "adamw")
    assert adamw.layers == [8, 16]
    assert adamw.seconds["step"] == pytest.approx(0.5), "a quarter and a half of it at 8 and 16 of 32 layers"
    assert adamw.peak == pytest.approx(20e9)
    one = [record for record in of_study("cost") if "layers8" in record.name]
    with pytest.raises(ValueError, match="two depths are needed"):
        cost.rows(one)

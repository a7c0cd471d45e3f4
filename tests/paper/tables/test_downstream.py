"""Right answers before and after training."""

from dataclasses import replace

from paper.tables import downstream
from tests.paper.synthetic import of_kind


def test_downstream_marks_what_differs_from_the_untrained_model():
    text = downstream.text(of_kind("evaluate"), of_kind("compare"))
    assert r"GSM8K & 500 & 0.0 & 2.0 & 2.4 & 6.0$^*$ & 0.0$^*$ & 3.2 \\" in text
    assert r"ARC easy & 500 & 25.0 & 40.0 & -- & 44.0 & 46.0$^\dagger$ & 3.2 \\" in text
    assert r"mean &  &  & 21.0 & -- & 25.0 & 23.0 &  \\" in text, "BAdam lacks a task"
    assert r"puzzles, loss &  &  & 3.00 & 3.50 & -- & -- &  \\" in text
    failed = [
        replace(record, status="failed", error="KeyError", measurements={}) for record in of_kind("evaluate")[:1]
    ]
    assert r"& \rotatebox{60}{BAdam}" in downstream.text([*failed, *of_kind("evaluate")[1:]], of_kind("compare"))

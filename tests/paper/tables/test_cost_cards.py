"""Runs of cost on two cards."""

from paper.tables import cost_cards
from tests.paper.small import of_study


def test_what_both_cards_have_stands_side_by_side():
    lines = cost_cards.text(of_study("cost"), of_study("cost_h200")).splitlines()
    assert r"\multicolumn{3}{c}{Z9}" in lines[2]
    (keep,) = (line for line in lines if "all kept" in line)
    assert keep == r"BAdam, ours, all kept & 8\,192 & 32\,768 & 40.0\,\% & 2.00 & 16\,384 & 20.0\,\% & 1.00 \\"
    assert len([line for line in lines if "8\\,192" in line]) == 3, "what both cards have"

"""The learning rates that were chosen."""

from paper.tables import tuning
from tests.paper.synthetic import of


def test_tuning_says_what_lies_at_the_edge():
    text = tuning.text(of("tuned"))
    assert r"BAdam & $1 \times 10^{-4}$* & 1 of 5 & $1 \times 10^{-4}$* & 1 of 5 \\" in text
    assert r"GaLore & $1 \times 10^{-3}$ & 1 of 5 & -- & -- \\" in text

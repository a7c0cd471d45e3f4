"""Every headline method for the time of LoRA's steps."""

import pytest

from paper.tables import equal_time_in_numbers
from tests.paper.synthetic import of


def test_equal_time_has_the_steps_and_the_difference_to_lora():
    text = equal_time_in_numbers.text(of("equal_time"), of("steps_alone"))
    gsm8k, alpaca = ([line.split(" & ") for line in part.splitlines()[1:]] for part in text.split(r"\emph")[1:])
    assert [row[:2] for row in gsm8k[:2]] == [["AdamW", "900"], ["LoRA", "420"]]
    assert [row[:2] for row in alpaca[:2]] == [["AdamW", "700"], ["LoRA", "420"]]
    assert [*gsm8k[1][2:4], *gsm8k[1][5:]] == ["--", "2.60", "--", r"-- \\"], (
        "LoRA is what the others are compared with"
    )
    for rows in (gsm8k, alpaca):
        (badam,) = (row for row in rows if row[0] == "BAdam")
        assert float(badam[5].strip("$")) == pytest.approx(0.07, abs=0.01)
        assert badam[2] == "775--861", "420 steps times 0.041 s / 0.020 s, and 0.9 times that in the third round"
    assert "775" not in equal_time_in_numbers.text(of("equal_time"), [])

"""Which variants need no more than LoRA and reach its loss."""

from dataclasses import replace

from paper.read import frontier
from tests.paper.synthetic import of


def test_what_is_within_lora_s_loss_memory_and_time():
    variants, methods, alone = of("variants"), of("methods"), of("steps_alone")
    entries = {entry.method: entry for entry in frontier.entries(variants, methods, alone)}
    assert entries["lora"].within is None
    assert entries["badam"].within is False
    cheap = [
        replace(r, measurements=r.measurements | {"after": {"heldout_loss": 0.5}, "peak_allocated": 1e9})
        for r in variants
        if "blocks5-" in r.name
    ]
    found = {entry.method: entry for entry in frontier.entries(cheap, methods, alone)}
    assert found["badam_blocks5"].within is True
    assert {e.method: e.within for e in frontier.entries(cheap, methods, [])}["badam_blocks5"] is None

import pytest
import torch

from bcd.precision import join, round_half_up, split, ties


def numbers():
    """float32 numbers of all magnitudes, signs and bit patterns, zeros, subnormals and ties among them."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (200_000,), generator=generator, dtype=torch.int64)
    patterns = bits.to(torch.int32).view(torch.float32)
    exact_ties = ((bits.to(torch.int32) & ~0xFFFF) | 0x8000).view(torch.float32)
    special = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.0, 3.4e38])
    together = torch.cat([patterns, exact_ties, special])
    return together[torch.isfinite(together)]


def test_split_and_join_are_inverse_to_the_last_bit():
    master = numbers()
    weight, remainder = torch.empty_like(master, dtype=torch.bfloat16), torch.empty_like(master, dtype=torch.int16)
    split(master.clone(), weight, remainder)
    assert torch.equal(join(weight, remainder).view(torch.int32), master.view(torch.int32))


def test_the_weight_differs_from_nearest_even_at_ties_only():
    master = numbers()
    half_up, nearest_even = round_half_up(master), master.to(torch.bfloat16)
    differ = half_up.view(torch.int16) != nearest_even.view(torch.int16)
    tie = (master.view(torch.int32) & 0xFFFF) == 0x8000
    assert ties(master) == int(tie.sum()) > 1000
    assert not (differ & ~tie).any()
    # Nearest even goes up at every second tie, half up at all of them.
    assert 0.4 < differ.sum() / tie.sum() < 0.6


def test_slices_and_matrices_are_written_in_place():
    master = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    weight, remainder = torch.zeros(8, 6, dtype=torch.bfloat16), torch.zeros(4, 6, dtype=torch.int16)
    split(master.clone(), weight[2:6], remainder)
    assert torch.equal(join(weight[2:6], remainder), master)
    assert not weight[:2].any()
    assert not weight[6:].any()


@pytest.mark.gpu
def test_the_device_splits_as_the_cpu_does():
    master = numbers()
    assert torch.equal(round_half_up(master.cuda()).cpu().view(torch.int16), round_half_up(master).view(torch.int16))

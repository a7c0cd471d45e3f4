import pytest
import torch
from torch import nn

from bcd import SGD, Adam, Block, BlockCoordinateDescent, Cyclic, Partition, Sign
from bcd.precision import join, split
from tests.bcd.conftest import round_half_up


def numbers():
    """float32 numbers of all magnitudes, signs and bit patterns, zeros, subnormals and ties among them."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (200_000,), generator=generator, dtype=torch.int64)
    patterns = bits.to(torch.int32).view(torch.float32)
    exact_ties = ((bits.to(torch.int32) & ~0xFFFF) | 0x8000).view(torch.float32)
    special = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.0, 3.4e38])
    together = torch.cat([patterns, exact_ties, special])
    return together[torch.isfinite(together)]


def ties(master):
    """How many elements of `master` lie exactly between two bfloat16 numbers."""
    return int((master.view(torch.int32) & 0xFFFF).eq(0x8000).sum())


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
    # At a tie, nearest even stays where the upper half of the bits is even; half up never stays.
    even = (master.view(torch.int32) >> 16) & 1 == 0
    assert torch.equal(differ, tie & even)
    assert 0.4 < differ.sum() / tie.sum() < 0.6


def test_negative_numbers_are_rounded_as_their_mirror_images():
    master = numbers().abs()
    assert torch.equal(round_half_up(-master).view(torch.int16), (-round_half_up(master)).view(torch.int16))
    tie = torch.tensor([1 + 2**-8, -(1 + 2**-8)])  # half-way to the next bfloat16 number, 1 + 2^-7
    assert round_half_up(tie).tolist() == [1 + 2**-7, -(1 + 2**-7)]
    assert tie.to(torch.bfloat16).tolist() == [1, -1], "torch rounds to even"


def master_of(*bits):
    return torch.tensor([b - 2**32 if b >= 2**31 else b for b in bits], dtype=torch.int32).view(torch.float32)


def halves(master):
    weight, remainder = torch.empty_like(master, dtype=torch.bfloat16), torch.empty_like(master, dtype=torch.int16)
    split(master.clone(), weight, remainder)
    return weight, remainder


def test_subnormals_keep_every_bit():
    master = master_of(0x00000001, 0x00007FFF, 0x00008000, 0x007FFFFF, 0x80000001, 0x80008000, 0x00000000, 0x80000000)
    weight, remainder = halves(master)
    smallest = 2.0**-133  # of bfloat16
    assert weight.tolist() == [0, 0, smallest, 2.0**-126, -0.0, -smallest, 0.0, -0.0]
    assert torch.equal(join(weight, remainder).view(torch.int32), master.view(torch.int32))


def test_infinities_stay_and_what_is_out_of_range_has_a_finite_master():
    master = master_of(0x7F800000, 0xFF800000, 0x7F7FFFFF, 0xFF7F8000, 0x7F7F7FFF)
    weight, remainder = halves(master)
    inf, largest = float("inf"), torch.finfo(torch.bfloat16).max
    assert weight.tolist() == [inf, -inf, inf, -inf, largest]
    assert torch.equal(join(weight, remainder).view(torch.int32), master.view(torch.int32))


def test_every_nan_is_a_nan_as_weight_and_as_master():
    quiet, device, all_ones = 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF
    master = master_of(quiet, device, all_ones, 0x7F800001, 0xFF800001, 0x7F807FFF, 0xFFC00000)
    assert master.isnan().all()
    weight, remainder = halves(master)
    assert weight.isnan().all()
    assert join(weight, remainder).isnan().all()


@pytest.mark.gpu
def test_a_nan_of_the_device_is_a_nan_weight():
    master = torch.zeros(3, device="cuda") / torch.zeros(3, device="cuda")
    assert round_half_up(master).isnan().all()


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


def unchanged(rule, master, lr=1e-6, size=20_000):
    """Share of bfloat16 weights, N(0, 0.02), that a visit of 100 steps with gradients N(0, 1) leaves as they were."""
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter((torch.randn(size, generator=generator) * 0.02).bfloat16())
    optimizer = BlockCoordinateDescent(
        Partition((Block("w", {"w": parameter}),), {}, {}),
        rule=rule, order=Cyclic(), inner_steps=100, lr=lr, master=master, track_unchanged=True,
    )  # fmt: skip
    before = parameter.detach().clone()
    for _ in range(100):
        parameter.grad = torch.randn(size, generator=generator).bfloat16()
        optimizer.step()
    share = optimizer.unchanged["w"]
    assert share == (parameter == before).float().mean(dtype=torch.float64).item()
    return share


@pytest.mark.parametrize("rule", [Adam(), Sign(), SGD()], ids=["adam", "sign", "sgd"])
def test_a_discarded_remainder_loses_the_steps_of_most_weights(rule):
    # A hundred steps of 1e-6 in random directions add up to about 1e-5, a tenth of the spacing of bfloat16 numbers
    # around 0.02. The master holds the sum; discarding the remainder throws it away for all that did not cross a half.
    # Five standard errors of the share are 5 sqrt(0.88 0.12 / 20000) = 0.012.
    assert abs(unchanged(rule, "discard") - 0.88) < 0.012
    assert unchanged(rule, "off") > 0.95, "without a master a step counts only where it crosses a half by itself"

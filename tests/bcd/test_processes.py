"""Two processes compute what one computes with the batches of both, and never drift apart without an error."""

import os
import subprocess
import sys

import pytest
import torch

from tests.bcd import two_shards
from tests.bcd.two_processes import CASES, ONLY_BEFORE_STEP, PROCESSES, net, options_of, trained
from tests.bcd.two_trainers import with_trainer
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def torchrun(folder, module):
    """The results of every process of a module that saves them to FOLDER/RANK.pt."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    done = subprocess.run(
        [*command, "-m", module, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return torchrun(tmp_path_factory.mktemp("processes"), "tests.bcd.two_processes")


def equal(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one_with_the_batches_of_both(case, results):
    expected = trained(range(PROCESSES), **options_of(case))
    assert not equal(expected["weights"], list(net().parameters())), "nothing moved"
    for found in (of_rank[case] for of_rank in results):
        for name in ("weights", "norms"):  # the norms of the averaged gradients
            if "accumulate" in CASES[case]:  # the sums are taken in another order
                torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
            else:
                assert equal(found[name], expected[name])
        assert found["counters"] == expected["counters"]
        assert found["active"] == expected["active"]


def test_a_copy_averages_in_its_step(results):
    (case,) = ONLY_BEFORE_STEP
    expected = trained(range(PROCESSES), **options_of(case))
    assert all(equal(of_rank[case]["weights"], expected["weights"]) for of_rank in results)


def test_an_optimizer_that_is_older_than_the_process_group(results):
    expected = trained(range(PROCESSES), clip=1e-3)["weights"]
    assert all(equal(of_rank["early"], expected) for of_rank in results)


def test_switched_off_every_process_trains_for_itself(results):
    for rank, of_rank in enumerate(results):
        assert equal(of_rank["off"], trained([rank])["weights"])
    assert not equal(results[0]["off"], results[1]["off"])


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    return torchrun(tmp_path_factory.mktemp("trainers"), "tests.bcd.two_trainers")


@pytest.mark.parametrize("loop", ["Trainer", "Trainer, unused parameters", "Trainer, accumulation", "accelerate"])
def test_the_ranks_of_a_trainer_stay_equal_and_are_one_process(loop, trainers):
    first, second = (of_rank[loop] for of_rank in trainers)
    assert equal(first, second)
    for found, expected in zip(first, with_trainer(2 * PROCESSES), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


MESSAGES = {
    "weights": "ValueError the processes have different weights",
    "sizes": "ValueError the processes have different weights",
    "blocks": "ValueError the processes are at different blocks, steps or step sizes (here: block ",
    "lr": "ValueError the processes are at different blocks, steps or step sizes (here: block ",
    "rank": "ValueError an expansion that uses gradients inside backward",
    "backward": "ValueError an expansion that uses gradients inside backward",
    "sparse": "ValueError sparse gradients cannot be averaged over processes",
    "step_in_backward": "ValueError step_in_backward is not possible: several processes",
    "step_in_backward before the group": "RuntimeError a process group of several processes came after",
}


@pytest.mark.parametrize("case", MESSAGES)
def test_what_would_drift_apart_is_refused_in_every_process(case, results):
    assert set(MESSAGES) == set(results[0]["refused"])
    for of_rank in results:
        assert " ".join(of_rank["refused"][case]).startswith(MESSAGES[case])


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return torchrun(tmp_path_factory.mktemp("shards"), "tests.bcd.two_shards")


@pytest.mark.parametrize("case", two_shards.CASES)
def test_a_sharded_model_is_one_process_with_the_batches_of_both(case, shards):
    expected = two_shards.trained(range(PROCESSES), **two_shards.CASES[case])
    bfloat16 = "dtype" in two_shards.CASES[case]  # whose halves of a gradient are rounded before they are added
    for of_rank in shards:
        moved = []
        for a, b, start in zip(of_rank[case], expected, two_shards.net(False).parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0.005 if bfloat16 else 1e-6)
            moved.append((a - start).abs().max().item() > 0.01)
        assert all(moved) if case != "greedy" else any(moved)
    assert equal(shards[0][case], shards[1][case])


@pytest.mark.parametrize("case", ["plain", "master on the host"])
def test_a_file_for_every_process_continues_a_sharded_visit_bitwise(case, shards):
    for of_rank in shards:
        assert equal(of_rank["resumed"][case], of_rank[case])


def test_what_a_sharded_model_cannot_do_is_refused_in_one_line(shards):
    starts = {
        "rows": "block 'part 0 of 2' has rows of 0.0.weight, a DTensor (fully_shard)",
        "rank": "an expansion that uses gradients inside backward is not possible with DTensors",
        "backward": "an expansion that uses gradients inside backward is not possible with DTensors",
        "whole tensors": "rule=Factored(beta2_decay=-0.8, eps=1e-30, weight_decay=0.0) is not possible with DTensors",
    }
    for of_rank in shards:
        for name, start in starts.items():
            assert of_rank["refused"][name].startswith(start)
            assert "\n" not in of_rank["refused"][name]


def test_an_optimizer_made_before_the_model_is_sharded_says_that_nothing_moves(shards):
    for of_rank in shards:
        (said,) = of_rank["too early"]
        assert said.startswith("the block '0' met no gradient in the 2 steps of its visit, so nothing moved")

"""Singular values of weight changes against numpy, and in the record of a run."""

import numpy as np
import pytest
import torch

from experiments.training import spectrum


def random(rows, columns, seed=0, rank=None):
    generator = np.random.default_rng(seed)
    if rank is None:
        return generator.normal(size=(rows, columns))
    return generator.normal(size=(rows, rank)) @ generator.normal(size=(rank, columns))


@pytest.fixture
def changes():
    return {
        "wide": random(12, 30),
        "tall": random(30, 12, seed=1),
        "wide again": 1e-6 * random(12, 30, seed=2),
        "low": random(20, 20, seed=3, rank=2),
        "one": np.ones((4, 5)),
    }


def test_singular_values_are_those_of_numpy(changes):
    found = spectrum.singular_values({name: torch.from_numpy(matrix) for name, matrix in changes.items()})
    assert list(found) == list(changes)
    for name, matrix in changes.items():
        expected = np.linalg.svd(matrix, compute_uv=False)
        # The Gram matrix squares the condition: absolute error sqrt(eps) of the largest, relative to it.
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-10, atol=1e-7 * expected[0])


def test_ranks_are_those_of_their_definition(changes):
    found = spectrum.spectra({name: torch.from_numpy(matrix) for name, matrix in changes.items()})
    for name, matrix in changes.items():
        values = np.linalg.svd(matrix, compute_uv=False)
        share = np.cumsum(values**2) / np.sum(values**2)
        assert found[name]["shape"] == list(matrix.shape)
        assert found[name]["stable_rank"] == pytest.approx(np.sum(values**2) / values[0] ** 2, rel=1e-5)
        assert found[name]["rank_90"] == int(np.argmax(share >= 0.9)) + 1
        np.testing.assert_allclose(found[name]["values"], values / values[0], rtol=5e-3, atol=1e-6)
    assert found["one"]["rank_90"] == 1
    assert found["one"]["stable_rank"] == pytest.approx(1)
    assert found["low"]["rank_90"] <= 2


def test_few_of_many_values_are_kept_with_both_ends():
    matrix = random(200, 150)
    (found,) = spectrum.spectra({"m": torch.from_numpy(matrix)}).values()
    values = np.linalg.svd(matrix, compute_uv=False)
    assert len(found["values"]) == spectrum.KEPT
    assert found["values"][0] == 1
    assert found["values"][-1] == pytest.approx(values[-1] / values[0], rel=5e-3)
    assert found["values"] == sorted(found["values"], reverse=True)


def test_a_matrix_that_did_not_move_has_rank_zero():
    found = spectrum.spectra({"m": torch.zeros(3, 4)})
    assert found == {"m": {"shape": [3, 4], "stable_rank": 0.0, "rank_90": 0, "values": []}}


@pytest.mark.parametrize("method", ["adamw", "lora", "schedule_free"])
def test_a_run_records_the_spectra_of_what_it_exports(method, trained):
    from transformers import AutoModelForCausalLM

    rank = ["method.rank=2"] if method == "lora" else []
    plan, record = trained(method, *rank)
    after = dict(AutoModelForCausalLM.from_pretrained(record.measurements["export"]).named_parameters())
    before = dict(plan.workload.model.load(torch.float32)[0].named_parameters())
    matrices = record.measurements["spectrum"]["matrices"]
    assert set(matrices) == {name for name, p in before.items() if p.ndim == 2 and "embed" not in name}
    assert len(matrices) == 14
    for name, entry in matrices.items():
        change = (after[name] - before[name]).detach().double().numpy()
        values = np.linalg.svd(change, compute_uv=False)
        assert entry["stable_rank"] == pytest.approx(np.sum(values**2) / values[0] ** 2, rel=1e-4)
        if method == "lora":
            assert entry["rank_90"] <= 2
    old, new = (torch.cat([p.detach().double().flatten() for p in each.values()]) for each in (before, after))
    moved = float((new - old).norm())
    relative = moved / float(old.norm())
    assert record.measurements["spectrum"]["movement"] == pytest.approx({"norm": moved, "relative": relative})


def test_layers_that_were_not_visited_have_rank_zero(trained):
    _, record = trained("badam", "order=ascending", "steps=2")
    ranks = {name: entry["rank_90"] for name, entry in record.measurements["spectrum"]["matrices"].items()}
    assert all((rank > 0) == ("layers.0." in name) for name, rank in ranks.items())

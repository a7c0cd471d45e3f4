"""Products with the Hessian, power iteration and noise against dense matrices; the entry point on a tiny Llama."""

import itertools
import json
import re
from pathlib import Path

import hydra
import pytest
import torch
from hydra import initialize_config_dir
from omegaconf import open_dict

from experiments import configuration
from experiments.command import spelled_out
from experiments.curvature import measure as curvature
from experiments.curvature import signs
from experiments.curvature.hessian import Hessian, coupling, power
from experiments.curvature.hessian import curvature as block_curvature
from experiments.curvature.noise import noise
from experiments.errors import UserError
from experiments.training import planning
from experiments.training.run import Run
from records import RecordError, load
from records.packed import pack, unpack

ROOT = Path(__file__).resolve().parents[3]
CONVERGED = 1e-6  # of power iteration, relative to the dense norm


@pytest.fixture
def network():
    """(loss, blocks, dense): a network of three layers in float64 and the blocks of its dense Hessian."""
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    blocks = [[random(4, 3), random(4)], [random(4, 4)], [random(1, 4)]]
    x, y = random(20, 3), random(20, 1)
    shapes = [[p.shape for p in block] for block in blocks]

    def loss_of(flat):
        rest, at = [], 0
        for shape in itertools.chain.from_iterable(shapes):
            rest.append(flat[at : at + shape.numel()].view(shape))
            at += shape.numel()
        first, bias, second, third = rest
        hidden = torch.tanh(x @ first.T + bias)
        return (torch.tanh(hidden @ second.T) @ third.T - y).square().mean()

    flat = torch.cat([p.flatten() for block in blocks for p in block])
    full = torch.autograd.functional.hessian(loss_of, flat)
    sizes = [sum(p.numel() for p in block) for block in blocks]
    dense = [list(rows.split(sizes, dim=1)) for rows in full.split(sizes, dim=0)]
    for p in itertools.chain.from_iterable(blocks):
        p.requires_grad_(True)
    loss = loss_of(torch.cat([p.flatten() for block in blocks for p in block]))
    return loss, blocks, dense


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.usefixtures("global_generator_untouched")
def test_curvature_of_blocks_and_of_all_is_the_dense_norm(network):
    loss, blocks, dense = network
    hessian = Hessian(loss, blocks)
    for chosen in ([0], [1], [2], [0, 2], [0, 1, 2]):
        whole = torch.cat([torch.cat([dense[i][j] for j in chosen], dim=1) for i in chosen])
        exact = torch.linalg.matrix_norm(whole, 2).item()
        found = block_curvature(hessian, chosen, generator(), 2000, 1e-12)
        assert found.value == pytest.approx(exact, rel=CONVERGED)
        few = block_curvature(hessian, chosen, generator(), 2, 0.0)
        assert few.iterations == 2
        assert few.value <= exact * (1 + 1e-12)


def test_coupling_is_the_dense_norm_and_symmetric(network):
    loss, blocks, dense = network
    hessian = Hessian(loss, blocks)
    for i, j in itertools.permutations(range(3), 2):
        exact = torch.linalg.matrix_norm(dense[i][j], 2).item()
        assert coupling(hessian, i, j, generator(), 2000, 1e-12).value == pytest.approx(exact, rel=CONVERGED)


def test_products_are_rows_of_the_dense_hessian(network):
    loss, blocks, dense = network
    hessian = Hessian(loss, blocks)
    v = [torch.ones_like(p) for p in blocks[0]]
    found = hessian.product([2, 1], {0: v})
    for i, image in zip((2, 1), found, strict=True):
        flat = torch.cat([t.flatten() for t in image])
        torch.testing.assert_close(flat, dense[i][0].sum(dim=1), rtol=1e-10, atol=1e-12)


def test_blocks_that_do_not_interact_have_no_coupling():
    blocks = [[torch.ones(2, dtype=torch.float64, requires_grad=True)] for _ in range(2)]
    loss = blocks[0][0].square().sum() + (blocks[1][0] ** 4).sum()
    hessian = Hessian(loss, blocks)
    assert coupling(hessian, 0, 1, generator(), 5, 0.0).value == 0.0
    assert block_curvature(hessian, [0], generator(), 5, 0.0).value == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize(
    ("iterations", "tolerance"), [(0, 0.1), (True, 0.1), (2.0, 0.1), (3, -1.0), (3, float("nan"))]
)
def test_power_iteration_refuses(iterations, tolerance):
    with pytest.raises(ValueError, match="is not possible"):
        power(lambda v: (1.0, v), [torch.ones(1)], iterations, tolerance)


def test_coupling_of_a_block_with_itself_is_refused(network):
    loss, blocks, _ = network
    with pytest.raises(ValueError, match="i=j=1 is not possible"):
        coupling(Hessian(loss, blocks), 1, 1, generator(), 5, 0.0)


@pytest.mark.usefixtures("global_generator_untouched")
def test_noise_has_the_moments_of_the_examples():
    x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    unused = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    scales = [1.0, 1.0, 1.0, 5.0]  # gradients of <s x, 1> are s: mean 2, deviations -1, -1, -1, 3
    given = [[x, unused]], generator()
    (found,) = noise(lambda s: (s * x).sum() + 0 * unused.sum(), scales, *given, coordinates=3, kept=3)
    sigma = 3**0.5
    assert found["skewness"] == pytest.approx([(27 - 3) / 4 / sigma**3] * 5)
    assert found["signal"] == pytest.approx([2 / sigma] * 5)
    assert found["zero"] == pytest.approx(1 / 3)
    constant, *moving = sorted(unpack(found["gradients"]))
    assert constant == [0.0] * 4
    assert moving == 2 * [pytest.approx(scales, rel=1e-3)]


def test_packed_tables_come_back_rounded_and_damage_is_told():
    table = [[1e-9, -3e-10, 0.0], [4.0, 5.0, 1e-3]]
    back = unpack(pack(table))
    for row, found in zip(table, back, strict=True):
        assert found == pytest.approx(row, abs=1e-3 * max(map(abs, row)))
    assert pack([])["shape"] == [0, 0]
    for rows in ([[1.0], [1.0, 2.0]], [[float("nan")]], [[1.0, float("inf")]]):
        with pytest.raises(RecordError):
            pack(rows)
    good = pack(table)
    for damage in ({"half": good["half"][:-4]}, {"scale": [1.0]}, {"shape": [2]}, {"half": "?" + good["half"][1:]}):
        with pytest.raises(RecordError, match=r"damaged|scales"):
            unpack(good | damage)


def quadratic(matrix):
    """The Hessian of x'Ax/2 - <1, x> at 0, whose blocks are single coordinates."""
    x = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(len(matrix))]
    flat = torch.cat(x)
    return Hessian(flat @ (matrix @ flat) / 2 - flat.sum(), [[part] for part in x])


def largest(matrix):
    """max ||As||_1 over all sign vectors."""
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=len(matrix))), dtype=torch.float64)
    return (every @ matrix).abs().sum(dim=1).max().item()


def measured_signs(matrix, partitions, drawn=3, iterations=20):
    options = {"eps": 1e-8, "generator": generator(), "drawn": drawn, "iterations": iterations}
    return signs.measure(quadratic(matrix), partitions, **options)


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("seed", range(4))
def test_curvature_along_signs_is_that_of_a_dense_matrix(seed):
    factor = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matrix = factor @ factor.T
    blocks = [[0, 1], [2, 3, 4], [5]]
    found = measured_signs(matrix, {"parts": blocks, "one": [list(range(6))]})
    parts = [matrix[block][:, block] for block in blocks]
    # the gradient at 0 is -1, so the step is -1 in every coordinate, up to eps
    assert found["whole"]["adam"]["bend"] == pytest.approx(matrix.sum().item(), rel=1e-6)
    assert found["partitions"]["parts"]["adam"]["bend"] == pytest.approx(sum(p.sum().item() for p in parts), rel=1e-6)
    assert set(found["meaning"]) == {"adam", "random", "climbed", "bend", "norm", "chi"}
    exact, sums = largest(matrix), sum(largest(part) for part in parts)
    whole, part = (found[name] for name in ("whole", "partitions"))
    assert exact / 2 <= whole["climbed"]["norm"] <= exact * (1 + 1e-12), "a lower estimate"
    assert whole["climbed"]["bend"] <= whole["climbed"]["norm"] * (1 + 1e-12)
    assert sums / 2 <= part["parts"]["climbed"]["norm"] <= sums * (1 + 1e-12)
    chi = whole["climbed"]["norm"] / (3 * part["parts"]["climbed"]["norm"])
    assert part["parts"]["chi"]["climbed"] == pytest.approx(chi, rel=1e-12)
    assert part["one"]["chi"] == {"adam": 1.0, "random": [1.0] * 3, "climbed": 1.0, "climbed_bend": 1.0}
    for k, along in enumerate(whole["random"]):
        wanted = along["bend"] / (3 * part["parts"]["random"][k]["bend"])
        assert part["parts"]["chi"]["random"][k] == pytest.approx(wanted)
    # climbing never falls below where it starts: the signs of the gradient are the step of Adam
    assert whole["climbed"]["norm"] >= whole["adam"]["norm"] * (1 - 1e-6)


def test_chi_is_one_where_all_is_coupled_and_one_over_the_blocks_where_nothing_is():
    blocks = {"parts": [[0, 1], [2, 3]]}
    coupled, separate = torch.ones(4, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    assert measured_signs(coupled, blocks)["partitions"]["parts"]["chi"]["climbed"] == pytest.approx(1.0)
    assert measured_signs(separate, blocks)["partitions"]["parts"]["chi"]["climbed"] == pytest.approx(0.5)
    # where curvature is negative the ratio of bends says nothing, that of norms does
    chi = measured_signs(-coupled, blocks)["partitions"]["parts"]["chi"]
    assert chi["adam"] is None
    assert chi["climbed"] == pytest.approx(1.0)


def test_climbing_ends_where_the_signs_come_back_and_never_falls():
    hessian = quadratic(torch.tensor([[2.0, -1.0], [-1.0, 2.0]], dtype=torch.float64))
    asked = []
    product = hessian.product
    hessian.product = lambda rows, vectors: asked.append(1) or product(rows, vectors)
    start = [torch.ones(1, dtype=torch.float64), -torch.ones(1, dtype=torch.float64)]
    assert signs.climbed(hessian, [0, 1], start, 50) == {"bend": 6.0, "norm": 6.0}
    assert len(asked) == 1
    zero = [torch.zeros(1), torch.tensor([3.0])]
    assert [t.item() for t in signs.signs(zero, [torch.tensor([-1.0]), torch.tensor([-1.0])])] == [-1.0, 1.0]


TINY = [
    "steps=2", "batch_size=2", "data.train_size=8", "data.heldout_size=6", "data.max_tokens=256", "device=cpu",
    "dtype=float64", "blocks=[0,1]", "examples=4", "iterations=3", "visits.lr=[1e-5,1e-3]",
    "visits.inner_steps=[1,3]", "visits.gradients=[full,minibatch]",
    "noise.examples=6", "noise.coordinates=20", "noise.kept=5", "signs.partitions.by_groups.size=2",
    "signs.random=1", "signs.iterations=2",
]  # fmt: skip


@pytest.fixture
def tiny(checkpoint, tmp_path):
    """tiny(*overrides) -> (config, choices) on the tiny Llama."""

    def compose(*overrides):
        fixed = ["model=pretrained", f"model.path={checkpoint}", f"how.records_dir={tmp_path}", *TINY]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = hydra.compose(
                "curvature", spelled_out([*fixed, *overrides], "curvature"), return_hydra_config=True
            )
            chosen = configuration.choices(config.hydra)
        with open_dict(config):
            del config["hydra"]
        return config, chosen

    return compose


@pytest.mark.slow
@pytest.mark.usefixtures("global_generator_untouched")
def test_a_tiny_llama_leaves_one_record_that_repeats(tiny):
    config, chosen = tiny()
    curvature.check(config)
    planned = planning.plan(config, chosen)
    record = curvature.execute(Run(planned, curvature.STUDY))
    assert record.status == "finished", record.error
    assert (record.kind, record.study) == ("curvature", "practice")
    path = configuration.folder(config) / "practice" / f"{record.name}.json"
    assert load(path).measurements == record.measurements
    first, second = record.measurements["states"]
    assert (first["steps"], second["steps"]) == (0, 2)
    assert second["loss"] < first["loss"]
    for state in (first, second):
        assert [block["block"] for block in state["blocks"]] == [0, 1]
        (pair,) = state["couplings"]
        largest = max(block["curvature"]["value"] for block in state["blocks"])
        assert pair["value"] > 0
        assert state["whole"]["curvature"]["value"] > 0.5 * largest
        assert len(state["visits"]) == 2 * 2 * 2
        parts = state["signs"]["partitions"]
        assert {name: part["blocks"] for name, part in parts.items()} == {
            "by_layer": 2,
            "by_groups": 1,
            "by_module": 4,
        }
        for how in ("adam", "climbed"):  # one block is everything together
            assert parts["by_groups"][how] == state["signs"]["whole"][how]
        assert parts["by_groups"]["chi"]["adam"] in (1.0, None), "None where the curvature is negative"
        assert parts["by_groups"]["chi"]["climbed"] == 1.0
        # the two layers, all that `blocks` has, along the first step of Adam
        bends = sum(block["bend"] for block in state["blocks"])
        assert parts["by_layer"]["adam"]["bend"] == pytest.approx(bends, rel=1e-9)
        assert all(len(rows) == 5 for rows in (unpack(part["gradients"]) for part in state["noise"]))
        # a step of 1e-5 along s changes f by slope and bend: the quadratic model to a millionth of f
        for block in state["blocks"]:
            (seen,) = (
                v
                for v in state["visits"]
                if v["block"] == block["block"] and v["lr"] == 1e-5 and v["gradients"] == "full"
            )
            model = state["loss"] - 1e-5 * block["slope"] + 1e-10 * block["bend"] / 2
            assert seen["losses"][0] == pytest.approx(model, abs=1e-3 * 1e-5 * block["slope"])
    assert "after 2 steps" in curvature.summary(record)
    assert "by_module, 4 blocks: chi along adam " in curvature.summary(record)
    again = curvature.execute(Run(planning.plan(*tiny()), curvature.STUDY))

    def without_seconds(measurements):
        return re.sub(r'"(seconds|second_order|signs|visits|noise)": [0-9.e+-]+', "", json.dumps(measurements))

    assert without_seconds(again.measurements) == without_seconds(record.measurements)
    assert Run(planned, "practice").finished is not None


def test_weights_come_back_after_a_visit(tiny):
    config, chosen = tiny()
    planned = planning.plan(config, chosen)
    model, tokenizer = planned.workload.model.load(torch.float64)
    model.set_attn_implementation("eager")
    dataset = planned.workload.data.load(tokenizer)
    partition = configuration.build(config.method.partition)(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    curvature.measure(model, tokenizer, dataset, partition, config)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=adamw", "method has no partition"),
        ("examples=0", "examples=0 is not possible"),
        ("iterations=true", "iterations=True is not possible"),
        ("noise.examples=9", "noise.examples=9 exceeds data.train_size=8"),
        ("examples=9", "examples=9 exceeds data.train_size=8"),
        ("noise.kept=21", "noise.kept=21 exceeds noise.coordinates=20"),
        ("blocks=[]", r"blocks=\[\] is not possible"),
        ("blocks=[1,1]", r"blocks=\[1, 1\] is not possible"),
        ("blocks=[-1]", "blocks=-1 is not possible"),
        ("visits.lr=[0]", "visits.lr=0 is not possible"),
        ("visits.inner_steps=[3,1]", r"visits.inner_steps=\[3, 1\] is not possible"),
        ("visits.inner_steps=[0]", "visits.inner_steps=0 is not possible"),
        ("visits.gradients=[half]", "visits.gradients='half' is not one of full, minibatch"),
        ("batch_size=5", "batch_size=5 exceeds examples=4"),
        ("signs.random=0", "signs.random=0 is not possible"),
        ("signs.iterations=0", "signs.iterations=0 is not possible"),
    ],
)
def test_impossible_values_are_named(override, message, tiny):
    with pytest.raises(ValueError, match=message):
        curvature.check(tiny(override)[0])


@pytest.mark.parametrize("override", ["blocks=[7]", "partition=by_ratio"])
def test_blocks_that_the_model_lacks_are_named(override, tiny):
    with pytest.raises(UserError, match=r"blocks=7 is not possible: 2 blocks|partition is not possible"):
        curvature.execute(Run(planning.plan(*tiny(override)), curvature.STUDY))


def test_partitions_of_different_parameters_are_refused(tiny):
    config, _ = tiny("signs.partitions.by_module.final_norm=train")
    model, _ = planning.plan(*tiny()).workload.model.load(torch.float64)
    model.set_attn_implementation("eager")
    with pytest.raises(UserError, match=r"signs.partitions.by_layer is not possible: it has \d+ of the \d+ tensors"):
        curvature.sign_curvature(model, None, 1e-8, config)


@pytest.mark.usefixtures("global_generator_untouched")
def test_signs_can_be_left_out(tiny):
    config, chosen = tiny("signs=null", "visits.lr=[1e-5]", "visits.inner_steps=[1]", "visits.gradients=[full]")
    curvature.check(config)
    planned = planning.plan(config, chosen)
    model, tokenizer = planned.workload.model.load(torch.float64)
    model.set_attn_implementation("eager")
    dataset = planned.workload.data.load(tokenizer)
    partition = configuration.build(config.method.partition)(model)
    assert "signs" not in curvature.measure(model, tokenizer, dataset, partition, config)

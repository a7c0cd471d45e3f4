"""A folder with a model is whole and has a tokenizer that fits, or is refused in one message before training."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.errors import UserError
from experiments.models import Pretrained
from experiments.training.run import Run
from experiments.training.running import execute

DOWN, NORM, EMBEDDING = "model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A copy of the tiny Llama, which a test may change."""
    return shutil.copytree(checkpoint, tmp_path / "model")


def change(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder, message):
    with pytest.raises(UserError, match=message):
        Pretrained(str(folder)).load(torch.float32)


@pytest.mark.parametrize("name", [DOWN, NORM, EMBEDDING])
def test_a_weight_that_is_missing_is_named(name, folder):
    change(folder, lambda weights: weights.pop(name))
    refused(folder, rf"lacks (.*, )?{name}; random numbers would take")


def test_many_missing_weights_are_counted(folder):
    change(folder, lambda weights: [weights.pop(name) for name in list(weights) if "layers.0" in name])
    refused(folder, r"lacks model\.layers\.0\..* and \d+ more; random numbers")


def test_a_weight_of_another_shape_is_named(folder):
    change(folder, lambda weights: weights.update({NORM: torch.ones(31)}))
    refused(folder, rf"has another shape than its config\.json says: {NORM}")


def test_a_weight_without_a_place_is_told(folder, capsys):
    change(folder, lambda weights: weights.update({"score.weight": torch.ones(2)}))
    Pretrained(str(folder)).load(torch.float32)
    assert "has weights without a place, left out: score.weight" in capsys.readouterr().err


def test_files_that_cannot_be_read_are_one_message(folder):
    (folder / "model.safetensors").write_bytes(b"\x10" * 9)
    refused(folder, r"the model .* cannot be read \(")
    (folder / "model.safetensors").unlink()
    refused(folder, r"the model .* cannot be read \(")
    (folder / "tokenizer.json").write_text("{")
    refused(folder, r"the tokenizer in .* cannot be read \(")


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused_with_both(folder):
    tokens = json.loads((folder / "tokenizer.json").read_text())
    rows = load_file(folder / "model.safetensors")[EMBEDDING].shape[0]
    common = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tokens["added_tokens"] += [{"id": rows + i, "content": f"<{i}>", **common} for i in range(3)]
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    refused(folder, rf"has {rows + 3} ids and the model's embedding {rows} rows")


def test_a_run_on_such_a_folder_fails_before_its_first_step_with_that_message(folder, tiny):
    change(folder, lambda weights: weights.pop(DOWN))
    record = execute(Run(tiny("method=badam", f"model.path={folder}")))
    assert record.status == "failed"
    assert f"lacks {DOWN}" in record.error
    assert "steps" not in record.measurements


def test_an_example_that_is_longer_than_the_model_has_positions_is_refused_before_the_first_step(folder, tiny):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    record = execute(Run(tiny("method=badam", f"model.path={folder}")))
    assert record.status == "failed"
    assert re.search(
        r"the longest example has \d+ tokens and the model 64 positions .*data.max_tokens=64", record.error
    )
    assert "steps" not in record.measurements

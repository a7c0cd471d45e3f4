"""The variants of BAdam that the studies sweep: each trains, and is what its name says."""

import pytest
from hydra import initialize_config_dir

from experiments.studies import study
from experiments.training import planning
from experiments.training.run import Run
from experiments.training.running import execute
from records import ROOT
from tests.cover import tiered

VARIANTS = sorted(path.stem for path in (ROOT / "conf" / "method" / "variant").glob("*.yaml"))


@pytest.fixture
def tiny(checkpoint, tmp_path):
    """tiny(*overrides) -> the plan of a run on the tiny Llama of two layers."""
    fixed = [
        *("model=pretrained", f"model.path={checkpoint}", "steps=3", "batch_size=2", "device=cpu"),
        *("data.train_size=8", "data.heldout_size=4", "data.max_tokens=256"),
        *(f"records_dir={tmp_path}", f"checkpoint.folder={tmp_path}/checkpoints"),
    ]

    def make(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return planning.plan(*study.compose([*fixed, *overrides]))

    return make


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("name", tiered(VARIANTS, quick=VARIANTS[::4]))
def test_every_variant_trains(name, tiny):
    width = ["order.width=2"] if name.startswith("badam_window") else []
    planned = tiny(f"method=variant/{name}", *width)
    record = execute(Run(planned))
    assert record.status == "finished", record.error
    found = record.measurements
    assert found["after"]["heldout_loss"] != found["before"]["heldout_loss"]
    assert planned.config.get("rate_of") or len(planned.config.learning_rates) == 5
    assert planned.config.method.lr in planned.config.learning_rates


def differing(one, other):
    """Keys, with dots, at which two resolved configurations differ."""
    both = {key: (one.get(key), other.get(key)) for key in {*one, *other} if one.get(key) != other.get(key)}
    found = set()
    for key, (a, b) in both.items():
        nested = isinstance(a, dict) and isinstance(b, dict)
        found |= {f"{key}.{inner}" for inner in differing(a, b)} if nested else {key}
    return found


@pytest.mark.parametrize(
    ("name", "base", "keys"),
    [
        ("badam_kept", "badam", {"method.state"}),
        ("badam_bf16", "badam", {"dtype"}),
        ("badam_bf16_exact", "badam", {"dtype", "method.master"}),
        ("badam_bf16_remainder", "badam", {"dtype", "method.master"}),
        ("badam_blocks5_slow", "variant/badam_blocks5", {"method.inner_steps"}),
        ("bread_sign", "bread", {"method.expansion.rule._target_", "method.expansion.ratio"}),
        ("above_factored", "variant/above_sign", {"method.expansion.rule._target_"}),
        ("above_row_normalised", "variant/above_sign", {"method.expansion.rule._target_"}),
        (
            "above_factored_blocks5",
            "variant/above_factored",
            {"method.expansion.ratio", "choices.partition"}
            | {f"{node}.{key}" for node in ("partition", "method.partition") for key in ("size", "_target_")},
        ),
        (
            "above_sign_balanced",
            "variant/above_sign",
            {"choices.order"}
            | {f"{node}.{key}" for node in ("order", "method.order") for key in ("share", "_target_")},
        ),
        ("row_normalised", "variant/sign", {"choices.rule", "rule._target_", "method.rule._target_"}),
        ("badam_average_visits", "variant/badam_average_steps", {"method.decay", "method.every"}),
    ],
)
def test_a_variant_changes_what_it_is_named_after_and_nothing_else(name, base, keys, tiny):
    same = ["method.lr=0.001", "preset=ablation", "steps=3", "batch_size=2"]
    one, other = (tiny(f"method={chosen}", *same).identity for chosen in (f"variant/{name}", base))
    assert differing(one, other) == keys | {"choices.method"}

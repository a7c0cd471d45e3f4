"""Small records of everything that a bare clone runs, and of cost. No number here is a result."""

from typing import Any

from records import COMMITTED, Record, load_study

PROVENANCE = {"commit": "0123456789abcdef", "dirty": False, "date": "2026-01-02", "device": "X", "device_type": "cpu"}
BYTES = {"weights": 4000, "gradients": 400, "state": 800}
METHODS = {"badam": 1.5, "bsgd": 2.0, "adamw": 0.9, "sgd": 1.1, "lora": 1.0}
"""Method of the quick study -> its held-out loss."""


def train_record(method: str, loss: float) -> Record:
    config = {
        "choices": {"method": method},
        "steps": 12,
        "batch_size": 2,
        "data": {"train_size": 8, "max_tokens": 64},
        "method": {"lr": 1e-3, "inner_steps": 2} if "b" in method else {"lr": 1e-4},
    }
    measured = {
        "steps": {
            "loss": [5 - 0.1 * i for i in range(12)],
            "lr": [1e-3] * 12,
            "grad_norm": [1.0] * 12,
            "seconds": [0.5] * 12,
        },
        "before": {"heldout_loss": 4.5, "exact_match": 0.0, "items": 64},
        "after": {"heldout_loss": loss, "exact_match": 0.25, "items": 64},
        "predicted_bytes": BYTES,
        "measured_bytes": BYTES,
        "trained_parameters": 1000,
    }
    return Record("train", "quick", f"{method}-seed0", f"k-{method}", "finished", config, measured, PROVENANCE)


def quick_records() -> list[Record]:
    return [train_record(method, loss) for method, loss in METHODS.items()]


def verify_record(bound: str = "a1", problem: str = "quadratic", **changes: Any) -> Record:
    line = {"kind": "inequality", "checks": 1000, "resolved": 900, "instances": 50}
    line |= {"largest_ratio": 0.9, "violations": 0, "decisive": {}}
    measured = {
        "lines": {"A0": line, "T": line | {"largest_ratio": None}},
        "kind": "upper",
        "instances": {"ratio": [0.1, 0.5, None]},
        "precise": {"instances": 1},
        "showcase": {"bound": [3.0, 2.0], "measured": [2.0, 1.0], "ratios": {"A0": [0.5, 1.0], "T": [None]}},
        "controls": [{"name": "C_t halved", "line": "epoch", "ratio": 2.0, "true_ratio": 1.0, "rejected": True}],
        "violations": 0,
        "unresolved": [],
        "refuted": False,
    }
    config = {"bound": {"problems": ["quadratic", "logistic"], "example": {"epochs": 1}}}
    name = f"{bound}-{problem}-quick"
    return Record("verify", "theory", name, "k", "finished", config, measured | changes, PROVENANCE)


def practice_record() -> Record:
    """The committed analysis of a real model: small, and never computed by a clone."""
    (record,) = load_study("practice", kind="verify", folder=COMMITTED)
    return record


def audit_record(bound: str, problem: str, steps: list[int], quotients: list[float]) -> Record:
    """Of a printed statement: K of each instance, and its claimed over its actual decrease."""
    violations = sum(quotient > 1 for quotient in quotients)
    line = {"kind": "inequality", "largest_ratio": max(quotients), "decisive": {}}
    line |= dict.fromkeys(("checks", "resolved", "instances"), len(steps))
    instances = {"inner_steps": steps, "measured": quotients, "bound": [1.0] * len(steps), "ratio": quotients}
    lines = {bound: line | {"violations": violations}}
    return verify_record(
        f"badam_{bound}_printed", problem, lines=lines, instances=instances, violations=violations, refuted=True
    )


def theory_records() -> list[Record]:
    return [
        verify_record(),
        audit_record("d4", "bilinear", [200, 1000, 1], [1.5, 7.125, 0.5]),
        audit_record("d5", "bilinear", [200, 1], [0.25, 11.25]),
        audit_record("d4", "quadratic", [1, 3], [0.125, 0.25]),
        audit_record("d5", "quadratic", [1, 3], [0.125, 0.0625]),
    ]


def adversary_record() -> Record:
    row = {"target": "a1_pair", "bound": "A1", "line": "epoch", "ratio": 0.9999, "least": 0.98, "instance": {}}
    killed = {"ratio": 2.0, "true_ratio": 1.0, "dies_at": 1.0, "killed": True, "required": True}
    mutants = [
        row | killed | {"mutant": "left side x 2"},
        row | killed | {"mutant": "left side x 2", "line": "T", "ratio": 1.5, "dies_at": 1.33},
        row | killed | {"mutant": "coupling = 0", "line": "T", "ratio": 1e6, "dies_at": None},
        row | killed | {"mutant": "radius = 0.5", "killed": False, "required": False, "ratio": 0.9, "dies_at": 2.22},
    ]
    cells = {
        "kind": "a1",
        "fixed": {"gamma": 1.0},
        "x": "coupling",
        "y": "inner_steps",
        "xs": [0.0, 0.9],
        "ys": [1, 4],
    }
    steps = cells | {"kind": "b1_plus", "fixed": {"inner_steps": 1}, "x": "eps", "y": "fraction"}
    measured = {
        "tightness": [row, row | {"least": None, "line": "T", "ratio": 0.5}],
        "mutants": mutants,
        "controls": [{"killed": True}],
        "maps": [{**item, "ratio": [[1.0, 1.0], [1.0, 0.47]]} for item in (cells, steps)],
        "evaluations": 12345,
        "violations": [],
    }
    return Record("verify", "adversary", "full-seed0", "k", "finished", {}, measured, PROVENANCE)


Options = dict[str, Any]
VERSIONS: list[tuple[str, str, Options, Options]] = [
    ("reference", "documented", {}, {}),
    ("reference", "options", {"recompute": None}, {}),
    ("lora", "documented", {}, {}),
    ("lora", "documented", {}, {"tf32": False}),
    ("lora", "options", {"recompute": None}, {}),
    ("badam", "float8", {"frozen_products": "float8"}, {}),
    ("badam", "keep", {"frozen_products": "plain"}, {}),
    ("badam", "fused", {"frozen_products": "fused"}, {}),
    ("badam", "600mb", {"recompute": 600_000_000}, {}),
    ("badam", "fused_host_600mb", {"frozen_products": "fused", "recompute": 600_000_000, "embedding": "host"}, {}),
    ("badam", "card24", {"recompute": 10**9}, {"cap_gb": 24}),
    ("badam", "host_card24", {"recompute": 10**9, "embedding": "host"}, {"cap_gb": 24}),
    ("badam", "fused_host_card24", {"frozen_products": "fused", "embedding": "host"}, {"cap_gb": 24}),
]
"""Family, version, options of the execution and other values of a run of cost."""
SHALLOW: list[tuple[str, str, Options, Options]] = [
    ("adamw", "documented", {}, {"layers": layers, "tokens": 8192}) for layers in (8, 16)
]
ON_ANOTHER_CARD = (("reference", "documented"), ("badam", "fused"), ("badam", "keep"))
"""With 8,192 tokens."""


def cost_records() -> list[Record]:
    """Measured runs of one session, and the prediction of each; memory and time in round numbers."""
    seconds = {"forward": 0.1, "backward": 0.3, "update": 0.1, "step": 0.5}
    held = {"weights": 8 * 10**9, "master": 10**9, "gradients": 10**9, "state": 2 * 10**9}
    every = [(*version[:3], version[3] | {"tokens": n}) for version in VERSIONS for n in (2048, 8192)]
    runs = []
    for place, (family, version, execution, values) in enumerate([*every, *SHALLOW]):
        config = {"layers": None, "tf32": True, "cap_gb": None, "max_grad_norm": None, "execution": execution} | values
        config |= {"model": {"architecture": {"num_hidden_layers": 32}}}
        config |= {"about": {"family": family, "version": version, "tf32": config["tf32"]}}
        factor = (0.5 if family == "badam" else 1.0) * (config["layers"] or 32) / 32
        visit = {"index": 3, "seconds": {k: factor * v for k, v in seconds.items()}, "held": held, "peak": 20 * 10**9}
        visit |= {"flops": factor * 1e14, "phases": {"forward": 1, "backward": int(factor * 20e9), "update": 2}}
        measured = {"rate": 5e14, "visits": [visit, visit | {"index": 0}], "seconds": visit["seconds"]}
        measured |= {"flops": factor * 1e14, "peak": int(factor * 20 * 10**9)}
        measured |= {"reserved": int(factor * 21 * 10**9), "context": 10**9}
        phases = {"forward": 1, "backward": int(factor * 21 * 10**9), "update": 2}
        forecast = {"predicted": {"held": held, "phases": phases}}
        identity = f"run-{place:02d}", f"k{place}", "finished", config
        runs.append(Record("profile", "cost", *identity, measured, PROVENANCE))
        runs.append(Record("profile", "cost_predicted", *identity, forecast, PROVENANCE))
        if (family, version) in ON_ANOTHER_CARD and config["tokens"] == 8192:  # where keep is as slow as the reference
            other = measured if version == "fused" else measured | {"seconds": seconds}
            provenance = PROVENANCE | {"device": "NVIDIA Z9 80GB"}
            runs.append(Record("profile", "cost_h200", *identity, other, provenance))
    return runs


def execution_records() -> list[Record]:
    """Held-out losses of seeds 0 and 1 with all options off, all on, and 8-bit products."""
    found = []
    for version, losses in {"plain": (1.0, 1.5), "all": (1.01, 1.48), "fp8": (1.1, 1.45)}.items():
        for seed, loss in enumerate(losses):
            config = {"choices": {"execution": version}, "seed": seed, "steps": 200}
            measured = {"after": {"heldout_loss": loss}}
            name = f"seed{seed}-execution{version}"
            found.append(Record("train", "execution", name, "k", "finished", config, measured, PROVENANCE))
    return found


def of_study(study: str) -> list[Record]:
    return [record for record in cost_records() if record.study == study]

"""Made-up runs of every study, for tests of what the paper makes of them. No number here is a result."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from records import Record

PROVENANCE = {"commit": "0123456789abcdef", "dirty": False, "date": "2026-01-02", "device": "X", "device_type": "gpu"}
BEFORE = 1.4
LOSSES = {"badam": 0.69, "badam_all": 0.68, "bsgd": 0.95, "adamw": 0.615, "sgd": 0.75, "lora": 0.62}
SECONDS = {"badam": 0.020, "badam_all": 0.022, "bsgd": 0.019, "adamw": 0.036, "sgd": 0.034, "lora": 0.041}
PEAKS = {"badam": 2.2e9, "badam_all": 2.4e9, "bsgd": 2.1e9, "adamw": 4.1e9, "sgd": 2.9e9, "lora": 2.6e9}
OTHERS = {"galore": 0.66, "lisa": 0.70, "lomo": 0.76, "apollo": 0.65, "muon": 0.63, "soap": 0.618}
VARIANTS = {
    "badam_blocks2": (0.675, 2.3e9, 0.021),
    "badam_blocks5": (0.645, 2.6e9, 0.023),
    "badam_blocks10": (0.630, 3.0e9, 0.026),
    "badam_window2": (0.660, 2.4e9, 0.022),
    "badam_embedding": (0.672, 2.9e9, 0.028),
    "badam_kept": (0.683, 2.9e9, 0.020),
    "badam_average_steps": (0.678, 2.7e9, 0.020),
    "badam_average_visits": (0.679, 2.7e9, 0.020),
    "badam_blocks5_embedding": (0.640, 3.2e9, 0.030),
    "badam_cost_aware": (0.694, 2.2e9, 0.016),
    "badam_bf16": (0.720, 1.6e9, 0.018),
    "badam_bf16_exact": (0.700, 1.7e9, 0.018),
    "bread_blocks5": (0.638, 2.7e9, 0.033),
    "bread": (0.673, 2.3e9, 0.031),
}
STEPS, TOKENS, LAYERS = 420, 1_200_000, 30
ORDERS = ("random_reshuffle", "ascending", "descending", "uniform", "weighted", "greedy")


def run(study: str, name: str, method: str, seed: int, loss: float, **changes: Any) -> Record:
    """One finished run. changes: choices, values (of the method), config, measured."""
    block = method.startswith(("badam", "bsgd", "bread", "lisa"))
    values = {"lr": 1e-3, **({"inner_steps": 3, "state": "reset", "switch_warmup": 0} if block else {})}
    choices = {"method": method, "data": "gsm8k", "model": "smollm2_135m"}
    config: dict[str, Any] = {
        "choices": choices | changes.get("choices", {}),
        "method": values | changes.get("values", {}),
        "seed": seed,
        "steps": STEPS,
        "batch_size": 16,
        "data": {"train_size": None},
        "model": {"architecture": {"num_hidden_layers": LAYERS}},
    }
    if block:
        config["outside_layers"] = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
        config["choices"] = {"partition": "by_layer", "order": "random_reshuffle", "rule": "adam"} | config["choices"]
    measured: dict[str, Any] = {
        "data": {"train_examples": 6711, "heldout_examples": 320, "tokens": TOKENS + 100 * seed, "padding_waste": 0.1},
        "before": {"heldout_loss": BEFORE, "items": 320},
        "after": {"heldout_loss": loss, "items": 320},
        "steps": {"loss": [1.4, loss], "lr": [1e-3, 0.0], "grad_norm": [1.0, 1.0], "seconds": [0.1, 0.1]},
        "curve": [
            {"step": round(STEPS * share), "tokens": round(TOKENS * share), "heldout_loss": along(loss, share)}
            for share in np.linspace(0, 1, 5)[1:]
        ],
        "peak_allocated": PEAKS.get(method, 2.5e9),
        "measured_bytes": {"weights": 540e6, "gradients": 20e6, "state": 40e6},
        "trained_parameters": 134_515_008 if not block else 106_000_000,
    }
    config |= changes.get("config", {})
    measured |= changes.get("measured", {})
    return Record(
        "train", study, f"{name}-seed{seed}", f"{study}{name}{seed}", "finished", config, measured, PROVENANCE
    )


def along(loss: float, share: float) -> float:
    """Held-out loss after a share of the steps."""
    return loss + (BEFORE - loss) * math.exp(-5 * share)


def noise(generator: np.random.Generator, scale: float = 0.004) -> float:
    return float(generator.normal(0, scale))


def spectrum(rank: int, seed: int) -> dict[str, Any]:
    """A weight change of about that rank."""
    index = np.arange(576)
    values = np.exp(-index / rank) * (index < (16 if rank < 16 else 576))
    squares = np.cumsum(values**2) / np.sum(values**2)
    kept = values[np.linspace(0, 575, 65).round().astype(int)]
    matrix = {"shape": [576, 1536], "stable_rank": float(np.sum(values**2)), "values": kept.tolist()}
    matrix["rank_90"] = int(np.searchsorted(squares, 0.9) + 1)
    return {
        "matrices": {f"layers.{i}.mlp": matrix | {"rank_90": matrix["rank_90"] + (i + seed) % 2} for i in range(3)}
    }


def method_runs(generator: np.random.Generator) -> Iterator[Record]:
    for method, loss in (LOSSES | OTHERS).items():
        for seed in range(3):
            yield run("methods", method, method, seed, loss + noise(generator))
    for data, shift in (("gsm8k", 0.0), ("alpaca_cleaned", 0.4)):
        for method, loss in (LOSSES | {"badam_blocks5": 0.645}).items():
            for seed in range(5):
                found = loss + shift + noise(generator)
                yield run("headline", f"{data}-{method}", method, seed, found, choices={"data": data})
    for method, loss in LOSSES.items():
        if method == "badam_all":
            continue
        for i, rate in enumerate((1e-4, 3e-4, 1e-3, 3e-3, 1e-2)):
            for seed in range(3):
                found = loss + 0.03 * (i - 2) ** 2 + noise(generator)
                name = f"{method}-lr{rate}"
                record = run("learning_rate", name, method, seed, found, values={"lr": rate})
                if i == 4 and method.endswith("sgd"):
                    error = "FloatingPointError: the loss is nan at step 3"
                    record = Record(**{**vars(record), "status": "failed", "error": error})
                yield record


def equal_time_runs(generator: np.random.Generator) -> Iterator[Record]:
    """The headline's methods with other numbers of steps."""
    for data, level in (("gsm8k", 0.0), ("alpaca_cleaned", 0.9)):
        for seed in range(5):
            for method, value in LOSSES.items():
                found, name = value + level + generator.normal(0, 0.004), f"{data}-{method}"
                config = {"steps": 420 if method == "lora" else 900 if data == "gsm8k" else 700}
                yield run("equal_time", name, method, seed, found, choices={"data": data}, config=config)


def regime_runs(generator: np.random.Generator) -> Iterator[Record]:
    """Three epochs; with the twin of one block method, which moves all weights by its rule."""
    losses = {name: LOSSES[name] for name in ("badam", "adamw", "lora")} | {"above_sign": 0.616}
    losses |= {"above_sign_twin": 0.617, "sign": 0.618}
    for data, shift in (("gsm8k", 0.0), ("alpaca_cleaned", 0.4)):
        for seed in range(5):
            for method, loss in losses.items():
                found = loss + shift + noise(generator, 0.0005) + (0.01 if method == "adamw" else 0.0)
                choices = {"data": data}
                if method.startswith("above"):
                    choices |= {"partition": "by_layer", "rule": "sign" if method.endswith("twin") else "adam"}
                config = {"steps": 1258}
                study = f"regime_{'rules_' if 'sign' in method else ''}{data.removesuffix('_cleaned')}"
                yield run(study, f"{data}-{method}", method, seed, found, choices=choices, config=config)


def regime_option_runs(generator: np.random.Generator) -> Iterator[Record]:
    """Options over whole epochs: variants, orders and lengths of visits, clipping."""
    config: dict[str, Any] = {"steps": 1258}
    for seed in range(3):
        for method, loss in (("above_sign_blocks2", 0.617), ("rows16", 0.66)):
            yield run("regime_variants", method, method, seed, loss + noise(generator, 0.001), config=config)
        for order, K in (("random_reshuffle", 1), ("random_reshuffle", 7), ("balanced", 7)):
            values, choices = {"inner_steps": K}, {"order": order}
            found = 0.62 + 0.002 * (K == 1) + noise(generator, 0.0005)
            name = f"{order}-{K}"
            yield run("regime_orders", name, "badam", seed, found, values=values, choices=choices, config=config)
        for bound in (None, 0.1):
            for method, loss in (("sgd", 0.75), ("bsgd", 0.80 if bound else 0.95)):
                name, clipped = f"{method}-{bound}", {"max_grad_norm": bound}
                yield run(
                    "regime_clipping", name, method, seed, loss + noise(generator, 0.001), config=config | clipped
                )


def match_runs() -> Iterator[Record]:
    """Every question is right with a chance of its own, the same for all seeds; AdamW's are a tenth higher."""
    generator = np.random.default_rng(5)
    chances = generator.uniform(0, 0.5, 400)
    for method, more, loss in (("lora", 0.0, 0.62), ("adamw", 0.1, 0.615), ("badam_k50", 0.0, 0.66)):
        for seed in range(5):
            right = (generator.uniform(size=400) < chances + more).tolist()
            test = {"heldout_loss": loss, "exact_match": sum(right) / 400, "items": 400, "right": right}
            measured = {"test": test}
            yield run("regime_match", method, method, seed, loss, config={"steps": 1258}, measured=measured)


def movement_runs() -> Iterator[Record]:
    """BAdam's gap grows with AdamW's movement: 10, 20 and 30 % of its gain."""
    for study, model in (("movement", "smollm2_135m"), ("movement_brief", "llama_small_trained")):
        for i, rate in enumerate((1e-6, 1e-5, 1e-4)):
            for seed in range(3):
                gain = 0.1 * (i + (study == "movement"))
                share = 0.1 * (i + 1)
                losses = {"adamw": (BEFORE - gain, rate), "badam": (BEFORE - gain + share * gain, 10 * rate)}
                for method, (loss, lr) in losses.items():
                    measured = {"spectrum": {"movement": {"norm": 1.0, "relative": 1e-3 * 10**i}, "matrices": {}}}
                    more: dict[str, Any] = {"values": {"lr": lr}, "choices": {"model": model}, "measured": measured}
                    yield run(study, f"{method}-{rate}", method, seed, loss, **more)


def axis_runs(generator: np.random.Generator) -> Iterator[Record]:
    for seed in range(3):
        shared = noise(generator)  # runs of one seed share their data, so their losses move together

        def loss(value: float, shared: float = shared) -> float:
            return value + shared + noise(generator, 0.001)

        for i, order in enumerate(ORDERS):
            yield run("order", f"order{order}", "badam", seed, loss(0.69 + 0.004 * i), choices={"order": order})
        for K in (1, 3, 6, 14, 30, 90):
            found = loss(0.69 + 0.006 * abs(math.log(K / 14)))
            yield run("inner_steps", f"inner_steps{K}", "badam", seed, found, values={"inner_steps": K})
        for i, partition in enumerate(("by_layer", "by_module", "by_matrix", "by_ratio", "by_groups")):
            measured: dict[str, Any] = {"peak_allocated": 2.2e9 - 2e8 * i + (9e8 if i == 4 else 0)}
            measured["measured_bytes"] = {"weights": 540e6, "gradients": 20e6 / (i + 1), "state": 40e6 / (i + 1)}
            choices = {"partition": partition}
            found = loss(0.69 + 0.02 * i - (0.11 if i == 4 else 0))
            yield run("partition", f"partition{partition}", "badam", seed, found, choices=choices, measured=measured)
        for state, warmup, value in (
            ("reset", 0, 0.69),
            ("host", 0, 0.684),
            ("device", 0, 0.684),
            ("reset", 3, 0.688),
        ):
            name, values = f"state{state}-switch_warmup{warmup}", {"state": state, "switch_warmup": warmup}
            yield run("state", name, "badam", seed, loss(value), values=values)
        for method, rank in (("badam", 200), ("bsgd", 150), ("adamw", 250), ("lora", 8)):
            measured = {"spectrum": spectrum(rank, seed)}
            yield run("rank", method, method, seed, loss(LOSSES[method]), measured=measured)
        for embedding, norm, value in (
            ("freeze", "freeze", 0.69),
            ("train", "freeze", 0.682),
            ("freeze", "train", 0.689),
            ("join", "join", 0.684),
            ("train", "train", 0.68),
        ):
            outside = {"embedding": embedding, "final_norm": norm, "head": embedding}
            name = f"embedding{embedding}-final_norm{norm}"
            yield run("outside_layers", name, "badam", seed, loss(value), config={"outside_layers": outside})
        for method, (value, peak, _) in VARIANTS.items():
            choices = {"method": f"variant/{method}" if method.startswith("badam") else method}
            measured = {"peak_allocated": peak}
            yield run("variants", method, method, seed, loss(value), choices=choices, measured=measured)
        for depth in (4, 8, 16, 32):
            config = {"model": {"architecture": {"num_hidden_layers": depth}}}
            for method, extra in (("badam", 0.02 * math.log2(depth)), ("adamw", 0.0), ("lora", 0.03), ("bsgd", 0.3)):
                found = loss(3.0 - 0.1 * math.log2(depth) + extra)
                name, choices = f"depth{depth}-{method}", {"model": "llama_small"}
                yield run("scale", name, method, seed, found, config=config, choices=choices)


def alone_runs() -> Iterator[Record]:
    """Seconds of a step of every method, and of one that differs in its order."""
    variants = {name: seconds for name, (_, _, seconds) in VARIANTS.items()}
    for method, seconds in (SECONDS | variants).items():
        choice = f"variant/{method}" if method in VARIANTS and method.startswith("badam") else method
        yield alone(method, method, seconds, {"method": choice})
        yield alone(f"alpaca-{method}", method, 2 * seconds, {"method": choice, "data": "alpaca_cleaned"})
    yield alone("ascending", "badam", 0.5, {"order": "ascending"})


def alone(name: str, method: str, seconds: float, choices: dict[str, str]) -> Record:
    shares = (1.0, 1.2, 0.9 if method == "lora" else 1.0)
    rounds = [[share * factor * seconds for factor in (0.9, 1.0, 1.1)] for share in shares]
    measured = {"seconds_per_step": seconds, "rounds": rounds, "peak_allocated": 2.5e9}
    config = run("steps_alone", name, method, 0, 1.0, choices=choices).config
    return Record("profile", "steps_alone", name, name, "finished", config, measured, PROVENANCE)


def tuned() -> Iterator[Record]:
    """What two tuning studies chose."""
    for data, methods in (("gsm8k", (LOSSES | OTHERS).keys()), ("alpaca_cleaned", LOSSES.keys())):
        tried = [[1e-4, 0.8], [3e-4, 0.7], [1e-3, 0.65], [3e-3, 0.7], [1e-2, None]]
        choices = [
            {"cell": {"method": m}, "rate": 1e-3, "loss": 0.65, "tried": tried, "at_edge": False} for m in methods
        ]
        choices[0] |= {"rate": 1e-4, "at_edge": True}
        choices.append(choices[0] | {"cell": {"method": "badam", "model.architecture.num_hidden_layers": 4}})
        measured = {"choices": choices, "runs": {}}
        config = {"study": f"tuning_{data}", "data": data}
        yield Record("tuning", "tuned", f"tuning_{data}", data, "finished", config, measured, PROVENANCE)


def downstream() -> Iterator[Record]:
    """The untrained model and two trained ones, compared with it."""
    shares = {
        "untrained": {"gsm8k": 0.02, "arc_easy": 0.40},
        "badam": {"gsm8k": 0.024},
        "lora": {"gsm8k": 0.06, "arc_easy": 0.44},
        "badam_blocks5": {"gsm8k": 0.0, "arc_easy": 0.46},
    }

    def of(share: float, chance: float = 0.0) -> dict[str, Any]:
        beats = share > 0.05 and not chance
        return {"items": 500, "share": share, "standard_error": 0.01, "chance": chance, "above_guessing": beats}

    for name, tasks in shares.items():
        measured = {task: of(share, 0.25 if task == "arc_easy" else 0.0) for task, share in tasks.items()}
        yield evaluated("evaluate", "downstream", measured | {"seconds": 1.0}, method=name)
        if name == "untrained":
            for other, loss in ((name, 3.0), ("badam", 3.5)):
                puzzles = {"loss": {"value": loss}, "exact_match": of(0.01), "seconds": 1.0}
                yield evaluated("evaluate", "reasoning_gym", puzzles, method=other)
            continue
        tests = {
            task: {
                "difference": share - shares["untrained"][task],
                "standard_error": 0.01,
                "items": 500,
                "smallest_detectable": 0.032,
                "p": 0.001 if share in (0.06, 0.46) else 0.2,
                "verdict": {0.06: "better", 0.0: "worse"}.get(share, "not testable at this scale"),
            }
            for task, share in tasks.items()
        }
        yield evaluated("compare", "downstream", tests, method=name, baseline="untrained")
    test = {"difference": -0.02, "standard_error": 0.01, "items": 500, "p": 0.05, "smallest_detectable": 0.032}
    both = {task: test | {"verdict": "not testable at this scale"} for task in ("gsm8k", "boolq")}
    yield evaluated("compare", "downstream", both, method="badam", baseline="lora")


def evaluated(kind: str, part: str, measured: dict[str, Any], **labels: str) -> Record:
    """One part of an evaluation, or a comparison; the name is of no matter."""
    name = "-".join([part, *labels.values()])
    config = {"part": part, "about": {"model": "smollm2_135m", "data": "gsm8k"} | labels}
    return Record(kind, "downstream", name, name, "finished", config, measured, PROVENANCE)


def frontier_cost(method: str, **measured: float) -> Record:
    """A step of a large model: its predicted peak, or its seconds."""
    study = "frontier" if "seconds" in measured else "frontier_predicted"
    measurements: dict[str, Any] = {"predicted": {"phases": {"forward": 1.0, "backward": measured.get("peak")}}}
    if "seconds" in measured:
        measurements = {"seconds": {"step": measured["seconds"]}}
    config = {"about": {"family": method, "version": "frontier"}}
    return Record("profile", study, method, method, "finished", config, measurements, PROVENANCE)


@cache
def studies() -> tuple[Record, ...]:
    """Every study, all of it."""
    generator = np.random.default_rng(0)
    return (
        *method_runs(generator),
        *axis_runs(generator),
        *equal_time_runs(generator),
        *regime_runs(generator),
        *regime_option_runs(generator),
        *match_runs(),
        *movement_runs(),
        *alone_runs(),
        *tuned(),
        *downstream(),
    )


def of(study: str) -> list[Record]:
    return [record for record in studies() if record.study == study]


def of_kind(kind: str) -> list[Record]:
    return [record for record in studies() if record.kind == kind]

"""Entry point: `python -m theory.practice` holds the theorems against what was measured on a real model.

It reads the record of `python -m experiments.curvature` and computes, for each state of the model,

    constants  eps/G for the largest entry of the gradient and for the G of Theorem B1, sqrt(2 L_max f), f* >= 0
    b1         alpha L/eps against a_max, for the learning rates of practice; the eps that they would need; and the
               decrease of one visit that Theorem B1+ promises at half the largest alpha that it allows
    coupling   the measured ||H_ij|| as a matrix, the norm of its strict lower triangle (Lambda of Lemma T for the
               measured blocks), L tau, and ||H_ij||/sqrt(||H_ii|| ||H_jj||)
    visits     observed decrease of one visit beside that of Theorem B2 for one block,
                   f(z^0) - f(z^K) >= alpha K (||g||_1 - d eps) - alpha^2 L d (C + N),
               and for K = 1 the quadratic model alpha g's - alpha^2 s'Hs/2
    match      Theorem F1, where curvature along signs was measured: chi of each partition, and the ratio
               ((c_K + n_K)/c_K)/chi of the gradients that BAdam and Adam need by their bounds
    field      Theorem D3: zeros of the mean field under the measured noise (`theory.resampled`) against its first
               order h_K sigma, and how often the mean update has the sign opposite to the mean gradient

Measured norms are lower estimates of L at one point, not suprema, so nothing here proves or refutes a theorem: where
they already make a hypothesis fail or a bound vacuous, larger ones do too. The record has study "practice".
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import records
from bcd import Adam
from records.packed import unpack
from records.provenance import provenance, source_hash
from theory.bounds.f1 import penalty
from theory.bounds.master import largest_a, recipe_of
from theory.bounds.triangular import tau
from theory.promises import b1_visit, b2_best, b2_visit
from theory.resampled import Noise, per_skewness

STUDY = "practice"
NAME = "theorems-in-practice"
FIELD_STEPS = (1, 2, 5, 10, 20, 50, 100)
"""K of the mean field."""

DRAWN = {"zero": 1000, "field": 6000}
"""Visits that are drawn for an expectation: near its zero the control variate leaves little variance."""


def newest(folders: Sequence[Path] = (records.OUTPUTS, records.COMMITTED)) -> records.Record:
    """The newest measurement of the first folder that has one.

    Raises:
        RecordError: when there is none.
    """
    for folder in folders:
        candidates = records.load_study(STUDY, kind="curvature", folder=folder)
        if candidates:
            return max(candidates, key=lambda record: record.provenance["date"])
    raise records.RecordError(
        f"no finished curvature record of the study {STUDY!r}; run `python -m experiments.curvature`"
    )


def rule_of(record: records.Record) -> Adam:
    """The rule of the measured visits.

    Raises:
        RecordError: for another rule than Adam, or with weight decay.
    """
    options = dict(record.config["rule"])
    target = options.pop("_target_", "")
    if target.rpartition(".")[2] != "Adam" or options.get("weight_decay"):
        raise records.RecordError(f"rule={record.config['rule']} is not possible: the theorems are about Adam's rule")
    return Adam(betas=tuple(options.get("betas", Adam.betas)), eps=float(options.get("eps", Adam.eps)))


def compare(state: Mapping[str, Any], config: Mapping[str, Any], rule: Adam) -> dict[str, Any]:
    """`constants`, `b1`, `coupling` and `visits` of one state."""
    blocks = {block["block"]: block for block in state["blocks"]}
    L_max = max(block["curvature"]["value"] for block in blocks.values())
    whole = state.get("whole") or {"curvature": {"value": L_max}, "gradient": {"max": 0.0}, "blocks": len(blocks)}
    seen = max([whole["gradient"]["max"], *(block["gradient"]["max"] for block in blocks.values())])
    G = math.sqrt(2 * L_max * state["loss"])
    steps, rates = config["visits"]["inner_steps"], config["visits"]["lr"]
    return {
        "constants": {
            "eps": rule.eps,
            "largest_entry": seen,
            "G": G,
            "eps_over_entry": rule.eps / seen,
            "eps_over_G": rule.eps / G,
            "L_max": L_max,
            "L": whole["curvature"]["value"],
            "D": whole["blocks"],
        },
        "b1": [_b1(rule, L_max, G, blocks, rates, K) for K in steps],
        "coupling": _coupling(state, blocks, whole),
        "visits": [
            _visit(rule, blocks[visit["block"]], visit, K, state["loss"] - loss)
            for visit in state["visits"]
            for K, loss in zip(steps, visit["losses"], strict=True)
        ],
        **({"match": _match(state["signs"], rule, steps)} if "signs" in state else {}),
    }


def _match(signs: Mapping[str, Any], rule: Adam, steps: Sequence[int]) -> dict[str, Any]:
    """Partition -> number of blocks, chi along the first step of Adam and along climbed signs, its ratio for every K.

    None where the curvature of the blocks is not positive along the step.
    """
    found = {}
    for name, part in signs["partitions"].items():
        chi = {how: part["chi"][how] for how in ("adam", "climbed")}
        ratio = {how: value and [penalty(rule.betas, K, value) for K in steps] for how, value in chi.items()}
        found[name] = {"blocks": part["blocks"], "chi": chi, "inner_steps": list(steps), "ratio": ratio}
    return found


def _b1(
    rule: Adam, L_max: float, G: float, blocks: Mapping[int, Any], rates: Sequence[float], K: int
) -> dict[str, Any]:
    largest = largest_a(recipe_of(rule, K))
    alpha = largest * rule.eps / L_max / 2
    promised = {
        str(i): b1_visit(rule, block["curvature"]["value"], G, alpha, K) * block["gradient"]["norm"] ** 2
        for i, block in blocks.items()
    }
    return {
        "inner_steps": K,
        "a_max": largest,
        "largest_alpha": largest * rule.eps / L_max,
        "orders_too_large": [math.log10(rate * L_max / rule.eps / largest) for rate in rates],
        "eps_needed": [rate * L_max / largest for rate in rates],
        "promised": promised,
    }


def _visit(rule: Adam, block: Mapping[str, Any], visit: Mapping[str, Any], K: int, observed: float) -> dict[str, Any]:
    lr = visit["lr"]
    entry = {
        "block": block["block"],
        "lr": lr,
        "gradients": visit["gradients"],
        "inner_steps": K,
        "observed": observed,
        "b2": b2_visit(rule, block, lr, K),
    }
    if K == 1:
        entry["quadratic"] = lr * block["slope"] - lr**2 * block["bend"] / 2
    best, promised = b2_best(rule, block, K)
    return entry | {"b2_best_alpha": best, "b2_best": promised}


def _coupling(state: Mapping[str, Any], blocks: Mapping[int, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    index = list(blocks)
    matrix = np.diag([blocks[i]["curvature"]["value"] for i in index])
    for pair in state["couplings"]:
        a, b = index.index(pair["i"]), index.index(pair["j"])
        matrix[a, b] = matrix[b, a] = pair["value"]
    root = np.sqrt(np.diag(matrix))
    relative = (matrix / np.outer(root, root))[np.tril_indices(len(index), -1)]
    return {
        "blocks": index,
        "matrix": matrix.tolist(),
        "relative": relative.tolist(),
        "Lambda_measured": float(np.linalg.norm(np.tril(matrix, -1), 2)),
        "L_tau_measured": whole["curvature"]["value"] * tau(len(index)),
        "L_tau": whole["curvature"]["value"] * tau(whole["blocks"]),
    }


def mean_fields(state: Mapping[str, Any], rule: Adam, batch: int, seed: int = 0) -> list[dict[str, Any]]:
    """Theorem D3 for each measured block.

    Every list has one entry for each K of `FIELD_STEPS`:

        zero            zero/sigma of each coordinate, signed
        predicted       h_K
        error           median standard error of the zeros
        slope           of the signed zeros on the predictions, through the origin
        correlation     of the signed zeros and the predictions
        wrong           share of coordinates whose mean update and mean gradient have opposite signs
        wrong_weight    the same, weighted by |mean gradient|
        undecided       share with |F| below three standard errors
    """
    entries = []
    for part in state["noise"]:
        table = np.array(unpack(part["gradients"]))
        moves = np.ptp(table, axis=1) > 0
        options = {"batch": batch, "inner_steps": FIELD_STEPS[-1], "seed": seed}
        field = Noise(table[moves], visits=DRAWN["field"], **options)
        noise = Noise(table[moves], visits=DRAWN["zero"], **options)
        at_signal = field.field(noise.signal, FIELD_STEPS, rule.eps, rule.betas)
        wrong = at_signal.mean * noise.signal < 0
        weight = abs(noise.signal) / abs(noise.signal).sum()
        entry: dict[str, Any] = {
            "block": part["block"],
            "inner_steps": list(FIELD_STEPS),
            "coordinates": len(noise.signal),
            "batch": batch,
            "skewness": noise.skewness.tolist(),
            "signal": (noise.signal / noise.sigma).tolist(),
            "wrong": wrong.mean(axis=1).tolist(),
            "wrong_weight": (wrong @ weight).tolist(),
            "undecided": (abs(at_signal.mean) < 3 * at_signal.error).mean(axis=1).tolist(),
        }
        columns: dict[str, list] = {name: [] for name in ("zero", "predicted", "error", "slope", "correlation")}
        for K in FIELD_STEPS:
            at = noise.zero(K, rule.eps, rule.betas)
            # F grows like K shift/sigma near its zero
            spread = noise.field(at, [K], rule.eps, rule.betas).error[0] / K
            zero, predicted = at / noise.sigma, noise.skewness * per_skewness(K, rule.betas)
            columns["zero"].append(np.round(zero, 5).tolist())
            columns["predicted"].append(np.round(predicted, 5).tolist())
            columns["error"].append(float(np.median(spread)))
            columns["slope"].append(float(zero @ predicted / (predicted @ predicted)))
            columns["correlation"].append(float(np.corrcoef(zero, predicted)[0, 1]))
        entries.append(entry | columns)
    return entries


def analyse(record: records.Record) -> dict[str, Any]:
    """All measurements of the new record.

    Raises:
        RecordError: when a part of the old one is missing.
    """
    rule, batch = rule_of(record), record.config["batch_size"]
    try:
        states = [
            {"steps": state["steps"], "loss": state["loss"]}
            | {
                "sources": [
                    {k: block[k] for k in ("block", "size", "gradient", "curvature", "slope", "bend")}
                    for block in state["blocks"]
                ]
            }
            | compare(state, record.config, rule)
            | {"field": mean_fields(state, rule, batch)}
            for state in record.measurements["states"]
        ]
    except KeyError as error:
        raise records.RecordError(f"{record.path or record.name} lacks {error}") from error
    return {"measured": {"name": record.name, "key": record.key, "provenance": record.provenance}, "states": states}


def report(measurements: Mapping[str, Any], rates: Sequence[float]) -> str:
    """The tables that the command prints."""
    lines = []
    for state in measurements["states"]:
        constants, pairs = state["constants"], state["coupling"]
        lines += [
            f"after {state['steps']} steps, f = {state['loss']:.4f}",
            f"  eps/max|g| {constants['eps_over_entry']:.1e}, eps/G {constants['eps_over_G']:.1e}, "
            f"L_max >= {constants['L_max']:.3g}, L >= {constants['L']:.3g}",
            f"  coupling of the measured blocks: Lambda {pairs['Lambda_measured']:.3g}, "
            f"L tau {pairs['L_tau_measured']:.3g}; "
            f"||H_ij||/sqrt(||H_ii|| ||H_jj||) {min(pairs['relative']):.2f} to {max(pairs['relative']):.2f}",
            f"  {'K':>5}{'a_max':>8}{'alpha B1':>10}  orders of magnitude too large, lr " + ", ".join(map(str, rates)),
        ]
        lines += [
            f"  {b['inner_steps']:>5}{b['a_max']:>8.3f}{b['largest_alpha']:>10.1e}  "
            + ", ".join(f"{x:.1f}" for x in b["orders_too_large"])
            for b in state["b1"]
        ]
        for name, part in state.get("match", {}).items():
            chi = ", ".join(f"{how} {'--' if x is None else format(x, '.3f')}" for how, x in part["chi"].items())
            lines.append(f"  {name}, {part['blocks']} blocks: chi {chi}")
        lines.append(f"  {'block':>5}{'lr':>9}{'K':>4}{'observed':>11}{'B2':>11}{'quadratic':>11}{'B2 best':>11}")
        lines += [
            f"  {v['block']:>5}{v['lr']:>9.0e}{v['inner_steps']:>4}{v['observed']:>11.3g}{v['b2']:>11.3g}"
            f"{v.get('quadratic', math.nan):>11.3g}{v['b2_best']:>11.3g}"
            for v in state["visits"]
        ]
        lines.append(
            f"  {'block':>5}{'K':>5}{'|zero|/sigma':>14}{'|h_K|':>9}{'slope':>8}{'corr.':>8}{'wrong':>8}{'weight':>8}"
        )
        for part in state["field"]:
            for i, K in enumerate(part["inner_steps"]):
                zero, predicted = (np.median(np.abs(part[name][i])) for name in ("zero", "predicted"))
                lines.append(
                    f"  {part['block']:>5}{K:>5}{zero:>14.4f}{predicted:>9.4f}{part['slope'][i]:>8.2f}"
                    f"{part['correlation'][i]:>8.3f}{part['wrong'][i]:>8.3f}{part['wrong_weight'][i]:>8.4f}"
                )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("record", nargs="?", type=Path, help="record of experiments.curvature; the newest by default")
    parser.add_argument("--records-dir", type=Path, default=records.OUTPUTS, help="where the new record goes")
    options = parser.parse_args(arguments)
    try:
        source = records.load(options.record) if options.record else newest()
        if source.kind != "curvature" or source.status != "finished":
            raise records.RecordError(f"{options.record} is no finished record of kind curvature")
        measurements = analyse(source)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    config = {
        "measured": source.name,
        "inner_steps": list(FIELD_STEPS),
        "drawn": DRAWN,
        "measured_config": source.config,
    }
    key = records.run_key(config, {"code": source_hash(("bcd", "theory")), "measured": source.key})
    record = records.Record("verify", STUDY, NAME, key, "finished", config, measurements, provenance("cpu"))
    path = records.write(record, options.records_dir)
    print(f"{report(measurements, source.config['visits']['lr'])}\n{path}")


if __name__ == "__main__":
    main()

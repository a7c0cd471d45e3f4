"""Negative controls: false versions of Theorem A1 and the ratio with which the ledger rejects each."""

from collections.abc import Sequence

from records import Record

SOURCES = {"theory": ("verify", "theory")}


def text(theory: Sequence[Record]) -> str:
    (record,) = (r for r in theory if r.name == "a1-quadratic-quick")
    lines = [r"\begin{tabular}{@{}llrrl@{}}", r"\toprule"]
    lines += [r"false statement & line & its ratio & true ratio & verdict \\", r"\midrule"]
    for control in record.measurements["controls"]:
        verdict = "rejected" if control["rejected"] else r"\textbf{not rejected}"
        ratios = ["--" if control[key] is None else f"{control[key]:.3f}" for key in ("ratio", "true_ratio")]
        name = control["name"].replace("_", r"\_").replace("gamma", r"$\gamma$").replace("Lambda", r"$\Lambda$")
        name = name.replace(r"C\_t", "$C_t$").replace(r"kappa\_K", r"$\kappa_K$")
        lines.append(" & ".join([name, control["line"], *ratios, verdict]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

"""The ledger of Theorem A1: checks, how many are resolved, instances, largest ratio, violations of every line."""

from collections.abc import Sequence

from records import Record

SOURCES = {"theory": ("verify", "theory")}
NAMES = {"A0*": "A0$^*$", "A0'": "A0$'$", "A0''": "A0$''$", "T": "Lemma T", "S": "Lemma S", "bound": "theorem"}


def text(theory: Sequence[Record]) -> str:
    (record,) = (r for r in theory if r.name == "a1-quadratic-quick")
    lines = [r"\begin{tabular}{@{}lrrrrr@{}}", r"\toprule"]
    lines += [r"line & checks & resolved & instances & largest ratio & violations \\", r"\midrule"]
    for name, line in record.measurements["lines"].items():
        ratio = "--" if line["largest_ratio"] is None else f"{line['largest_ratio']:.4f}"
        counts = [str(line[count]) for count in ("checks", "resolved", "instances")]
        cells = [str(NAMES.get(name, name)), *counts, ratio, str(line["violations"])]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

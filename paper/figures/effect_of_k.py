"""The effect of the steps a visit K: the gain of a visit, the worst case of a block epoch, the exact contraction."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from records import Record

SOURCES = {"worst_case": ("verify", "worst_case"), "curves": ("verify", "curves")}
MARKS = "osD^v"
SHADES = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7")


def draw(worst_case: Sequence[Record], curves: Sequence[Record]) -> Figure:
    drawn, (gain, epoch, contraction) = style.figure(3, height=2.7)
    (record,), (worst,) = curves, worst_case

    kappas = record.measurements["gain"]
    for (gamma, values), colour, mark in zip(kappas["kappa"].items(), SHADES, MARKS, strict=False):
        look = {"color": colour, "marker": mark, "markersize": 3.2, "markevery": 2}
        gain.semilogx(kappas["inner_steps"], values, label=rf"$\gamma={gamma}$", **look)
    gain.set(xlabel="$K$", ylabel=r"$\kappa_K$", ylim=(0, 1.05), title="gain of a visit")
    gain.legend(fontsize=7, loc="lower right", handlelength=1.2)

    steps = worst.measurements["inner_steps"]
    for name, label, colour in (("long", r"$\gamma=1$", "#E69F00"), ("short", r"$\gamma=1/K$", "#0072B2")):
        K = steps["inner_steps"]
        epoch.loglog(K, steps[name]["theorem"], color=colour, linestyle="--", label=f"$C_{{rec}}$, {label}")
        epoch.loglog(K, steps[name]["worst_case"], color=colour, marker="o", markersize=3, label=f"$C^*$, {label}")
    epoch.set_xticks(steps["inner_steps"], [str(K) for K in steps["inner_steps"]])
    ticks = [2, 3, 5, 10, 20, 40]
    epoch.set_yticks(ticks, [str(tick) for tick in ticks])
    epoch.minorticks_off()
    epoch.set(xlabel="$K$", ylabel="$C/L$", ylim=(2, 40), title=f"one block epoch, $D={steps['blocks']}$")
    epoch.legend(fontsize=7, handlelength=1.6)

    factors = record.measurements["contraction"]
    for gamma, colour in zip(factors["exact"], ("#0072B2", "#E69F00"), strict=False):
        exact, theorem = (1 - np.array(factors[kind][gamma]) for kind in ("exact", "theorem"))
        contraction.loglog(factors["inner_steps"], exact, color=colour, label=rf"A6, $\gamma={gamma}$")
        contraction.loglog(
            factors["inner_steps"], theorem, color=colour, linestyle="--", label=rf"A3, $\gamma={gamma}$"
        )
    contraction.axhline(
        1 - factors["minimisation"], color="black", linewidth=0.9, linestyle=":", label="A5, exact min."
    )
    contraction.set(xlabel="$K$", ylabel="$1-$ factor of an epoch", title="contraction", ylim=(3e-4, 1.2))
    contraction.legend(fontsize=7, handlelength=1.6, loc="lower left")
    return drawn

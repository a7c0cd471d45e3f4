"""What a certificate claims, in words made from its parameters; standard library only.

g is the gradient of the visited block, x^n the point after step n, x^N the last one. |.| is the Euclidean norm. The
rule sector covers Adam with reset (decay beta1, h the bias-corrected mean) whenever its diagonal H has
max H/min H <= ratio and alpha max H = step; it is a relaxation, not Adam itself. The claims of the measure convex
rest on necessary, not sufficient, interpolation conditions: they are valid, but may be larger than the worst case.
"""

from fractions import Fraction
from string import Formatter

DEFAULTS = {"step": 1, "decay": 0, "ratio": 1}

SIZE = "{blocks} blocks, {inner_steps} steps a visit, {epochs} block epochs"
SMOOTH = "f: 1-Lipschitz gradient, convex or not"
CONVEX = "f: convex, gradient L_i-Lipschitz in block i, L = ({lipschitz})"
MEAN = "m <- {decay} m + (1 - {decay}) g, m = 0 before a visit"
STEPS = ("gradient", "momentum", "sector")

MEASURES = {  # class of functions, rules, claim
    "epoch": (SMOOTH, STEPS, "|grad f(x^0)|^2 <= {constant} (f(x^0) - f(x^N))"),
    "descent": (SMOOTH, STEPS, "f(x^N) <= f(x^0)"),
    "triangular": (SMOOTH, ("free",), "sum_i |grad_i f(x^0) - grad_i f(x^(i-1))|^2 <= {constant} |x^N - x^0|^2"),
    "convex": (CONVEX, ("gradient",), "f(x^N) - min f <= {constant} |x^0 - argmin f|^2"),
}
RULES = {
    "gradient": "step -({step}) g/L_i with L_i = 1 unless given",
    "momentum": "step -({step}) m, " + MEAN,
    "sector": "step s, <s + ({step}) h, s + ({step})/({ratio}) h> <= 0, h = m/(1 - ({decay})^k) at step k of a visit, "
    + MEAN,
    "free": "any step",
}


def statement(parameters: dict, constant: str | None) -> str:
    """The claim.

    Raises:
        KeyError: when the measure or the rule is missing, or the measure is unknown.
        ValueError: when another parameter is missing, not possible or does not belong to the claim.
    """
    kind, rules, claim = MEASURES[parameters["measure"]]
    if parameters["rule"] not in rules:
        raise ValueError(f"rule={parameters['rule']!r} is not possible for the measure {parameters['measure']}")
    words = "; ".join((kind, SIZE, RULES[parameters["rule"]], claim))
    if (constant is not None) != ("{constant}" in words):
        raise ValueError(f"constant={constant} is not possible for the measure {parameters['measure']}")
    named = {name for _, name, _, _ in Formatter().parse(words) if name} - {"constant"} | {"measure", "rule"}
    if named != set(parameters):
        raise ValueError(f"parameters {sorted(parameters)} must be {sorted(named)}")
    require_possible(parameters)
    return words.format(**{**parameters, "lipschitz": ", ".join(parameters.get("lipschitz", ()))}, constant=constant)


def require_possible(parameters: dict) -> None:
    """Raise ValueError unless every number is in its range."""
    sizes = [parameters[name] for name in ("blocks", "inner_steps", "epochs")]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"blocks, inner_steps, epochs = {sizes} are not possible: they must be positive integers")
    if parameters["rule"] == "free" and sizes[1:] != [1, 1]:
        raise ValueError(f"inner_steps, epochs = {sizes[1:]} are not possible: the rule free has one step a block")
    step, decay, ratio = (Fraction(parameters.get(name, at)) for name, at in DEFAULTS.items())
    if step <= 0 or ratio < 1 or not 0 <= decay < 1:
        raise ValueError(f"step={step}, decay={decay}, ratio={ratio} are not possible: they are > 0, in [0, 1), >= 1")
    lipschitz = [Fraction(value) for value in parameters.get("lipschitz", ["1"] * sizes[0])]
    if len(lipschitz) != sizes[0] or min(lipschitz) <= 0:
        raise ValueError(f"lipschitz={lipschitz} is not possible: one positive number for each block")

"""Worst cases as exact data: a class of functions, an algorithm, a measure.

Blocks 1..D (indices 0..D-1) are visited in this order, `inner_steps` = K steps a visit, `epochs` times; by symmetry
of the classes the order does not matter for one block epoch. Points x^0..x^N, N = D K epochs, x^n is the point after
step n; f^n, g_i^n its value and block gradient. Step k of a visit has m^k = sum_{j<=k} w_kj g_i^{(j)}, g_i^{(j)} the
j-th gradient of the visit, and moves block i by

    gradient  -a/L_i g^{(k)}
    momentum  -a/L m^k,  w_kj = (1-b) b^{k-j}                          momentum with reset, m = 0 at entry
    sector    s,  <s + (a/L) mh, s + (a/(L kappa)) mh> <= 0,  mh = m/(1-b^k)
    free      any s

The sector is a relaxation of Adam with reset: s = -alpha H mh fulfils it for every diagonal (or symmetric) H with
h_min <= H <= h_max, a = alpha h_max L, kappa = h_max/h_min; BAdam has h_max = 1/eps, h_min = 1/(G+eps) with every
|gradient coordinate| <= G. It is not Adam itself, whose H depends on the gradients: constants that hold for the
sector hold for BAdam, but BAdam's own worst case may be smaller. (The sector alone is exact for symmetric H that
may change from step to step; a diagonal H has fewer possibilities.)

Measures (C is the constant that `sdp` minimises, L = 1 for the first three):
    epoch       ||grad f(x^0)||^2 <= C (f(x^0) - f(x^N))
    descent     f(x^N) <= f(x^0)                                       no constant
    triangular  sum_i ||grad_i f(x^0) - grad_i f(x^{i-1})||^2 <= C sum_i ||u_i||^2     rule free, K = 1: Lemma T
    convex      f(x^N) - f* <= C ||x^0 - x*||^2

Classes. The first three: f with 1-Lipschitz gradient, not convex, through its interpolation conditions

    f^i - f^j >= <g^j, x^i - x^j> + <g^i - g^j, x^i - x^j>/2 + ||g^i - g^j||^2/4 - ||x^i - x^j||^2/4,

which are necessary and sufficient (Taylor, Hendrickx, Glineur 2017), so that C is the exact worst case over all
blocks of large enough dimension. convex: convex f whose block gradients are L_p-Lipschitz in block p,

    f^i - f^j >= <g^j, x^i - x^j> + ||g_p^i - g_p^j||^2/(2 L_p)        for every p,

which is necessary but not sufficient, so that C is an upper bound only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from theory.worst_case.forms import Form, Vector, combine

MEASURES = ("epoch", "descent", "triangular", "convex")
RULES = ("gradient", "momentum", "sector", "free")

Key = tuple[int | str, ...]


@dataclass(frozen=True)
class Case:
    """One worst case; see the module for the meaning of the fields.

    Attributes:
        measure: one of `MEASURES`.
        rule: one of `RULES`.
        blocks: D.
        inner_steps: K.
        epochs: block epochs.
        step: a > 0 (ignored by the rule free).
        decay: b in [0, 1).
        ratio: kappa >= 1.
        lipschitz: L_1..L_D > 0 for the measure convex, else empty.

    Raises:
        ValueError: when a value is not possible.
    """

    measure: str
    blocks: int
    inner_steps: int = 1
    epochs: int = 1
    rule: str = "gradient"
    step: Fraction = Fraction(1)
    decay: Fraction = Fraction(0)
    ratio: Fraction = Fraction(1)
    lipschitz: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in (("measure", MEASURES), ("rule", RULES)):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}={value!r} is not possible: it must be one of {', '.join(allowed)}")
        for name in ("blocks", "inner_steps", "epochs"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} is not possible: it must be a positive integer")
        if self.step <= 0:
            raise ValueError(f"step={self.step} is not possible: it must be positive")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay} is not possible: it must be in [0, 1)")
        if self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} is not possible: it must be at least 1")
        if self.decay and self.rule not in ("momentum", "sector"):
            raise ValueError(f"decay={self.decay} is not possible: the rule {self.rule} has none")
        if self.ratio != 1 and self.rule != "sector":
            raise ValueError(f"ratio={self.ratio} is not possible: the rule {self.rule} has none")
        if (self.measure == "triangular") != (self.rule == "free"):
            raise ValueError(f"rule={self.rule!r} is not possible for the measure {self.measure}")
        if self.measure == "triangular" and (self.inner_steps, self.epochs) != (1, 1):
            raise ValueError("the measure triangular has inner_steps=1 and epochs=1")
        if self.measure == "convex" and self.rule != "gradient":
            raise ValueError(f"rule={self.rule!r} is not possible: the measure convex has gradient steps")
        if (
            len(self.lipschitz) != (self.blocks if self.measure == "convex" else 0)
            or min(self.lipschitz, default=1) <= 0
        ):
            raise ValueError(
                f"lipschitz={self.lipschitz} is not possible: {self.blocks} positive values for convex, else none"
            )


@dataclass(frozen=True)
class Point:
    """A point: for each block its position relative to the start (to x* if convex) and its gradient."""

    x: tuple[Vector, ...]
    g: tuple[Vector, ...]


@dataclass(frozen=True)
class Identity:
    """To prove: base + C * scaled = sum of multiplier * inequality + positive semidefinite, all multipliers >= 0.

    Attributes:
        base: of the measure; base + C * scaled >= 0 is the claim.
        scaled: of the measure.
        inequalities: key -> form that is >= 0.
        bases: for each block its basis vectors.
    """

    base: Form
    scaled: Form
    inequalities: dict[Key, Form]
    bases: tuple[tuple[str, ...], ...]


def weights(case: Case, k: int) -> list[Fraction]:
    """w_k1..w_kk of the rule; they sum to one for sector and to 1 - b^k for momentum."""
    if case.rule == "gradient":
        return [Fraction(int(j == k)) for j in range(1, k + 1)]
    mean = [(1 - case.decay) * case.decay ** (k - j) for j in range(1, k + 1)]
    return [w / (1 - case.decay**k) for w in mean] if case.rule == "sector" else mean


def walk(case: Case) -> tuple[list[Point], dict[Key, Form], list[list[str]]]:
    """The points x^0..x^N, the inequalities of the sector, and the names of all vectors of each block."""
    total = case.blocks * case.inner_steps * case.epochs
    convex = case.measure == "convex"
    # Lemma T does not change when a linear function is subtracted from f, so that grad f(x^0) = 0 there.
    first = 1 if case.measure == "triangular" else 0
    gradients = [{f"g{n}": Fraction(1)} if n >= first else {} for n in range(total + 1)]
    bases = [[f"g{n}" for n in range(first, total + 1)] + ["x"] * convex for _ in range(case.blocks)]
    x: list[Vector] = [{"x": Fraction(1)} if convex else {} for _ in range(case.blocks)]
    points = [Point(tuple(x), (gradients[0],) * case.blocks)]
    sectors: dict[Key, Form] = {}
    for n in range(1, total + 1):
        visit, k = divmod(n - 1, case.inner_steps)
        block, entry = visit % case.blocks, visit * case.inner_steps
        mean = combine(*((w, gradients[entry + j]) for j, w in enumerate(weights(case, k + 1))))
        step: Vector = {f"s{n}": Fraction(1)}
        if case.rule in ("gradient", "momentum"):
            step = combine((-case.step / (case.lipschitz[block] if convex else 1), mean))
        else:
            bases[block].append(f"s{n}")
        if case.rule == "sector":
            least, most = combine((1, step), (case.step / case.ratio, mean)), combine((1, step), (case.step, mean))
            sectors["sector", n] = Form().inner(block, least, most, -1)
        x[block] = combine((1, x[block]), (1, step))
        points.append(Point(tuple(x), (gradients[n],) * case.blocks))
    return points, sectors, bases


def interpolation(case: Case, points: dict[int | str, Point]) -> Iterator[tuple[Key, Form]]:
    """The conditions of the class for all ordered pairs of points."""
    for i, at in points.items():
        for j, of in points.items():
            if i == j:
                continue
            moves = [combine((1, u), (-1, v)) for u, v in zip(at.x, of.x, strict=True)]
            turns = [combine((1, u), (-1, v)) for u, v in zip(at.g, of.g, strict=True)]
            first = Form().value(i, 1).value(j, -1)
            for block, (g, move) in enumerate(zip(of.g, moves, strict=True)):
                first.inner(block, g, move, -1)
            if case.measure == "convex":
                for p, (turn, lipschitz) in enumerate(zip(turns, case.lipschitz, strict=True)):
                    yield ("convex", i, j, p), Form().add(first).inner(p, turn, turn, -1 / (2 * lipschitz))
            else:
                for block, (turn, move) in enumerate(zip(turns, moves, strict=True)):
                    first.inner(block, turn, move, Fraction(-1, 2))
                    first.inner(block, turn, turn, Fraction(-1, 4)).inner(block, move, move, Fraction(1, 4))
                yield ("smooth", i, j), first


def identity(case: Case) -> Identity:
    """The exact data of the worst case."""
    points, inequalities, bases = walk(case)
    base, scaled = Form(), Form()
    last = len(points) - 1
    named: dict[int | str, Point] = dict(enumerate(points))
    if case.measure == "convex":
        named["min"] = Point(({},) * case.blocks, ({},) * case.blocks)
        base.value("min", 1).value(last, -1)
        for block in range(case.blocks):
            scaled.inner(block, points[0].x[block], points[0].x[block], 1)
    elif case.measure == "triangular":
        for block in range(case.blocks):
            turn = combine((1, points[0].g[block]), (-1, points[block].g[block]))
            base.inner(block, turn, turn, -1)
            scaled.inner(block, points[last].x[block], points[last].x[block], 1)
    elif case.measure == "epoch":
        scaled.value(0, 1).value(last, -1)
        for block, g in enumerate(points[0].g):
            base.inner(block, g, g, -1)
    else:
        base.value(0, 1).value(last, -1)
    inequalities |= dict(interpolation(case, named))
    return Identity(base, scaled, inequalities, tuple(map(tuple, bases)))

"""The published algorithm line by line, without classes and without torch: the oracle of the tests and of theory/.

Transcribed from Algorithm 1 of BAdam (arXiv 2404.02827) over plain lists of numbers, with each rule of `bcd.rules` as
the inner update. That of the class `Adam` is the function `adam`, of `RowNormalised` it is `row_normalised`: it takes
the class's hyperparameters by name, a pair such as betas as beta1 and beta2, and makes the same state in the same
order. The update of a rule that does not move every number by itself also takes the shapes of a block's tensors, and
keeps a state for each. The number type is whatever the start point holds: float (IEEE float64), fractions.Fraction for
the rules without a root, or a multi-precision type when `sqrt` of that type is given.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Number = Any  # float, Fraction, mpmath.mpf, ...: anything with field arithmetic
Vector = list[Number]
Shape = Sequence[int]
State = dict[str, Any]
Update = Callable[[Vector, Vector, State, Number], Vector]
"""(x, g, state, lr) -> new x. `state` is an empty dict at the first step of a visit and belongs to the update."""


def descend(
    gradient: Callable[[int, list[Vector]], Vector],
    start: Sequence[Vector],
    visits: Iterable[Sequence[int]],
    *,
    update: Update | Sequence[Update],
    inner_steps: int,
    lr: Sequence[Number],
) -> list[list[Vector]]:
    """K steps of `update` with fresh state on the blocks of each visit; returns the iterate after every step.

    Args:
        gradient: (i, x) -> gradient of block i at x.
        start: the numbers of each block.
        visits: the block indices of each visit, in order.
        update: one step of a rule, for all blocks or one for each.
        inner_steps: K.
        lr: step size of each block.
    """
    x = [list(block) for block in start]
    updates = [update] * len(x) if callable(update) else update
    iterates = []
    for active in visits:
        states: Mapping[int, State] = {i: {} for i in active}
        for _ in range(inner_steps):
            gradients = {i: gradient(i, x) for i in active}
            for i in active:
                x[i] = updates[i](x[i], gradients[i], states[i], lr[i])
            iterates.append([list(block) for block in x])
    return iterates


def adam(
    *,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    decoupled: bool = False,
    sqrt: Callable[[Number], Number] = math.sqrt,
) -> Update:
    """Adam's rule; decoupled=True is AdamW's in torch.optim's convention."""

    def update(x: Vector, g: Vector, state: State, lr: Number) -> Vector:
        if decoupled:
            x = [x_c - lr * weight_decay * x_c for x_c in x]
        else:
            g = [g_c + weight_decay * x_c for x_c, g_c in zip(x, g, strict=True)]
        k = state["k"] = state.get("k", 0) + 1
        m = state["m"] = [beta1 * m_c + (1 - beta1) * g_c for m_c, g_c in _pairs(state.get("m"), g)]
        v = state["v"] = [beta2 * v_c + (1 - beta2) * g_c * g_c for v_c, g_c in _pairs(state.get("v"), g)]
        moved = []
        for x_c, m_c, v_c in zip(x, m, v, strict=True):
            m_hat = m_c / (1 - beta1**k)
            v_hat = v_c / (1 - beta2**k)
            moved.append(x_c - lr * m_hat / (sqrt(v_hat) + eps))
        return moved

    return update


def adamw(**values: Any) -> Update:
    """AdamW's rule.

    Args:
        values: those of `adam`.
    """
    return adam(**values, decoupled=True)


def sgd(*, weight_decay: Number = 0) -> Update:
    """Gradient descent's rule."""

    def update(x: Vector, g: Vector, state: State, lr: Number) -> Vector:
        return [x_c - lr * (g_c + weight_decay * x_c) for x_c, g_c in zip(x, g, strict=True)]

    return update


def momentum(*, momentum: Number, nesterov: bool = False, weight_decay: Number = 0) -> Update:
    """Heavy ball, or Nesterov's form, with the buffer starting at the first gradient of the visit."""

    def update(x: Vector, g: Vector, state: State, lr: Number) -> Vector:
        g = [g_c + weight_decay * x_c for x_c, g_c in zip(x, g, strict=True)]
        m = state["m"] = [momentum * m_c + g_c for m_c, g_c in _pairs(state.get("m"), g)]
        step = [g_c + momentum * m_c for g_c, m_c in zip(g, m, strict=True)] if nesterov else m
        return [x_c - lr * s_c for x_c, s_c in zip(x, step, strict=True)]

    return update


def sign(*, weight_decay: Number = 0) -> Update:
    """Sign descent with decoupled weight decay."""

    def update(x: Vector, g: Vector, state: State, lr: Number) -> Vector:
        signs = [(g_c > 0) - (g_c < 0) for g_c in g]
        return [x_c - lr * weight_decay * x_c - lr * s_c for x_c, s_c in zip(x, signs, strict=True)]

    return update


def row_normalised(
    *, shapes: Sequence[Shape], weight_decay: Number = 0, sqrt: Callable[[Number], Number] = math.sqrt
) -> Update:
    """Every row of a tensor's gradient over its root mean square, with decoupled weight decay."""

    def update(x: Vector, g: Vector, shape: Shape, state: State, lr: Number) -> Vector:
        rows = shape[0] if len(shape) > 1 else 1
        length = len(x) // rows
        moved = []
        for row in range(rows):
            entries = range(row * length, (row + 1) * length)
            rms = sqrt(sum(g[c] * g[c] for c in entries) / length)
            moved += [x[c] - lr * ((g[c] / rms if rms else 0) + weight_decay * x[c]) for c in entries]
        return moved

    return _by_tensor(shapes, update)


def orthogonalised(
    *,
    shapes: Sequence[Shape],
    steps: int = 5,
    weight_decay: Number = 0,
    sqrt: Callable[[Number], Number] = math.sqrt,
) -> Update:
    """Muon's step without momentum, of matrices, and of vectors over their root mean square."""

    def norm(numbers: Vector) -> Number:
        return sqrt(sum(number * number for number in numbers))

    def times(a: list[Vector], b: list[Vector]) -> list[Vector]:
        return [[sum(a_c * b_c for a_c, b_c in zip(row, column, strict=True)) for column in turned(b)] for row in a]

    def turned(a: list[Vector]) -> list[Vector]:
        return [list(column) for column in zip(*a, strict=True)]

    def update(x: Vector, g: Vector, shape: Shape, state: State, lr: Number) -> Vector:
        size = norm(g)
        if len(shape) < 2:
            o = [g_c * sqrt(len(g)) / size if size else 0 for g_c in g]
        else:
            rows, columns = shape
            m = [[g_c / size if size else 0 for g_c in g[i * columns : (i + 1) * columns]] for i in range(rows)]
            for _ in range(steps):
                gram = times(m, turned(m))
                cubic, quintic = times(gram, m), times(times(gram, gram), m)
                m = [
                    [3.4445 * a - 4.7750 * b + 2.0315 * c for a, b, c in zip(*each, strict=True)]
                    for each in zip(m, cubic, quintic, strict=True)
                ]
            o = [number * sqrt(max(shape)) for row in m for number in row]
        return [x_c - lr * (o_c + weight_decay * x_c) for x_c, o_c in zip(x, o, strict=True)]

    return _by_tensor(shapes, update)


def factored(
    *,
    shapes: Sequence[Shape],
    beta2_decay: Number = -0.8,
    eps: Number = 1e-30,
    weight_decay: Number = 0,
    sqrt: Callable[[Number], Number] = math.sqrt,
) -> Update:
    """Adafactor's update (arXiv 1804.04235, algorithms 4 and 5) of matrices, vectors and numbers."""

    def update(x: Vector, g: Vector, shape: Shape, state: State, lr: Number) -> Vector:
        k = state["k"] = state.get("k", 0) + 1
        b = 1 - k**beta2_decay
        squares = [g_c * g_c + eps for g_c in g]
        if len(shape) < 2:
            v = state["v"] = [b * v_c + (1 - b) * s_c for v_c, s_c in _pairs(state.get("v"), squares)]
        else:
            rows, columns = shape
            of_rows = [sum(squares[i * columns + j] for j in range(columns)) / columns for i in range(rows)]
            of_columns = [sum(squares[i * columns + j] for i in range(rows)) / rows for j in range(columns)]
            r = state["r"] = [b * r_i + (1 - b) * s_i for r_i, s_i in _pairs(state.get("r"), of_rows)]
            c = state["c"] = [b * c_j + (1 - b) * s_j for c_j, s_j in _pairs(state.get("c"), of_columns)]
            v = [r_i * c_j / (sum(r) / rows) for r_i in r for c_j in c]
        u = [g_c / sqrt(v_c) for g_c, v_c in zip(g, v, strict=True)]
        bound = max(1, sqrt(sum(u_c * u_c for u_c in u) / len(u)))
        return [x_c - lr * (u_c / bound + weight_decay * x_c) for x_c, u_c in zip(x, u, strict=True)]

    return _by_tensor(shapes, update)


def _by_tensor(shapes: Sequence[Shape], update: Callable[[Vector, Vector, Shape, State, Number], Vector]) -> Update:
    """The update of a block from that of its tensors, which follow each other."""

    def together(x: Vector, g: Vector, state: State, lr: Number) -> Vector:
        moved: Vector = []
        for place, shape in enumerate(shapes):
            its = slice(len(moved), len(moved) + math.prod(shape))
            moved += update(x[its], g[its], shape, state.setdefault(str(place), {}), lr)
        return moved

    return together


def _pairs(state: Vector | None, g: Vector) -> Iterable[tuple[Number, Number]]:
    """State and gradient side by side; fresh state is zero."""
    return zip(state or [0 * g_c for g_c in g], g, strict=True)

"""Names beside the points of a scatter plot, each where it covers neither a point nor another name."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes

from paper.figures import style

Box = tuple[float, float, float, float]
CHARACTER, LINE = 0.53, 1.2
"""Width of a character and height of a line in units of the font size."""


def label(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    spans: Sequence[tuple[float, float]],
    *,
    size: float = 7,
) -> None:
    """Write the names that are not empty; scales and limits must be set before.

    Where a name stands far off, a thin line leads to it.

    The box of a name is estimated from its length, because its true extent is known only when the figure is drawn.

    Args:
        spans: (low, high) of the vertical interval drawn through each point.
    """
    axes.autoscale_view()  # limits that are still automatic are settled lazily
    width, height = style.panel_size(axes)
    to_axes = axes.transScale + axes.transLimits

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = to_axes.transform((x, y))
        return float(across * width), float(up * height)

    places = [place(*point) for point in points]
    taken: list[Box] = [(x - 3, y - 3, x + 3, y + 3) for x, y in places]
    for (x, _), span in zip(points, spans, strict=True):
        (across, low), (_, high) = place(x, span[0]), place(x, span[1])
        taken.append((across - 1, max(low, 0.0), across + 1, min(high, height)))
    for i in sorted((i for i in range(len(points)) if names[i]), key=lambda i: -places[i][1]):
        x, y = places[i]
        best: tuple[float, float, float, str, Box] | None = None
        for dx, dy, side in _offsets():
            wide, high = CHARACTER * size * len(names[i]), LINE * size
            left = x + dx - {"left": 0.0, "center": wide / 2, "right": wide}[side]
            box = (left, y + dy - high / 2, left + wide, y + dy + high / 2)
            outside = max(0.0, -box[0]) + max(0.0, box[2] - width) + max(0.0, -box[1]) + max(0.0, box[3] - height)
            cost = sum(_overlap(box, other) for other in taken) + 20 * outside
            if best is None or cost < best[0] - 1e-9:
                best = (cost, dx, dy, side, box)
            if not cost:
                break
        assert best is not None
        _, dx, dy, side, box = best
        taken.append(box)
        far = abs(dx) + abs(dy) > 12
        axes.annotate(
            names[i],
            points[i],
            (dx, dy),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=size,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#888888", "shrinkB": 2} if far else None,
        )


def _offsets() -> Iterator[tuple[float, float, str]]:
    """From near to far: right, left, above, below, and between."""
    yield from ((6, 0, "left"), (-6, 0, "right"), (0, 8, "center"), (0, -8, "center"))
    for radius in (8, 14, 20, 27, 35, 44):
        for angle in (45, 135, 225, 315, 0, 180, 90, 270, 20, 160, 200, 340):
            dx, dy = radius * np.cos(np.radians(angle)), radius * np.sin(np.radians(angle))
            yield float(dx), float(dy), "left" if dx > 1 else "right" if dx < -1 else "center"


def _overlap(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high)

"""The loss of a run as a small SVG: every step faint, the running mean as a line."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 640, 170
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 26
MOST_POINTS = 320


def loss_curve(losses: Sequence[tuple[int, float]], *, total: int) -> str:
    """An `<svg>` of (step, loss) pairs on an axis from 0 to `total`; empty for under two pairs."""
    if len(losses) < 2:
        return ""
    points = _thin(losses)
    means = _thin(_running_mean(losses))
    low, high = _span([loss for _, loss in points])
    raw = _path(points, total=total, low=low, high=high)
    mean = _path(means, total=total, low=low, high=high)
    last_step, last = losses[-1]
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Loss, {last:.4f} at step {last_step}">'
        f"<title>Loss: {last:.4f} at step {last_step}</title>"
        f"{_grid(low, high, total)}"
        f'<path class="raw" d="{raw}"/><path class="mean" d="{mean}"/></svg>'
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The range shown: nearly all values and some air; never below zero, never empty."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[int(0.98 * (len(ordered) - 1))]
    air = max(0.15 * (high - low), 0.05 * high, 1e-6)
    return max(low - air, 0.0), high + air


def _running_mean(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Exponential mean over about a fifteenth of the run, without a bias at its start."""
    keep = 1 - 1 / max(len(losses) / 15, 1)
    total = weight = 0.0
    means = []
    for step, loss in losses:
        total, weight = keep * total + loss, keep * weight + 1
        means.append((step, total / weight))
    return means


def _thin(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MOST_POINTS` of them, the last one among them."""
    stride = -(-len(points) // MOST_POINTS)
    return [*points[:-1:stride], points[-1]]


def _path(points: Sequence[tuple[int, float]], *, total: int, low: float, high: float) -> str:
    return "M" + "L".join(f"{_x(s, total):.1f} {_y(v, low, high):.1f}" for s, v in points)


def _grid(low: float, high: float, total: int) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        y = _y(value, low, high)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for step, anchor in ((0, "start"), (total // 2, "middle"), (total, "end")):
        x = _x(step, total)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{step}</text>')
    return f'<g class="grid">{"".join(parts)}</g>'


def _x(step: int, total: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(step / max(total, 1), 1.0)


def _y(value: float, low: float, high: float) -> float:
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

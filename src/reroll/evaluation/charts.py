"""Curves and dots as inline SVG: no library, no script, no network, and colours from the page's own style.

In: plain numbers. Out: SVG text that inherits `currentColor` and the page's CSS variables, so that one chart
reads on a dark and on a light page and in print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 340, 150  # of a curve, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 20
MOST_POINTS = 400


def _number(value: float) -> str:
    """A tick label of at most about five characters."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value / 1000:.3g}k"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def line_chart(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """One curve over steps, raw values faint and their running mean strong; non-finite ones are left out."""
    pairs = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(s) and math.isfinite(v)]
    if len(pairs) < 2:
        return ""
    points = np.array(pairs)[np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_POINTS)).round().astype(int)]
    x, y = points.T
    low, high = (float(v) for v in np.quantile(y, [0.005, 0.995]))
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    across = LEFT + (x - x[0]) / max(x[-1] - x[0], 1e-12) * (WIDTH - LEFT - RIGHT)
    half = len(y) // 40
    smooth = [y[max(0, i - half) : i + half + 1].mean() for i in range(len(y))]

    def path(series: Sequence[float]) -> str:
        up = TOP + (1 - np.clip((np.asarray(series) - low) / (high - low), 0, 1)) * (HEIGHT - TOP - BOTTOM)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True))

    ticks = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{_number(value)}</text>'
        for value, at in (
            (high, TOP),
            ((low + high) / 2, (TOP + HEIGHT - BOTTOM) / 2),
            (low, HEIGHT - BOTTOM),
        )
    )
    return (
        f'<figure class="curve"><figcaption>{escape(title)} <b>{_number(smooth[-1])}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over steps">{ticks}'
        f'<polyline class="raw" points="{path(y)}"/><polyline class="smooth" points="{path(smooth)}"/>'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">{_number(float(x[0]))}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">step {_number(float(x[-1]))}</text>'
        "</svg></figure>"
    )


@dataclass(frozen=True)
class DotRow:
    """One row of `dot_chart`: a value and its interval, the null's interval if any, named marks for scale."""

    name: str
    value: float
    low: float
    high: float
    null: tuple[float, float] | None
    marks: dict[str, float]


def dot_chart(rows: Sequence[DotRow], axis: str) -> str:
    """Dots with whiskers on one logarithmic axis, null intervals as bands, marks as hollow named ticks."""
    if not rows:
        return ""
    width, left, row_height = 900, 110, 74
    everything = [
        v for r in rows for v in (r.value, r.low, r.high, *(r.null or ()), *r.marks.values()) if v > 0
    ]
    low, high = math.log10(min(everything)) - 0.08, math.log10(max(everything)) + 0.12

    def at(value: float) -> float:
        share = (math.log10(max(value, 10**low)) - low) / max(high - low, 1e-9)
        return left + share * (width - left - 20)

    bottom = len(rows) * row_height
    parts = []
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in (1, 3):
            tick = factor * 10.0**power
            if low <= math.log10(tick) <= high:
                parts.append(
                    f'<line class="grid" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="0" y2="{bottom}"/>'
                )
                parts.append(
                    f'<text x="{at(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{_number(tick)}</text>'
                )
    for index, row in enumerate(rows):
        parts.append(_dot_row(row, index * row_height + 26, at))
    parts.append(f'<text x="{width - 20}" y="{bottom + 34}" text-anchor="end">{escape(axis)}</text>')
    label = "Distances of the samples: " + ", ".join(f"{r.name} {_number(r.value)}" for r in rows)
    inner = "".join(parts)
    return (
        f'<svg class="dots" viewBox="0 0 {width} {bottom + 40}" role="img" '
        f'aria-label="{escape(label)}">{inner}</svg>'
    )


def _dot_row(row: DotRow, y: float, at: Callable[[float], float]) -> str:
    parts = [f'<text class="name" x="0" y="{y + 4}">{escape(row.name)}</text>']
    if row.null:
        start, end = at(row.null[0]), at(row.null[1])
        parts.append(
            f'<rect class="null" x="{start:.1f}" y="{y - 13}" width="{end - start:.1f}" height="26" rx="4"/>'
        )
    taken: list[float] = []
    for name, value in sorted(row.marks.items(), key=lambda mark: mark[1]):
        x = at(value)
        lower = bool(taken) and x - taken[-1] < 52  # two labels would overlap: the second goes a line down
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9}" y2="{y + 9}"/>')
        parts.append(_label("markname", x, y + (32 if lower else 21), escape(name)))
        taken.append(-math.inf if lower else x)
    parts.append(f'<line class="whisker" x1="{at(row.low):.1f}" x2="{at(row.high):.1f}" y1="{y}" y2="{y}"/>')
    parts.append(f'<circle class="dot" cx="{at(row.value):.1f}" cy="{y}" r="7"/>')
    parts.append(_label("value", at(row.value), y - 13, _number(row.value)))
    return "".join(parts)


def _label(kind: str, x: float, y: float, text: str) -> str:
    """Centred text of a class of the page's style; `text` must be escaped."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="middle">{text}</text>'

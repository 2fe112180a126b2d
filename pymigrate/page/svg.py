# SPDX-License-Identifier: Apache-2.0
"""Shapes, scales and numbers. Colours are classes: the style sheet knows light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pymigrate.page.words import markup

__all__ = [
    "Scale",
    "dot",
    "figure",
    "line",
    "linear",
    "logarithmic",
    "nice",
    "number",
    "path",
    "points",
    "rect",
    "text",
]


def text(x: float, y: float, words: str, kind: str = "label", anchor: str = "start") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} class="{kind}">{markup(words)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> str:
    title = f"<title>{markup(tip)}</title>" if tip else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
        f'class="{kind}">{title}</rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def path(points: Sequence[tuple[float, float]], kind: str) -> str:
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{steps}" class="{kind}"/>'


def dot(x: float, y: float, kind: str, tip: str = "") -> str:
    title = f"<title>{markup(tip)}</title>" if tip else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{kind}">{title}</circle>'


def points(places: Sequence[tuple[float, float]], kind: str) -> str:
    """Many dots as one element: strokes without length, with round ends."""
    steps = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    return f'<path d="{steps}" class="points {kind}"/>'


def figure(width: float, height: float, parts: Sequence[str], label: str, caption: str) -> str:
    """A picture with a name for readers who do not see it, and a sentence below."""
    return (
        f'<figure><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{markup(label)}">{"".join(parts)}</svg>'
        f"<figcaption>{markup(caption)}</figcaption></figure>"
    )


@dataclass(frozen=True)
class Scale:
    """From values to positions; logarithmic where low is above 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            value = math.log10(max(value, self.low))
            low, high = math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int = 4) -> list[float]:
        """Round values within the scale."""
        if self.log:
            first = math.ceil(math.log10(self.low) - 1e-9)
            last = math.floor(math.log10(self.high) + 1e-9)
            every = max(1, math.ceil((last - first) / 6))
            return [10.0**power for power in range(first, last + 1, every)]
        step = nice((self.high - self.low) / wanted)
        return [step * n for n in range(int(self.high / step + 1e-9) + 1)]


def nice(value: float) -> float:
    """The next 1, 2, 2.5 or 5 with noughts that is not less."""
    if value <= 0:
        return 1.0
    magnitude: float = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 2, 2.5, 5, 10):
        if factor * magnitude >= value * (1 - 1e-9):
            return factor * magnitude
    return 10 * magnitude


def linear(high: float, start: float, end: float, wanted: int = 4) -> Scale:
    """From 0 to the first tick that is not below high."""
    step = nice((high or 1) / wanted)
    return Scale(0, step * math.ceil((high or 1) / step - 1e-9), start, end)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """From low to the first power of ten that is not below high, and above low."""
    power = math.ceil(math.log10(max(high, low * 10)) - 1e-9)
    return Scale(low, 10.0**power, start, end, log=True)


def number(value: float) -> str:
    """Three digits that count, at least."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"

# SPDX-License-Identifier: Apache-2.0
"""The frame of a chart: where it is drawn, its axes and its grid."""

from __future__ import annotations

from dataclasses import dataclass

from pymigrate.page.svg import Scale, line, number, text

__all__ = ["Area", "axes", "curve_key"]


@dataclass(frozen=True)
class Area:
    """A figure, and within it the area that a chart has.

    :ivar right: where the area ends; likewise floor, below it.
    """

    width: float = 1000
    height: float = 300
    left: float = 70
    right: float = 970
    top: float = 34
    floor: float = 254


def axes(area: Area, x: Scale | None, y: Scale, below: str, beside: str) -> list[str]:
    """Both axes with their ticks and names, and lines across for y.

    :param x: None: who draws the chart marks the values.
    """
    parts = [
        text(8, 18, beside, "head"),
        text(area.right, area.floor + 34, below, "tick", "end"),
    ]
    for tick in y.ticks():
        parts.append(line(area.left, y(tick), area.right, y(tick), "grid"))
        parts.append(text(area.left - 8, y(tick) + 4, number(tick), "tick", "end"))
    if x is not None:
        for tick in x.ticks(6):
            parts.append(line(x(tick), area.floor, x(tick), area.floor + 4, "axis"))
            parts.append(text(x(tick), area.floor + 16, number(tick), "tick", "middle"))
    parts.append(line(area.left, area.floor, area.right, area.floor, "axis"))
    return parts


def curve_key(area: Area, row: int, kind: str, words: str) -> list[str]:
    """What a curve is called, on the right of an area that leaves room for that."""
    begin, y = area.right + 20, area.top + 16 + 20 * row
    return [line(begin, y, begin + 30, y, f"curve {kind}"), text(begin + 38, y + 4, words)]

# SPDX-License-Identifier: Apache-2.0
"""How long faults took: as a distribution, and over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pymigrate.page.chart import Area, axes
from pymigrate.page.facts import Json
from pymigrate.page.svg import (
    Scale,
    figure,
    line,
    linear,
    logarithmic,
    points,
    rect,
    text,
)
from pymigrate.page.words import count_words, micro_words

__all__ = ["distribution", "over_time"]

# Room for the names of the quantiles, one below the other.
_TALL = Area(height=340, top=74, floor=294)
_AREA = Area()
_BINS_PER_DECADE = 12
_QUANTILES = (("p50", "p50_us"), ("p90", "p90_us"), ("p99", "p99_us"), ("max", "max_us"))

Samples = Sequence[tuple[float, float]]


def distribution(report: Json) -> str:
    """How many faults took how long; nothing where there were none."""
    faults = report.get("faults")
    if not faults or not faults["samples"]:
        return ""
    bins = _bins(faults["samples"])
    x = _micros(faults, _TALL.left, _TALL.right)
    y = linear(max(bins.values()), _TALL.floor, _TALL.top, 4)
    parts = axes(_TALL, x, y, "microseconds, logarithmic", "faults")
    for index, count in sorted(bins.items()):
        begin, end = _edge(index), _edge(index + 1)
        words = f"{micro_words(begin)} to {micro_words(end)}: {count_words(count)}"
        left, width = x(begin), x(end) - x(begin) - 1
        parts.append(rect(left, y(count), width, _TALL.floor - y(count), "bar late", words))
    for row, (name, key) in enumerate(_QUANTILES):
        parts += _quantile(x, row, name, faults[key])
    caption = (
        "How long the guest waited for pages that were still at the source, from the fault until"
        f" the page was there: {_sampled(faults)}. The lines are quantiles of all faults."
    )
    return figure(_TALL.width, _TALL.height, parts, "Fault latency", caption)


def over_time(report: Json) -> str:
    """When the faults were; nothing where there were none."""
    faults = report.get("faults")
    if not faults or not faults["samples"]:
        return ""
    samples: Samples = faults["samples"]
    x = linear(max(at_ms for at_ms, _ in samples) / 1e3, _AREA.left, _AREA.right, 6)
    y = _micros(faults, _AREA.floor, _AREA.top)
    parts = axes(_AREA, x, y, "seconds since the guest could run", "microseconds, logarithmic")
    parts.append(points([(x(at_ms / 1e3), y(us)) for at_ms, us in samples], "late"))
    for name, key in _QUANTILES[:3:2]:
        parts.append(line(_AREA.left, y(faults[key]), _AREA.right, y(faults[key]), "mark"))
        parts.append(text(_AREA.right - 4, y(faults[key]) - 4, name, "head", "end"))
    caption = f"When the guest waited, and for how long: {_sampled(faults)}."
    return figure(_AREA.width, _AREA.height, parts, "Faults over time", caption)


def _micros(faults: Json, start: float, end: float) -> Scale:
    """A scale that every sample and quantile is on."""
    times = [us for _, us in faults["samples"]] + [faults[key] for _, key in _QUANTILES]
    least = max(0.1, min(us for us in times if us > 0)) if any(us > 0 for us in times) else 0.1
    return logarithmic(10.0 ** math.floor(math.log10(least)), max(times), start, end)


def _bins(samples: Samples) -> dict[int, int]:
    """Counts by bin, each a constant factor wide."""
    found: dict[int, int] = {}
    for _, us in samples:
        index = math.floor(math.log10(max(us, 0.1)) * _BINS_PER_DECADE)
        found[index] = found.get(index, 0) + 1
    return found


def _edge(index: int) -> float:
    return float(10.0 ** (index / _BINS_PER_DECADE))


def _quantile(x: Scale, row: int, name: str, us: float) -> list[str]:
    """A line with its name above the chart, each name on a row of its own."""
    at, y = x(us), 34 + 13 * row
    side = "end" if at > _TALL.right - 90 else "start"
    return [
        line(at, y - 8, at, _TALL.floor, "mark"),
        text(at + (-5 if side == "end" else 5), y, f"{name} {micro_words(us)}", "head", side),
    ]


def _sampled(faults: Json) -> str:
    shown, count = len(faults["samples"]), faults["count"]
    if shown >= count:
        return f"{count_words(count)} faults"
    return f"{count_words(shown)} of {count_words(count)} faults, evenly thinned out"

# SPDX-License-Identifier: Apache-2.0
"""Contenders side by side: a bar for the median, a whisker from minimum to maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.page.kinds import CLASSES
from pymigrate.page.svg import figure, line, linear, number, rect, text

_WIDTH = 1000
_LABELS = 192
_GAP = 26
_ROW = 27
_TOP = 30
_VALUE = 62  # room for a number behind the longest bar


@dataclass(frozen=True)
class Panel:
    """One figure of the summaries. :ivar factor: from the figure to the unit."""

    figure: str
    title: str
    unit: str
    factor: float = 1.0


_TIME = Panel("total_ms", "Time", "s", 1e-3)
_SPEED = Panel("bytes_per_s", "Throughput", "Gbit/s", 8e-9)
_DOWNTIME = Panel("downtime_ms", "Downtime", "ms")
_CPU = Panel("cpu_s_per_gib", "CPU time, both sides", "s for each GiB")
_WIRE = Panel("wire_bytes_per_memory", "Sent, by own count", "times the memory")
_LINK = Panel("link_bytes_per_memory", "Sent on the link", "times the memory")
_FAULT = Panel("fault_p50_us", "Fault, median", "us")
_WORST_FAULT = Panel("fault_p99_us", "Fault, 99 of 100", "us")


def panels(result: dict[str, Any]) -> list[Panel]:
    """What counts in a scenario."""
    task = result["task"]
    if result["name"].startswith("postcopy"):
        return [_TIME, _DOWNTIME, _FAULT, _WORST_FAULT]
    if result["name"].startswith(("bulk-random", "channels")):
        return [_SPEED, _DOWNTIME, _CPU]
    if task["link_bits_per_s"]:
        return [_TIME, _DOWNTIME, _LINK, _CPU]
    return [_TIME, _DOWNTIME, _WIRE, _CPU]


def bars(result: dict[str, Any], shown: Sequence[Panel], caption: str) -> str:
    contenders = result["contenders"]
    height = _TOP + _ROW * len(contenders) + 34
    width = (_WIDTH - _LABELS) / len(shown)
    parts = []
    for row, contender in enumerate(contenders):
        y = _TOP + row * _ROW + 17
        parts.append(text(_LABELS - 10, y, contender["name"], "name", "end"))
    for column, panel in enumerate(shown):
        left = _LABELS + column * width
        parts += _panel(result, panel, left, left + width - _GAP, height)
    return figure(_WIDTH, height, parts, result["title"], caption)


def _panel(
    result: dict[str, Any], panel: Panel, left: float, right: float, height: float
) -> list[str]:
    spreads = [_spread(result, contender["name"], panel) for contender in result["contenders"]]
    most = max([found["max"] for found in spreads if found] or [1.0])
    scale = linear(most, left, right - _VALUE, 3)
    bottom = height - 34
    parts = [text(left, 16, panel.title, "head")]
    for tick in scale.ticks(3):
        parts.append(line(scale(tick), _TOP - 4, scale(tick), bottom, "grid"))
        parts.append(text(scale(tick), bottom + 13, number(tick), "tick", "middle"))
    parts.append(text(left, bottom + 28, panel.unit, "tick"))
    limit_ms = result["task"]["downtime_limit_ms"]
    if panel is _DOWNTIME and limit_ms <= scale.high:
        parts.append(line(scale(limit_ms), _TOP - 4, scale(limit_ms), bottom, "mark"))
        parts.append(text(scale(limit_ms) + 4, 28, "limit", "tick"))
    for row, (contender, found) in enumerate(zip(result["contenders"], spreads, strict=True)):
        y = _TOP + row * _ROW
        kind = CLASSES.get(contender["kind"], "limit")
        runs = result["runs"][contender["name"]]
        if found:
            parts += _bar(scale, left, y, found, kind, panel, contender["name"], len(runs))
        elif panel in (_TIME, _SPEED) and runs:
            parts.append(text(left + 4, y + 17, _why_not(runs), "none"))
    return parts


def _bar(
    scale: Any,
    left: float,
    y: float,
    found: dict[str, float],
    kind: str,
    panel: Panel,
    name: str,
    runs: int,
) -> list[str]:
    low, middle, high = (found[key] for key in ("min", "median", "max"))
    spread = f"{number(low)} to {number(high)}"
    words = f"{name}: median {number(middle)} {panel.unit}, {spread}, {found['n']} runs"
    shown = number(middle) + (f" ({found['n']:.0f}/{runs})" if found["n"] < runs else "")
    return [
        rect(left, y + 5, scale(middle) - left, 16, f"bar {kind}", words),
        line(scale(low), y + 13, scale(high), y + 13, "whisker"),
        line(scale(low), y + 9, scale(low), y + 17, "whisker"),
        line(scale(high), y + 9, scale(high), y + 17, "whisker"),
        text(scale(high) + 7, y + 17, shown, f"value {kind}"),
    ]


def _why_not(runs: Sequence[dict[str, Any]]) -> str:
    outcomes = {run["outcome"] for run in runs}
    return "not converged" if outcomes == {"not-converged"} else ", ".join(sorted(outcomes))


def _spread(result: dict[str, Any], name: str, panel: Panel) -> dict[str, float] | None:
    found = result["summary"].get(name, {}).get(panel.figure)
    if found is None:
        return None
    scaled = {key: found[key] * panel.factor for key in ("min", "median", "max")}
    return {**scaled, "n": found["n"]}

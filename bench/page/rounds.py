# SPDX-License-Identifier: Apache-2.0
"""What is left over time, and what each round found dirty and sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.page.kinds import CLASSES
from bench.stats import median_run
from pymigrate.page.chart import Area, axes, curve_key
from pymigrate.page.svg import (
    Scale,
    dot,
    figure,
    linear,
    logarithmic,
    number,
    path,
    rect,
    text,
)

_AREA = Area()
# With room for the names of the curves.
_NAMED = Area(right=_AREA.width - 230)
_PAGE_MIB = 4096 / (1 << 20)
_LEAST_MIB = 0.01
_MIB = 1 << 20
_DASHES = ("", "d1", "d2", "d3", "d4")


def left_over_time(result: dict[str, Any]) -> str:
    """All contenders that tell what is left, each in its median run."""
    curves = []
    for contender in result["contenders"]:
        run = median_run(result["runs"][contender["name"]])
        points = _left(run, contender["kind"]) if run else []
        if len(points) > 1:
            curves.append((contender, points))
    if not curves:
        return ""
    x = linear(
        max(point[0] for _, points in curves for point in points), _AREA.left, _NAMED.right, 6
    )
    y = _log_scale(max(point[1] for _, points in curves for point in points))
    parts = axes(_NAMED, x, y, "seconds since the start", "MiB left to send (logarithmic)")
    seen = 0
    for number_, (contender, points) in enumerate(curves):
        kind = CLASSES.get(contender["kind"], "limit")
        dash = _DASHES[seen % len(_DASHES)] if kind != "ours" else _DASHES[number_ % 2]
        seen += kind != "ours"
        parts.append(path([(x(a), y(b)) for a, b in points], f"curve {kind} {dash}"))
        parts += curve_key(_NAMED, number_, f"{kind} {dash}", contender["name"])
    caption = (
        "What is left to send over time, in the median run of each. pymigrate tells it at the end"
        " of each round, QEMU whenever asked; a floor means that the guest writes as fast as pages"
        " are sent."
    )
    return figure(_AREA.width, _AREA.height, parts, f"{result['title']}: left over time", caption)


def _left(run: dict[str, Any], kind: str) -> list[tuple[float, float]]:
    """(seconds, MiB) of a run."""
    if kind != "Ours":
        return [(r["elapsed_ms"] / 1000, r["pending_bytes"] / _MIB) for r in run["rounds"]]
    points: list[tuple[float, float]] = []
    elapsed_ms = 0.0
    for one in run["rounds"]:
        if not points:
            points.append((0.0, one["dirty_pages"] * _PAGE_MIB))
        elapsed_ms += one["duration_ms"]
        points.append((elapsed_ms / 1000, one["pending_pages"] * _PAGE_MIB))
    return points


def dirty_and_sent(result: dict[str, Any], name: str) -> str:
    """Each round of one contender, in its median run."""
    run = median_run(result["runs"].get(name, []))
    if not run or not run["rounds"]:
        return ""
    rounds = run["rounds"]
    dirty = [one["dirty_pages"] * _PAGE_MIB for one in rounds]
    sent = [one["wire_bytes"] / _MIB for one in rounds]
    y = _log_scale(max(dirty + sent))
    below = "round; the last one is sent while the guest is paused"
    parts = axes(_AREA, None, y, below, "MiB, logarithmic")
    step = (_AREA.right - _AREA.left) / len(rounds)
    width = min(30.0, step * 0.36)
    floor = _AREA.floor
    for n, one in enumerate(rounds):
        middle = _AREA.left + (n + 0.5) * step
        for value, left, kind, what in (
            (dirty[n], middle - width - 1, "bar dirty", "dirty"),
            (sent[n], middle + 1, "bar ours", "sent"),
        ):
            tip = f"round {n + 1}: {number(value)} MiB {what}, {number(one['duration_ms'])} ms"
            parts.append(rect(left, y(value), width, max(floor - y(value), 1), kind, tip))
            if step > 90:
                parts.append(text(left + width / 2, y(value) - 5, number(value), "tick", "middle"))
        if len(rounds) <= 30 or n % 5 == 0:
            parts.append(text(middle, floor + 14, str(n + 1), "tick", "middle"))
    parts += [
        rect(_AREA.width - 300, 8, 12, 12, "bar dirty"),
        text(_AREA.width - 282, 18, "dirty when it began"),
        rect(_AREA.width - 140, 8, 12, 12, "bar ours"),
        text(_AREA.width - 122, 18, "bytes sent"),
    ]
    caption = (
        f"Rounds of {name} in its median run: what was dirty when a round began, and the bytes that"
        " it took to send it. The distance between the two is what was saved."
    )
    return figure(_AREA.width, _AREA.height, parts, f"{result['title']}: dirty and sent", caption)


def growth(
    results: Sequence[dict[str, Any]], label: str, values: Sequence[float], caption: str
) -> str:
    """Time over a parameter, one line for each contender, with every median."""
    series: dict[str, list[tuple[float, float, str]]] = {}
    for value, result in zip(values, results, strict=True):
        for contender in result["contenders"]:
            found = result["summary"].get(contender["name"], {}).get("total_ms")
            if found:
                point = (value, found["median"] / 1000, contender["kind"])
                series.setdefault(contender["name"], []).append(point)
    if not series:
        return ""
    x = Scale(0, max(values), _AREA.left, _NAMED.right)
    y = linear(max(p[1] for points in series.values() for p in points), _AREA.floor, _AREA.top)
    parts = axes(_NAMED, None, y, label, "seconds, median")
    for value in values:
        parts.append(text(x(value), _AREA.floor + 14, number(value), "tick", "middle"))
    for n, (name, points) in enumerate(series.items()):
        kind = CLASSES.get(points[0][2], "limit")
        parts.append(path([(x(a), y(b)) for a, b, _ in points], f"curve {kind}"))
        for a, b, _ in points:
            tip = f"{name}: {number(b)} s at {number(a)}"
            parts.append(dot(x(a), y(b), f"dot {kind}", tip))
        parts += curve_key(_NAMED, n, kind, name)
    return figure(_AREA.width, _AREA.height, parts, label, caption)


def _log_scale(most_mib: float) -> Scale:
    return logarithmic(_LEAST_MIB, max(most_mib, 10.0), _AREA.floor, _AREA.top)

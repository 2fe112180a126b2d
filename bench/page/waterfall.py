# SPDX-License-Identifier: Apache-2.0
"""Where the downtime went: its parts one behind the other, and the prediction."""

from __future__ import annotations

from typing import Any

from bench.page.svg import figure, line, linear, number, rect, text
from bench.stats import median_run

_WIDTH = 1000
_LABELS = 178
_ROW = 26
_PARTS = (
    ("quiesce_ms", "pause the vCPUs"),
    ("final_round_ms", "send what is left"),
    ("state_ms", "move the state"),
    ("commit_ms", "commit"),
    ("resume_ms", "resume"),
)


def waterfall(result: dict[str, Any], name: str) -> str:
    """Of one contender of ours, in its median run."""
    run = median_run(result["runs"].get(name, []))
    downtime = run["extra"].get("downtime") if run else None
    if not run or not downtime:
        return ""
    predicted = run["predicted_downtime_ms"] or 0.0
    height = 34 + _ROW * (len(_PARTS) + 1) + 40
    bottom = height - 40
    scale = linear(max(downtime["total_ms"], predicted), _LABELS, _WIDTH - 90, 6)
    parts = []
    for tick in scale.ticks(6):
        parts.append(line(scale(tick), 28, scale(tick), bottom, "grid"))
        parts.append(text(scale(tick), bottom + 14, number(tick), "tick", "middle"))
    parts.append(
        text(_LABELS, bottom + 32, "milliseconds since the guest was told to pause", "tick")
    )
    at = 0.0
    for row, (key, words) in enumerate(_PARTS):
        parts += _step(scale, row, words, at, at + downtime[key], "bar ours")
        at += downtime[key]
    parts += _step(scale, len(_PARTS), "all of it", 0.0, downtime["total_ms"], "bar total")
    parts.append(line(scale(predicted), 24, scale(predicted), bottom, "mark"))
    side = "end" if scale(predicted) > _WIDTH / 2 else "start"
    shift = -5 if side == "end" else 5
    words = f"predicted {number(predicted)} ms"
    parts.append(text(scale(predicted) + shift, 18, words, "head", side))
    caption = (
        f"The downtime of {name} in its median run, part by part; the line is what the decision to"
        " switch over was based on."
    )
    return figure(_WIDTH, height, parts, f"{result['title']}: downtime", caption)


def _step(scale: Any, row: int, words: str, begin: float, end: float, kind: str) -> list[str]:
    y = 32 + row * _ROW
    value = f"{number(end - begin)} ms"
    return [
        text(_LABELS - 10, y + 15, words, "name", "end"),
        rect(scale(begin), y + 3, scale(end) - scale(begin), 16, kind, f"{words}: {value}"),
        text(scale(end) + 6, y + 15, value, "value"),
    ]

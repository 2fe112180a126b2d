# SPDX-License-Identifier: Apache-2.0
"""Where the downtime went: its parts one behind the other, and the prediction."""

from __future__ import annotations

from pymigrate.page.facts import Json
from pymigrate.page.svg import Scale, figure, line, linear, number, rect, text

__all__ = ["waterfall"]

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


def waterfall(downtime: Json, predicted_ms: float | None, label: str, caption: str) -> str:
    """The member ``downtime`` of a report.

    :param predicted_ms: marked where it is known.
    """
    height = 34 + _ROW * (len(_PARTS) + 1) + 40
    bottom = height - 40
    scale = linear(max(downtime["total_ms"], predicted_ms or 0.0), _LABELS, _WIDTH - 90, 6)
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
    if predicted_ms is not None:
        parts += _prediction(scale, predicted_ms, bottom)
    return figure(_WIDTH, height, parts, label, caption)


def _prediction(scale: Scale, predicted_ms: float, bottom: float) -> list[str]:
    at = scale(predicted_ms)
    side = "end" if at > _WIDTH / 2 else "start"
    words = f"predicted {number(predicted_ms)} ms"
    return [
        line(at, 24, at, bottom, "mark"),
        text(at + (-5 if side == "end" else 5), 18, words, "head", side),
    ]


def _step(scale: Scale, row: int, words: str, begin: float, end: float, kind: str) -> list[str]:
    y = 32 + row * _ROW
    value = f"{number(end - begin)} ms"
    return [
        text(_LABELS - 10, y + 15, words, "name", "end"),
        rect(scale(begin), y + 3, scale(end) - scale(begin), 16, kind, f"{words}: {value}"),
        text(scale(end) + 6, y + 15, value, "value"),
    ]

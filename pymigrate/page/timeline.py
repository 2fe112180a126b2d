# SPDX-License-Identifier: Apache-2.0
"""Rounds over time: what each sent, and how much was left meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pymigrate.page.chart import Area, axes
from pymigrate.page.facts import Json
from pymigrate.page.rounds import names_pages, round_name
from pymigrate.page.spans import Span, blackout, left_over_time, spans
from pymigrate.page.svg import Scale, figure, line, linear, logarithmic, path, rect, text
from pymigrate.page.words import PAGE_BYTES, count_words, size_words, time_words

__all__ = ["timeline"]

Point = tuple[float, float]

_AREA = Area()
_MIB = 1 << 20
_LEAST_MIB = 0.01
_KEY_AT = 400
# What falls evenly is a curve on a logarithmic axis: of so many pieces.
_PIECES = 40
_CAPTION = (
    "Every bar is a round, as long as it took and as high as the bytes that it sent; the line is"
    " what the destination did not have yet."
)


def timeline(report: Json) -> str:
    """Nothing where there was no round."""
    rounds = spans(report)
    if not rounds:
        return ""
    left = [(ms / 1e3, pages * PAGE_BYTES / _MIB) for ms, pages in left_over_time(report)]
    end_s = max(span.end_ms for span in rounds) / 1e3
    most = max([mib for _, mib in left] + [span.done["wire_bytes"] / _MIB for span in rounds])
    x = linear(end_s, _AREA.left, _AREA.right, 6)
    y = logarithmic(_LEAST_MIB, max(most, 1.0), _AREA.floor, _AREA.top)
    parts = axes(_AREA, x, y, "seconds since it began", "MiB, logarithmic")
    caption = _CAPTION
    if dark := blackout(report):
        parts.append(_band(x, *dark))
        caption += " In the red band the guest ran nowhere."
    parts += [_bar(span, x, y) for span in rounds]
    parts.append(path([(x(s), y(mib)) for s, mib in _smooth(left)], "curve dirty"))
    parts += _key(late=any(span.done["kind"] == "late" for span in rounds))
    return figure(_AREA.width, _AREA.height, parts, "Rounds over time", caption)


def _smooth(points: Sequence[Point]) -> list[Point]:
    """The same with points in between."""
    found = list(points[:1])
    for (s, mib), (next_s, next_mib) in pairwise(points):
        for piece in range(1, _PIECES + 1):
            # Closer together towards the end, where the curve is steep.
            share = 1 - (1 - piece / _PIECES) ** 3
            found.append((s + share * (next_s - s), mib + share * (next_mib - mib)))
    return found


def _band(x: Scale, begin_ms: float, end_ms: float) -> str:
    begin, end = x(begin_ms / 1e3), x(end_ms / 1e3)
    words = f"downtime {time_words(end_ms - begin_ms)}"
    return rect(begin, _AREA.top, max(end - begin, 2), _AREA.floor - _AREA.top, "band", words)


def _bar(span: Span, x: Scale, y: Scale) -> str:
    done = span.done
    begin, width = x(span.begin_ms / 1e3), x(span.end_ms / 1e3) - x(span.begin_ms / 1e3)
    top = y(done["wire_bytes"] / _MIB)
    kind = {"sealed": "total", "late": "late"}.get(done["kind"], "ours")
    # A gap between rounds, where they are wide enough to have one.
    width = width - 1 if width > 3 else max(width, 1)
    return rect(begin, top, width, max(_AREA.floor - top, 1), f"bar {kind} faint", _tip(done))


def _tip(done: Json) -> str:
    words = f"round {done['epoch']} ({round_name(done)}): {count_words(done['sent_pages'])} pages"
    if names_pages(done):
        words += f", {count_words(done['outstanding_pages'])} named"
    return f"{words}, {size_words(done['wire_bytes'])} in {time_words(done['duration_ms'])}"


def _key(late: bool) -> list[str]:
    names = [("ours", "sent"), ("total", "sent while paused")]
    names += [("late", "sent after the switchover")] if late else []
    parts, at = [], float(_KEY_AT)
    for kind, words in names:
        parts += [rect(at, 8, 12, 12, f"bar {kind}"), text(at + 18, 18, words, "tick")]
        at += 50 + 6 * len(words)
    parts += [line(at, 14, at + 24, 14, "curve dirty"), text(at + 30, 18, "left", "tick")]
    return parts

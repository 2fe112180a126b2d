# SPDX-License-Identifier: Apache-2.0
"""When each round of a migration was, and how many pages were left meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from pymigrate.page.facts import Json
from pymigrate.page.rounds import names_pages

__all__ = ["Span", "blackout", "left_over_time", "spans"]


@dataclass(frozen=True)
class Span:
    """A round on the clock of the migration, in ms since it began."""

    done: Json
    begin_ms: float
    end_ms: float


def blackout(report: Json) -> tuple[float, float] | None:
    """In which the guest ran nowhere; the last sealed round is reported at its end."""
    downtime = report["downtime"]
    sealed = [done for done in report["rounds"] if done["kind"] == "sealed"]
    if not downtime or not sealed:
        return None
    end_ms = sealed[-1].get("elapsed_ms") or report["total_ms"]
    return max(0.0, end_ms - downtime["total_ms"]), end_ms


def spans(report: Json) -> list[Span]:
    """Of all rounds, none before the end of the one that it follows.

    A sealed round is somewhere in the blackout, and is given all of it.
    """
    found: list[Span] = []
    dark, at_ms = blackout(report), 0.0
    for done in report["rounds"]:
        # Where the clock was not kept, rounds follow each other.
        end_ms = done.get("elapsed_ms") or at_ms + done["duration_ms"]
        begin_ms = end_ms - done["duration_ms"]
        if done["kind"] == "sealed" and dark is not None:
            begin_ms, end_ms = dark
        begin_ms = max(at_ms, begin_ms)
        end_ms = max(begin_ms, end_ms)
        found.append(Span(done, begin_ms, end_ms))
        # Several sealed rounds share the blackout.
        at_ms = begin_ms if done["kind"] == "sealed" else end_ms
    return found


def left_over_time(report: Json) -> list[tuple[float, int]]:
    """(ms since it began, pages that the destination did not have), in order."""
    rounds, late = spans(report), report.get("late")
    if not rounds:
        return []
    points = [(rounds[0].begin_ms, int(rounds[0].done["dirty_pages"]))]
    for span in rounds:
        # The others say nothing of what is left.
        if span.done["kind"] == "fuzzy" and not names_pages(span.done):
            points.append((span.end_ms, int(span.done["pending_pages"])))
    dark = blackout(report)
    if late and dark is not None:
        points += _late_points(report, rounds, dark[1])
    elif dark is not None:
        points.append((dark[1], 0))
    return points


def _late_points(report: Json, rounds: list[Span], begin_ms: float) -> list[tuple[float, int]]:
    """What was left behind, and how it became less with every late epoch."""
    left = int(report["late"]["outstanding_pages"])
    points = [(begin_ms, left)]
    late = [span for span in rounds if span.done["kind"] == "late"]
    for span in late:
        points.append((span.begin_ms, left))
        left = max(0, left - span.done["sent_pages"])
        points.append((span.end_ms, left))
    if late:
        points[-1] = (points[-1][0], int(report["missing_pages"]))
    return points

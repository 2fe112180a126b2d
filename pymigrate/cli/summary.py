# SPDX-License-Identifier: Apache-2.0
"""Several runs of the same demo, as one report."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymigrate.cli.console import stdout, table, titled
from pymigrate.cli.units import time_words

__all__ = ["show_summary", "summarize"]

Json = Mapping[str, Any]

_FIGURES: dict[str, Callable[[Json], float | None]] = {
    "downtime_ms": lambda run: run["downtime"]["total_ms"] if run["downtime"] else None,
    "predicted_downtime_ms": lambda run: run["predicted_downtime_ms"],
    "prediction_error_ms": lambda run: _prediction_error_ms(run),
    "guest_gap_ms": lambda run: run["guest_gap_ms"],
    "total_ms": lambda run: run["total_ms"],
    "last_page_ms": lambda run: _last_page_ms(run),
    "fault_p99_ms": lambda run: run["faults"]["p99_us"] / 1e3 if run.get("faults") else None,
}
_NAMES = {
    "downtime_ms": "downtime",
    "predicted_downtime_ms": "predicted downtime",
    "prediction_error_ms": "prediction error",
    "guest_gap_ms": "guest gap",
    "total_ms": "total time",
    "last_page_ms": "last page, after the switchover",
    "fault_p99_ms": "99 of 100 faults, at most",
}


def summarize(reports: Sequence[Json]) -> dict[str, Any]:
    """A report with ``runs`` and ``summary``; the rest is what they share.

    The outcome is that of the first run that was not completed.
    """
    first = reports[0]
    worst = next((run for run in reports if run["outcome"] != "completed"), first)
    return {
        "schema": first["schema"],
        "outcome": worst["outcome"],
        "host": first["host"],
        "config": first["config"],
        "runs": [dict(run) for run in reports],
        "summary": {name: _spread(reports, figure) for name, figure in _FIGURES.items()},
    }


def show_summary(document: Json) -> None:
    """Print the spread of the figures."""
    out = stdout()
    done = sum(run["outcome"] == "completed" for run in document["runs"])
    rows = table()
    rows.add_column("")
    for name in ("min", "median", "max"):
        rows.add_column(name, justify="right")
    for name, words in _NAMES.items():
        spread = document["summary"][name]
        if spread:
            rows.add_row(words, *(time_words(spread[key]) for key in ("min", "median", "max")))
    out.print()
    out.print(titled(f"{done} of {len(document['runs'])} runs completed", rows))


def _prediction_error_ms(run: Json) -> float | None:
    if not run["downtime"] or run["predicted_downtime_ms"] is None:
        return None
    return abs(float(run["downtime"]["total_ms"]) - float(run["predicted_downtime_ms"]))


def _last_page_ms(run: Json) -> float | None:
    late = run.get("late")
    return late["duration_ms"] if late and run["outcome"] == "completed" else None


def _spread(
    reports: Sequence[Json], figure: Callable[[Json], float | None]
) -> dict[str, float] | None:
    values = [value for run in reports if (value := figure(run)) is not None]
    if not values:
        return None
    return {
        "min": min(values),
        "median": float(statistics.median(values)),
        "max": max(values),
    }

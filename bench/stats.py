# SPDX-License-Identifier: Apache-2.0
"""Minimum, median and maximum, and ratios within pairs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """:ivar n: how many values there were."""

    min: float
    median: float
    max: float
    n: int


def spread(values: Sequence[float | None]) -> Spread | None:
    """Of the values that are known; None where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(min(known), statistics.median(known), max(known), len(known))


def summarize(runs: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """The spread of every figure that is a number."""
    names = {
        name
        for run in runs
        for name, value in run.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    found = {name: spread([run.get(name) for run in runs]) for name in sorted(names)}
    return {name: asdict(value) for name, value in found.items() if value is not None}


def paired_ratios(
    over: Sequence[Figures], under: Sequence[Figures], figure: str
) -> list[float | None]:
    """Of the runs that were made one after the other; None where one has no such figure."""
    ratios: list[float | None] = []
    for a, b in zip(over, under, strict=True):
        x, y = a.get(figure), b.get(figure)
        ratios.append(None if x is None or not y else x / y)
    return ratios


def best_of(
    candidates: Mapping[str, Sequence[Figures]], figure: str, *, most: bool = False
) -> str | None:
    """The name whose median of a figure is the least (or the most).

    Who did not complete every run comes behind all who did.
    """
    ranked = []
    for name, runs in candidates.items():
        found = spread([run.get(figure) for run in runs])
        if found is not None:
            median = -found.median if most else found.median
            ranked.append((len(runs) - found.n, median, name))
    return min(ranked)[2] if ranked else None


def median_run(runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The completed run whose time is in the middle, or the first of all."""
    done = sorted((run for run in runs if run["total_ms"]), key=lambda run: run["total_ms"])
    return done[len(done) // 2] if done else (runs[0] if runs else None)

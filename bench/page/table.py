# SPDX-License-Identifier: Apache-2.0
"""What the guest did, and whether the downtime was what had been predicted."""

from __future__ import annotations

from html import escape
from typing import Any

from pymigrate.page.svg import number

_HEADS = (
    "Pages/s that the guest wrote",
    "Predicted downtime",
    "Downtime",
    "By its own report",
    "Worst miss of the prediction",
)


def guest_table(result: dict[str, Any]) -> str:
    """Medians by contender; the miss is the largest of all runs."""
    rows = "".join(
        _row(contender["name"], result["runs"][contender["name"]], result["summary"])
        for contender in result["contenders"]
        if contender["kind"] in ("Ours", "Qemu")
    )
    head = "".join(f'<th class="n">{word}</th>' for word in _HEADS)
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def _row(name: str, runs: list[dict[str, Any]], summary: dict[str, Any]) -> str:
    found = summary.get(name, {})
    cells = [_median(found, "dirty_pages_per_s", "")]
    cells += [
        _median(found, figure, " ms")
        for figure in ("predicted_downtime_ms", "downtime_ms", "own_downtime_ms")
    ]
    cells.append(_miss(runs))
    return (
        f"<tr><td>{escape(name)}</td>" + "".join(f'<td class="n">{c}</td>' for c in cells) + "</tr>"
    )


def _median(found: dict[str, Any], figure: str, unit: str) -> str:
    return f"{number(found[figure]['median'])}{unit}" if figure in found else "-"


def _miss(runs: list[dict[str, Any]]) -> str:
    misses = [
        (abs(run["downtime_ms"] - run["predicted_downtime_ms"]), run)
        for run in runs
        if run["downtime_ms"] is not None and run["predicted_downtime_ms"] is not None
    ]
    if not misses:
        return "-"
    miss_ms, run = max(misses, key=lambda one: one[0])
    return f"{number(miss_ms)} ms ({miss_ms / max(run['predicted_downtime_ms'], 1e-3):.0%})"

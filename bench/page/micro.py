# SPDX-License-Identifier: Apache-2.0
"""The micro-benchmarks as tables, one for each test."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Any


def micro_table(micro: dict[str, Any]) -> str:
    """From pytest-benchmark's JSON."""
    rows = sorted(micro["benchmarks"], key=lambda one: one["fullname"].split("[")[0])
    parts = [
        "<h2>Micro-benchmarks</h2><p>Single steps of the engine, by pytest-benchmark. Throughput is"
        " given where a test says how many bytes a step handles.</p>"
    ]
    for name, group in groupby(rows, key=lambda one: one["name"].split("[")[0]):
        parts.append(f"<article><h3>{escape(name.removeprefix('test_').replace('_', ' '))}</h3>")
        parts.append(_table(list(group)))
        parts.append("</article>")
    return "".join(parts)


def _table(rows: list[dict[str, Any]]) -> str:
    head = "".join(
        f'<th class="n">{word}</th>' for word in ("Minimum", "Median", "Maximum", "Rounds", "GB/s")
    )
    body = "".join(_row(row) for row in rows)
    return f'<div class="scroll"><table><tr><th>Case</th>{head}</tr>{body}</table></div>'


def _row(row: dict[str, Any]) -> str:
    stats = row["stats"]
    case = row["name"].partition("[")[2].rstrip("]") or "-"
    size = row.get("extra_info", {}).get("bytes")
    speed = f"{size / stats['median'] / 1e9:.2f}" if size else ""
    cells = [_time(stats[key]) for key in ("min", "median", "max")]
    cells += [str(stats["rounds"]), speed]
    return (
        f"<tr><td>{escape(case)}</td>" + "".join(f'<td class="n">{c}</td>' for c in cells) + "</tr>"
    )


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"

# SPDX-License-Identifier: Apache-2.0
"""The downtime in its parts, beside what was predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymigrate.cli.console import table, titled
from pymigrate.page.facts import DOWNTIME_PARTS, Json
from pymigrate.page.words import time_words

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["downtime_table"]

_BAR_CELLS = 20


def downtime_table(report: Json) -> Group | None:
    """Nothing where the guest was not handed over."""
    downtime = report["downtime"]
    if not downtime:
        return None
    total = downtime["total_ms"]
    rows = table(header=False)
    rows.add_column(no_wrap=True)
    rows.add_column(justify="right", no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    for name, meaning in DOWNTIME_PARTS:
        part = downtime[f"{name}_ms"]
        rows.add_row(
            name.replace("_", " "), time_words(part), _bar(part, total), f"[dim]{meaning}[/]"
        )
    rows.add_row("[bold]total[/]", f"[bold]{time_words(total)}[/]", "", _prediction(report, total))
    return titled("Downtime", rows)


def _bar(part: float, total: float) -> str:
    cells = part / total * _BAR_CELLS if total > 0 else 0
    return f"[cyan]{'█' * round(cells) or '▏'}[/]"


def _prediction(report: Json, total: float) -> str:
    predicted = report["predicted_downtime_ms"]
    if predicted is None:
        return ""
    off = total - predicted
    share = f" ({100 * off / total:+.0f}%)" if total > 0 else ""
    return f"[dim]predicted {time_words(predicted)}, {off:+.2f} ms off{share}[/]"

# SPDX-License-Identifier: Apache-2.0
"""Pages that followed the guest, and what waiting for them cost it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymigrate.cli.console import table, titled
from pymigrate.cli.render.lists import named_list
from pymigrate.page.facts import Json
from pymigrate.page.late import LATENCY_HEADS, fault_rows, late_rows, latency_cells

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["late_tables"]


def late_tables(report: Json) -> list[Group | Table]:
    """Nothing for a guest that moved with all of its pages."""
    found: list[Group | Table] = []
    if followed := late_rows(report):
        found.append(titled("Pages that followed the guest", named_list(followed)))
    cells, rows = latency_cells(report), fault_rows(report)
    if cells:
        latencies = table()
        latencies.add_column(LATENCY_HEADS[0])
        for name in LATENCY_HEADS[1:]:
            latencies.add_column(name, justify="right", no_wrap=True)
        for row in cells:
            latencies.add_row(*row)
        found.append(titled("Faults on pages that were missing", latencies))
    if rows:
        found.append(named_list(rows))
    return found

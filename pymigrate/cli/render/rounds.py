# SPDX-License-Identifier: Apache-2.0
"""The rounds, and how their pages travelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymigrate.cli.console import table, titled
from pymigrate.cli.verbose import encoding_table
from pymigrate.page.facts import Json
from pymigrate.page.rounds import ROUND_HEADS, round_cells

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["page_table", "round_table"]

_PLAIN_ENCODINGS = ("raw", "zero", "hole")


def round_table(report: Json) -> Group | None:
    """One line for each; rounds that name pages show how many."""
    if not report["rounds"]:
        return None
    rows = table()
    for name in ROUND_HEADS:
        rows.add_column(name, justify="right", no_wrap=True)
    for done in report["rounds"]:
        rows.add_row(*round_cells(done))
    return titled("Rounds", rows)


def page_table(report: Json) -> Group | None:
    """How pages travelled, where some did otherwise than as they are."""
    total = report.get("total")
    if not total:
        return None
    if not any(n for k, n in total["pages_by_encoding"].items() if k not in _PLAIN_ENCODINGS):
        return None
    rows = encoding_table(total)
    return titled("Pages", rows) if rows is not None else None

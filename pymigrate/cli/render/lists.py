# SPDX-License-Identifier: Apache-2.0
"""What is said name by name: the guest at the top, the proof at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pymigrate.cli.console import plain, table, titled
from pymigrate.page.facts import Json, Row, guest_rows
from pymigrate.page.proof import checks

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["guest_list", "named_list", "proof_list"]


def named_list(rows: Sequence[Row]) -> Table:
    """Names, and what is to be said of each."""
    listed = table(header=False)
    listed.add_column(style="bold", no_wrap=True)
    listed.add_column(overflow="fold")
    for name, words in rows:
        listed.add_row(name, plain(words))
    return listed


def guest_list(report: Json) -> Table | None:
    """What was migrated, where, and how its writes were found."""
    rows = guest_rows(report)
    return named_list(rows) if rows else None


def proof_list(report: Json) -> Group | None:
    """What shows that it arrived whole."""
    found = checks(report)
    if not found:
        return None
    rows = table(header=False)
    rows.add_column(width=6)
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    for check in found:
        mark = "[green]ok[/]" if check.ok else "[bold red]FAILED[/]"
        rows.add_row(mark, check.name, plain(check.words))
    return titled("Proof", rows)

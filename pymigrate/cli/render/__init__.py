# SPDX-License-Identifier: Apache-2.0
"""A report as tables for a terminal, 80 columns wide.

Works on the JSON form, so that a report of another process, or of last week,
is shown in the same way.
"""

from __future__ import annotations

from rich.console import Console

from pymigrate.cli.console import plain, stdout
from pymigrate.cli.render.downtime import downtime_table
from pymigrate.cli.render.late import late_tables
from pymigrate.cli.render.lists import guest_list, proof_list
from pymigrate.cli.render.restore import restore_list
from pymigrate.cli.render.rounds import page_table, round_table
from pymigrate.page.facts import Json, closing, ending, reason

__all__ = ["show_report"]

_TONES = {"good": "bold green", "warn": "bold yellow", "bad": "bold red"}


def show_report(report: Json, out: Console | None = None, hint: str = "") -> None:
    """Print one report.

    :param hint: what is to be done now, below everything else.
    """
    out = out or stdout()
    parts = [
        guest_list(report),
        round_table(report),
        page_table(report),
        downtime_table(report),
        restore_list(report),
        *late_tables(report),
        proof_list(report),
    ]
    for part in parts:
        if part is not None:
            out.print(part)
            out.print()
    tone, words = ending(report)
    lines = [f"[{_TONES[tone]}]{words}[/]: {plain(closing(report))}"]
    lines += [plain(text) for text in (reason(report), hint) if text]
    out.print("\n".join(lines))

# SPDX-License-Identifier: Apache-2.0
"""The view for a terminal: finished rounds above, the round under way below.

The bar is that of a round and stops at 99 % until the round is over; a
migration is never shown as complete before its report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pymigrate.cli.console import stderr
from pymigrate.cli.units import size_words
from pymigrate.cli.views import STATE_WORDS, Live, round_words

__all__ = ["LiveView"]


class LiveView:
    """Redraws one line; everything else scrolls above it."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[bytes]:>10}"),
            TimeElapsedColumn(),
            console=stderr(),
            transient=True,
            refresh_per_second=10,
        )
        self._task: TaskID | None = None

    def note(self, text: str) -> None:
        self._progress.console.print(f"[dim]{text}[/]", markup=True)

    def state(self, state: str) -> None:
        words = STATE_WORDS.get(state)
        if words and self._task is not None:
            self._progress.update(self._task, description=words)
        elif words:
            self.note(words)

    def round(self, round: Mapping[str, Any]) -> None:
        self._progress.console.print(round_words(round))

    def live(self, live: Live) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("", total=100, bytes="")
        percent = 100 * live.blocks_done / live.blocks_total if live.blocks_total else 0
        self._progress.update(
            self._task,
            description=f"round {live.round}",
            completed=min(percent, 99),
            bytes=size_words(live.wire_bytes),
        )

    def close(self) -> None:
        if self._task is not None:
            self._progress.stop()
            self._task = None

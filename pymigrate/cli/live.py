# SPDX-License-Identifier: Apache-2.0
"""The view for a terminal: finished rounds above, the round under way below.

The bar is that of a round and stops at 99 % until the round is over; a
migration is never shown as complete before its report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pymigrate.cli.console import stderr
from pymigrate.cli.units import size_words
from pymigrate.cli.views import ENDS, STATE_WORDS, Live, round_words

__all__ = ["LiveView"]


class LiveView:
    """Redraws one line; everything else scrolls above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or stderr()
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._over = False

    def note(self, text: str) -> None:
        self._console.print(f"[dim]{escape(text)}[/]")

    def state(self, state: str) -> None:
        self._over = state in ENDS
        if self._over:
            self.close()
        elif words := STATE_WORDS.get(state):
            if self._progress is None:
                self.note(words)
            else:
                self._progress.update(self._task, description=words)

    def round(self, round: Mapping[str, Any]) -> None:
        self._console.print(round_words(round))

    def live(self, live: Live) -> None:
        # The last figures may arrive after the news that it is over.
        if self._over:
            return
        percent = 100 * live.blocks_done / live.blocks_total if live.blocks_total else 0
        self._bar().update(
            self._task,
            description=f"round {live.round}",
            completed=min(percent, 99),
            bytes=size_words(live.wire_bytes),
        )

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _bar(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[bytes]:>10} sent,"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("", total=100, bytes="")
            self._progress.start()
        return self._progress

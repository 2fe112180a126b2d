# SPDX-License-Identifier: Apache-2.0
"""The view for a terminal: finished rounds above, the round under way below.

The bar is that of a round and stops at 99 % until the round is over; a
migration is never shown as complete before its report says so. Once the guest
has moved ahead of its pages, the bar is theirs; while nobody can be reached,
the time beside it is that of the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pymigrate.cli.console import stderr
from pymigrate.cli.units import count_words, size_words
from pymigrate.cli.views import ENDS, STATE_WORDS, LateLive, Live, round_words

__all__ = ["LiveView"]

# States with a bar of their own, and a clock that starts with them.
_BARS = ("post-copy", "recovering")


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
        words = STATE_WORDS.get(state)
        self._over = state in ENDS
        if self._over:
            self.close()
        if words is None:
            return
        if self._progress is None or state in _BARS:
            self.note(words)
        if state in _BARS:
            self._begin(state)
        elif self._progress is not None:
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
            figure=f"{size_words(live.wire_bytes)} sent",
        )

    def late(self, late: LateLive) -> None:
        if self._over:
            return
        done = late.of_pages - late.left_pages
        self._bar().update(
            self._task,
            completed=min(100 * done / late.of_pages if late.of_pages else 0, 99),
            figure=f"{count_words(late.left_pages)} pages left",
        )

    def _begin(self, state: str) -> None:
        """A clock from now on; what was left is so while nobody is reached."""
        bar = self._bar()
        if state == "recovering":
            done = int(bar.tasks[0].completed)
            bar.reset(self._task, description=state, completed=done)
        else:
            bar.reset(self._task, description=state, figure="")

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
                TextColumn("{task.fields[figure]:>15},"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("", total=100, figure="")
            self._progress.start()
        return self._progress

# SPDX-License-Identifier: Apache-2.0
"""What ``--verbose`` adds to a view: how the pages of each round travelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pymigrate.cli.console import plain, table
from pymigrate.cli.units import count_words, size_words
from pymigrate.page.rounds import names_pages

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pymigrate.cli.views import LateLive, Live, View

__all__ = ["VerboseView", "encoding_table", "round_choices"]

Json = Mapping[str, Any]


class VerboseView:
    """Passes everything on, and explains rounds.

    :param console: that of the view, so that both share the screen.
    """

    def __init__(self, view: View, console: Console) -> None:
        self._view, self._console = view, console

    def note(self, text: str) -> None:
        self._view.note(text)

    def state(self, state: str) -> None:
        self._view.state(state)

    def live(self, live: Live) -> None:
        self._view.live(live)

    def late(self, late: LateLive) -> None:
        self._view.late(late)

    def round(self, round: Json) -> None:
        self._view.round(round)
        rows = encoding_table(round)
        if rows is not None:
            self._console.print(rows)
        for line in round_choices(round):
            self._console.print(f"[dim]{plain(line)}[/]")

    def close(self) -> None:
        self._view.close()


def encoding_table(counted: Json) -> Table | None:
    """Pages and bytes by encoding of a round, or of all; None without pages."""
    pages, sizes = counted["pages_by_encoding"], counted["bytes_by_encoding"]
    used = [name for name in pages if pages[name]]
    if not used:
        return None
    rows = table()
    rows.add_column("encoding")
    for name in ("pages", "share", "bytes", "per page"):
        rows.add_column(name, justify="right")
    total = sum(pages.values())
    for name in used:
        rows.add_row(
            name,
            count_words(pages[name]),
            f"{pages[name] / total:.3f}",
            size_words(sizes[name]),
            size_words(sizes[name] / pages[name]),
        )
    return rows


def round_choices(round: Json) -> list[str]:
    """A line for each choice, and for what was out of the ordinary."""
    if names_pages(round):
        count = count_words(round["outstanding_pages"])
        return [f"post-copy: {round['reason']}", f"{count} pages are to follow the guest"]
    lines = [f"{name}: {words}" for name, words in round["choices"].items()]
    if round["reason"] and round.get("kind") != "late":
        lines.append(f"{round['decision']}: {round['reason']}")
    if round.get("held_pages"):
        lines.append(f"{count_words(round['held_pages'])} hot pages wait for the last round")
    if round.get("throttle_percent"):
        lines.append(f"the guest was throttled by {round['throttle_percent']}%")
    if round["stale_pages"]:
        lines.append(f"the destination asked for {count_words(round['stale_pages'])} pages again")
    return lines

# SPDX-License-Identifier: Apache-2.0
"""What is in a stream, as tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pymigrate.cli.console import plain, stdout, table, titled
from pymigrate.cli.units import count_words, size_words

if TYPE_CHECKING:
    from pymigrate.inspector import Summary

__all__ = ["show_stream"]


def show_stream(summary: Summary) -> None:
    """Print what was decoded."""
    out = stdout()
    for part in (_stream_lines, _regions, _epochs, _encodings, _state):
        if text := part(summary):
            out.print(text)
            out.print()
    out.print(_closing_words(summary))


def _stream_lines(summary: Summary) -> Any:
    info = summary.stream
    assert info is not None
    lines = table(header=False)
    lines.add_column(style="bold")
    lines.add_column(overflow="fold")
    lines.add_row("version", "{}.{}".format(*info.version))
    lines.add_row("session", info.session_id)
    lines.add_row("channel", f"{info.channel_index} of {info.channel_count}")
    lines.add_row("frames", f"{count_words(summary.frames)} in {count_words(summary.bytes)} bytes")
    if summary.config is not None:
        lines.add_row("config", plain(_shorten(json.dumps(summary.config))))
    return lines


def _shorten(text: str, limit: int = 240) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _regions(summary: Summary) -> Any:
    assert summary.stream is not None
    rows = table()
    rows.add_column("name")
    for name in ("gpa", "size", "backing page"):
        rows.add_column(name, justify="right")
    for region in summary.stream.regions:
        rows.add_row(
            plain(region.name),
            f"{region.gpa:#x}",
            size_words(region.size_bytes),
            size_words(region.backing_page_bytes),
        )
    return titled("Regions", rows)


def _epochs(summary: Summary) -> Any:
    if not summary.epochs:
        return None
    suspects = any(epoch.suspect_pages for epoch in summary.epochs)
    stale = any(epoch.stale_pages for epoch in summary.epochs)
    rows = table()
    rows.add_column("#", justify="right")
    rows.add_column("kind")
    doubts = [*(["suspect"] if suspects else []), *(["stale"] if stale else [])]
    for name in ("pages", "zero", "raw", *doubts, "bytes"):
        rows.add_column(name, justify="right")
    rows.add_column("digest")
    for epoch in summary.epochs:
        rows.add_row(
            str(epoch.number),
            epoch.kind.name.lower(),
            count_words(epoch.pages),
            count_words(epoch.zero_pages),
            count_words(epoch.raw_pages),
            *([count_words(epoch.suspect_pages)] if suspects else []),
            *([count_words(epoch.stale_pages)] if stale else []),
            size_words(epoch.wire_bytes),
            f"{epoch.digest:016x}",
        )
    return titled("Epochs", rows)


def _encodings(summary: Summary) -> Any:
    """How pages travelled, where some did otherwise than as they are."""
    if not any(epoch.pages - epoch.zero_pages - epoch.raw_pages for epoch in summary.epochs):
        return None
    rows = table()
    rows.add_column("epoch", justify="right")
    rows.add_column("encoding")
    for name in ("pages", "bytes", "per page"):
        rows.add_column(name, justify="right")
    for epoch in summary.epochs:
        number = str(epoch.number)
        for name, pages in epoch.pages_by_encoding.items():
            if not pages:
                continue
            sizes = epoch.bytes_by_encoding[name]
            words = (count_words(pages), size_words(sizes), size_words(sizes / pages))
            rows.add_row(number, name, *words)
            number = ""
    return titled("Encodings", rows)


def _state(summary: Summary) -> Any:
    if not summary.state:
        return None
    rows = table()
    rows.add_column("name")
    rows.add_column("version", justify="right")
    rows.add_column("size", justify="right")
    rows.add_column("")
    for item in summary.state.items:
        rows.add_row(
            item.name,
            str(item.version),
            count_words(item.size_bytes),
            "skippable" if item.skippable else "",
        )
    return titled(f"State items, from the list at byte {summary.state.offset}", rows)


def _closing_words(summary: Summary) -> str:
    if not summary.complete:
        return "[red]Not a complete stream.[/]"
    if summary.loadable:
        return "[green]Valid.[/] It ends with a sealed epoch: a machine can be loaded from it."
    if summary.rests_on_others:
        return (
            "[green]Valid[/] as one channel of several: some of its pages rest on what came on "
            "another, so no machine can be loaded from it."
        )
    return "[green]Valid[/], but it does not end with a sealed epoch: no machine can be loaded."

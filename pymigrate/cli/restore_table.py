# SPDX-License-Identifier: Apache-2.0
"""How the memory of a guest came while it ran, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymigrate.cli.console import plain, table, titled
from pymigrate.cli.units import count_words, time_words

__all__ = ["restore_table"]

Json = Mapping[str, Any]


def restore_table(report: Json) -> Any:
    """The part of a report; None where all memory was there before."""
    restore = report.get("restore")
    if not restore:
        return None
    rows = table(header=False)
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("running", f"after {time_words(restore['running_ms'])}, {_index_words(restore)}")
    rows.add_row("touched", _fault_words(report.get("faults")))
    rows.add_row("prefetched", _prefetch_words(restore))
    rows.add_row("the rest", f"{count_words(restore['filled_pages'])} pages, {_end_words(restore)}")
    if restore["recorded"]:
        rows.add_row("recorded", plain(restore["recorded"]))
    return titled("Memory from the file", rows)


def _index_words(restore: Json) -> str:
    return (
        f"of which {time_words(restore['index_ms'])} to find "
        f"{count_words(restore['stored_pages'])} pages in the file"
    )


def _fault_words(faults: Json | None) -> str:
    if not faults or not faults["count"]:
        return "no page before it was here"
    return (
        f"{count_words(faults['count'])} times before the page was here; "
        f"{time_words(faults['p50_us'] / 1000)} each, the slowest "
        f"{time_words(faults['max_us'] / 1000)}"
    )


def _prefetch_words(restore: Json) -> str:
    words = f"{count_words(restore['prefetched_pages'])} pages"
    if restore["prefetch_ms"]:
        words += f" in {time_words(restore['prefetch_ms'])}"
    return f"{words}; working set: {plain(restore['working_set'])}"


def _end_words(restore: Json) -> str:
    if restore["missing_pages"]:
        return f"{count_words(restore['missing_pages'])} are missing"
    return f"complete after {time_words(restore['complete_ms'])}"

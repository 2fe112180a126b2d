# SPDX-License-Identifier: Apache-2.0
"""Lazy restore in words: how the memory of a guest came out of its file."""

from __future__ import annotations

from pymigrate.page.facts import Json, Row
from pymigrate.page.words import page_words, time_words

__all__ = ["restore_rows"]


def restore_rows(report: Json) -> list[Row]:
    """Nothing for a guest whose memory was there before it ran."""
    restore = report.get("restore")
    if not restore:
        return []
    index = f"{time_words(restore['index_ms'])} of it to find {page_words(restore['stored_pages'])}"
    rows = [
        ("running", f"after {time_words(restore['running_ms'])}, {index} in the file"),
        ("by fault", f"{page_words(restore['answered_pages'])}, with those that came along"),
        ("prefetched", _prefetched(restore)),
        ("the rest", f"{page_words(restore['filled_pages'])}, {_end(restore)}"),
    ]
    if restore["recorded"]:
        rows.append(("recorded", str(restore["recorded"])))
    return rows


def _prefetched(restore: Json) -> str:
    words = page_words(restore["prefetched_pages"])
    if restore["prefetch_ms"]:
        words += f" in {time_words(restore['prefetch_ms'])}"
    return f"{words}; working set: {restore['working_set']}"


def _end(restore: Json) -> str:
    if restore["missing_pages"]:
        return f"{page_words(restore['missing_pages'])} are missing"
    return f"complete {time_words(restore['complete_ms'])} after the guest could run"

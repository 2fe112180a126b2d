# SPDX-License-Identifier: Apache-2.0
"""A round in words, as a row of a table."""

from __future__ import annotations

from pymigrate.page.facts import Json
from pymigrate.page.words import count_words, rate_words, size_words, time_words

__all__ = ["ROUND_HEADS", "names_pages", "round_cells", "round_name"]

# Of round_cells(). The downtime is that of switching over after the round.
ROUND_HEADS = ("#", "pages", "zero", "sent", "time", "rate", "dirtied", "downtime")


def names_pages(done: Json) -> bool:
    """Did it name pages that follow the guest, instead of sending them?"""
    leaving = done.get("decision") == "post-copy" and done.get("kind") != "late"
    return leaving and not done["sent_pages"]


def round_name(done: Json) -> str:
    """Its number, or what it was for."""
    if done["kind"] == "sealed":
        return "last"
    if done["kind"] == "late":
        return "late"
    return "named" if names_pages(done) else str(done["epoch"])


def round_cells(done: Json) -> list[str]:
    """Pages are those that were sent or named."""
    named = names_pages(done)
    # Only after these was something decided.
    decided = done["kind"] == "fuzzy" and not named
    return [
        round_name(done),
        count_words(done["outstanding_pages"] if named else done["sent_pages"]),
        "" if named else count_words(done["zero_pages"]),
        size_words(done["wire_bytes"]),
        time_words(done["duration_ms"]),
        rate_words(done["bandwidth_bytes_per_s"] * 8),
        count_words(done["pending_pages"]) if decided else "",
        time_words(done["predicted_downtime_ms"]) if decided else "",
    ]

# SPDX-License-Identifier: Apache-2.0
"""What was chosen in a round, and why, in the words of a report."""

from __future__ import annotations

from typing import Any

from pymigrate._engine import ENCODING_NAMES, RoundStats
from pymigrate.tuning import Choice, Compression, Tuning

__all__ = ["choices", "encoding_facts"]

_ASKED = "as asked for"


def encoding_facts(stats: RoundStats, tuning: Tuning) -> dict[str, Any]:
    """The members of a RoundReport that say how its pages travelled.

    :param tuning: in effect at the end of the round.
    """
    pages = {name: stats.pages_by_encoding[number] for number, name in ENCODING_NAMES.items()}
    sizes = {name: stats.bytes_by_encoding[number] for number, name in ENCODING_NAMES.items()}
    return {
        "pages_by_encoding": {**pages, "zero": stats.zero_pages, "hole": stats.hole_pages},
        "bytes_by_encoding": {**sizes, "zero": 0, "hole": 0},
        "compression": stats.compression.value,
        "compression_level": stats.level,
        "active_channels": stats.active_channels,
        "zero_copy": stats.zero_copy,
        "link_bytes_per_s": stats.link_bytes_per_s,
        "encode_ms": stats.encode_ns / 1e6,
        "blocked_ms": stats.blocked_ns / 1e6,
        "delta_memory_bytes": stats.delta_memory_bytes,
        "choices": choices(stats, tuning),
    }


def choices(stats: RoundStats, tuning: Tuning) -> dict[str, str]:
    """Each choice, with its reason, as half a sentence."""
    found = {
        "compression": _compression(stats, tuning),
        "delta": _delta(stats, tuning),
        "zero copy": _zero_copy(stats, tuning),
        "channels": _channels(stats, tuning),
    }
    if tuning.bandwidth_limit_bytes_per_s is not None:
        limit = tuning.bandwidth_limit_bytes_per_s / (1 << 20)
        found["bandwidth limit"] = f"{limit:,.1f} MiB/s, {_ASKED}"
    return found


def _compression(stats: RoundStats, tuning: Tuning) -> str:
    words = stats.compression.value
    if stats.level:
        words += f" at level {stats.level}"
    if tuning.compression is not Compression.AUTO:
        return f"{words}, {_ASKED}"
    return f"{words}, by the cost model: {_where_time_went(stats)}"


def _where_time_went(stats: RoundStats) -> str:
    encode_ms, blocked_ms = stats.encode_ns / 1e6, stats.blocked_ns / 1e6
    words = f"workers encoded for {encode_ms:,.1f} ms and waited {blocked_ms:,.1f} ms to send"
    if not stats.link_bytes_per_s:
        return f"{words}; the link was never the limit"
    return f"{words}; the link carries {stats.link_bytes_per_s / 1e6:,.0f} MB/s"


def _delta(stats: RoundStats, tuning: Tuning) -> str:
    if tuning.delta is Choice.OFF:
        return f"off, {_ASKED}"
    asked = _ASKED if tuning.delta is Choice.ON else "by measurement"
    if not stats.delta_memory_bytes:
        return f"off, {asked}: no fingerprints are held"
    return f"on, {asked}: fingerprints take {stats.delta_memory_bytes / (1 << 20):,.1f} MiB"


def _zero_copy(stats: RoundStats, tuning: Tuning) -> str:
    words = "on" if stats.zero_copy else "off"
    if tuning.zero_copy is Choice.AUTO:
        return f"{words}, by the engine"
    if (tuning.zero_copy is Choice.ON) != stats.zero_copy:
        return f"{words}, although it was asked for: this host or channel cannot"
    return f"{words}, {_ASKED}"


def _channels(stats: RoundStats, tuning: Tuning) -> str:
    why = "by measurement" if tuning.active_channels is None else _ASKED
    return f"{stats.active_channels} in use, {why}"

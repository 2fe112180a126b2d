# SPDX-License-Identifier: Apache-2.0
"""What the engine chose in a round, in the words of a report."""

from __future__ import annotations

from typing import Any

from pymigrate._engine import ENCODING_NAMES, RoundStats

__all__ = ["encoding_facts"]


def encoding_facts(stats: RoundStats) -> dict[str, Any]:
    """The members of a RoundReport that say how its pages travelled."""
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
    }

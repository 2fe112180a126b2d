# SPDX-License-Identifier: Apache-2.0
"""A tuning as ``struct pmig_tuning``, and the names of encodings."""

from __future__ import annotations

from typing import Any

from pymigrate._engine.native import ffi, lib
from pymigrate.tuning import Choice, Compression, Tuning

__all__ = ["COMPRESSIONS", "ENCODINGS_ALL", "ENCODING_NAMES", "new_tuning"]

# Bit e: encoding e; all that the engine reads and writes.
ENCODINGS_ALL: int = lib.PMIG_ENCODINGS_ALL

ENCODING_NAMES: dict[int, str] = {
    lib.PMIG_ENCODING_RAW: "raw",
    lib.PMIG_ENCODING_UNCHANGED: "unchanged",
    lib.PMIG_ENCODING_DELTA: "delta",
    lib.PMIG_ENCODING_COPY: "copy",
    lib.PMIG_ENCODING_LZ4: "lz4",
    lib.PMIG_ENCODING_ZSTD: "zstd",
}

COMPRESSIONS: dict[int, Compression] = {
    lib.PMIG_COMPRESSION_AUTO: Compression.AUTO,
    lib.PMIG_COMPRESSION_NONE: Compression.NONE,
    lib.PMIG_COMPRESSION_LZ4: Compression.LZ4,
    lib.PMIG_COMPRESSION_ZSTD: Compression.ZSTD,
}
_NUMBERS = {compression: number for number, compression in COMPRESSIONS.items()}
_CHOICES = {
    Choice.AUTO: lib.PMIG_CHOICE_AUTO,
    Choice.OFF: lib.PMIG_CHOICE_OFF,
    Choice.ON: lib.PMIG_CHOICE_ON,
}


def new_tuning(tuning: Tuning) -> Any:
    """A ``struct pmig_tuning *`` with the same meaning."""
    out = ffi.new("struct pmig_tuning *")
    out.struct_size = ffi.sizeof("struct pmig_tuning")
    out.compression = _NUMBERS[tuning.compression]
    out.level = tuning.compression_level
    out.delta = _CHOICES[tuning.delta]
    out.zero_copy = _CHOICES[tuning.zero_copy]
    out.active_channels = tuning.active_channels or 0
    out.bandwidth_limit_bytes_per_s = tuning.bandwidth_limit_bytes_per_s or 0
    return out

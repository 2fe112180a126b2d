# SPDX-License-Identifier: Apache-2.0
"""Options that decide how pages travel; faults must find no difference.

Where nothing is forced, the engine chooses by what it measures, and how many
bytes a migration takes is anybody's guess. A fault at a certain byte forces.
"""

from __future__ import annotations

from typing import Any

from pymigrate.tuning import Choice, Compression

Tuning = dict[str, Any]

AUTO: Tuning = {}
RAW: Tuning = {"delta": Choice.OFF, "compression": Compression.NONE}
LZ4: Tuning = {"delta": Choice.OFF, "compression": Compression.LZ4}
ZSTD: Tuning = {"delta": Choice.OFF, "compression": Compression.ZSTD}
DELTA: Tuning = {"delta": Choice.ON, "compression": Compression.NONE}
LZ4_DELTA: Tuning = {"delta": Choice.ON, "compression": Compression.LZ4}
ZSTD_DELTA: Tuning = {"delta": Choice.ON, "compression": Compression.ZSTD}
# Fingerprints for one block in four of 16 MiB.
LITTLE_MEMORY: Tuning = {**LZ4_DELTA, "delta_memory_bytes": 256 << 10}

# SPDX-License-Identifier: Apache-2.0
"""What may be changed while a migration runs.

Everything is chosen by measurement unless told otherwise; what the engine
chose is in the report of every round. No native code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

__all__ = ["MAX_CHANNELS", "Choice", "Compression", "Tuning"]

MAX_CHANNELS = 64

# Levels that a compression takes, lowest and highest.
LEVELS = {"auto": (0, 0), "none": (0, 0), "lz4": (0, 64), "zstd": (-50, 19)}


class Compression(str, Enum):
    """How pages are compressed."""

    AUTO = "auto"  # by the cost model: what brings pages across soonest
    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"


class Choice(str, Enum):
    """For what may be used, must be used, or is decided by measurement."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True)
class Tuning:
    """How the engine makes pages small and sends them.

    :ivar compression: of pages that are sent whole.
    :ivar compression_level: zstd: -50 to 19; lz4: its acceleration, 0 to 64;
        0 is the default of either, and with zstd's the model's choice.
    :ivar delta: send only the lines that changed of a page sent before.
    :ivar zero_copy: send raw pages without copying them into the kernel.
    :ivar active_channels: connections in use, 1 to 64; None: as many as help.
    :ivar bandwidth_limit_bytes_per_s: of all connections together; None: none.
    :raises ValueError: a value is out of its range.
    """

    compression: Compression = Compression.AUTO
    compression_level: int = 0
    delta: Choice = Choice.AUTO
    zero_copy: Choice = Choice.AUTO
    active_channels: int | None = None
    bandwidth_limit_bytes_per_s: int | None = None

    def __post_init__(self) -> None:
        low, high = LEVELS[self.compression.value]
        if not low <= self.compression_level <= high:
            takes = f"takes {low} to {high}" if high else "takes no level"
            raise ValueError(
                f"compression_level is {self.compression_level}, {self.compression.value} {takes}"
            )
        channels = self.active_channels
        if channels is not None and not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"active_channels is {channels}, expected 1 to {MAX_CHANNELS}")
        limit = self.bandwidth_limit_bytes_per_s
        if limit is not None and not 1 <= limit < 1 << 63:
            raise ValueError(f"bandwidth_limit_bytes_per_s is {limit}, expected more than 0")

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {k: v.value if isinstance(v, Enum) else v for k, v in asdict(self).items()}

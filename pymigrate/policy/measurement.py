# SPDX-License-Identifier: Apache-2.0
"""What the decision is made from: rounds, and the cost of a switchover."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BULK_BYTES",
    "BULK_PAGES",
    "PAGE_BYTES",
    "RAW_PAGE_BYTES",
    "TYPICAL_PAGES",
    "RoundMeasurement",
    "SwitchoverCosts",
]

PAGE_BYTES = 4096
# A raw page: its bytes, its entry of 16, and its share of a frame's header.
RAW_PAGE_BYTES = PAGE_BYTES + 20
# A round this large measures the link; a smaller one measures latency.
BULK_BYTES = 4 << 20
# Likewise for the time that a page takes, whatever its encoding.
BULK_PAGES = 1024
# Fewer pages than a block say little about the pages to come.
TYPICAL_PAGES = 64


@dataclass(frozen=True)
class RoundMeasurement:
    """One finished round of pre-copy.

    :ivar dirty_pages: pending when it began.
    :ivar sent_pages: described on the wire.
    :ivar wire_bytes: written to all channels.
    :ivar duration_ms: from its harvest to the destination's acknowledgement.
    :ivar harvest_ms: the part of it that gathered dirty bits.
    :ivar pending_pages: dirtied meanwhile: what the next round would send.
    :ivar window_ms: from its harvest until pending_pages was counted.
    :ivar elapsed_ms: since the migration began, when that was.
    :ivar disturbed: a rehearsal ran beside it, so its duration says nothing
        about how long a small round takes.
    :ivar zero_pages: of sent_pages, those that were zero.
    :ivar link_bytes_per_s: what the engine measured while the link was what
        it waited for; 0: it never waited.
    :ivar throttle_percent: how much of its time the guest was kept from
        running during the round.
    :ivar hot_pages: of pending_pages, those that the last two rounds sent,
        the first round not counted: written in three windows in a row.
    :ivar held_pages: pending when it began, hot, and left to the last round.
    """

    dirty_pages: int
    sent_pages: int
    wire_bytes: int
    duration_ms: float
    harvest_ms: float
    pending_pages: int
    window_ms: float
    elapsed_ms: float
    disturbed: bool = False
    zero_pages: int = 0
    link_bytes_per_s: float = 0.0
    throttle_percent: int = 0
    hot_pages: int = 0
    held_pages: int = 0


@dataclass(frozen=True)
class SwitchoverCosts:
    """What a switchover costs besides pages; from the rehearsal.

    :ivar quiesce_ms: until no vCPU runs.
    :ivar capture_ms: save_state() at the source.
    :ivar state_bytes: what travels with the last pages.
    :ivar load_ms: load_state() at the destination.
    :ivar resume_ms: until the vCPUs run again.
    :ivar round_trip_ms: one message and its answer.
    """

    quiesce_ms: float = 0.0
    capture_ms: float = 0.0
    state_bytes: int = 0
    load_ms: float = 0.0
    resume_ms: float = 0.0
    round_trip_ms: float = 0.0

    @property
    def fixed_ms(self) -> float:
        """Everything that depends on neither link nor pages, and COMMIT's trip."""
        return (
            self.quiesce_ms + self.capture_ms + self.load_ms + self.resume_ms + self.round_trip_ms
        )

# SPDX-License-Identifier: Apache-2.0
"""How long a round takes, and how many bytes it is.

Pages that are sent again are not like those of the first round: they travel
as deltas, compressed, or raw, and either the link or the processors are what
a round waits for. Encoding and sending overlap and the slower one wins, so
the time that a page took in a round of the same kind holds all of it, and
predicts the next such round; the raw size of a page and the speed of the
link do not. Where no such round was large enough, sizes and link have to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymigrate.policy.measurement import (
    BULK_BYTES,
    BULK_PAGES,
    RAW_PAGE_BYTES,
    TYPICAL_PAGES,
    RoundMeasurement,
    SwitchoverCosts,
)

__all__ = ["Speed", "measure_speed"]

# A round that sent so long was not about round trips, however few its pages.
BULK_MS = 20.0


@dataclass(frozen=True)
class Speed:
    """Of rounds that send pages again.

    :ivar page_ms: for each page, whatever it waits for.
    :ivar bytes_per_page: on the wire.
    :ivar bandwidth_bytes_per_s: of the link; 0: not known.
    :ivar harvest_ms: to gather dirty bits.
    :ivar overhead_ms: what a round takes besides harvest and pages.
    """

    page_ms: float
    bytes_per_page: float
    bandwidth_bytes_per_s: float
    harvest_ms: float
    overhead_ms: float

    def round_ms(self, pages: float) -> float:
        """Duration of a round."""
        return self.harvest_ms + self.overhead_ms + self.sending_ms(pages)

    def sending_ms(self, pages: float) -> float:
        return pages * self.page_ms

    def wire_ms(self, size_bytes: float) -> float:
        """Time to get so many bytes across, nothing else being sent."""
        if self.bandwidth_bytes_per_s <= 0:
            return 0.0
        return 1000.0 * size_bytes / self.bandwidth_bytes_per_s


def measure_speed(history: Sequence[RoundMeasurement], costs: SwitchoverCosts) -> Speed:
    """What a non-empty history says about the rounds to come."""
    again = history[1:]
    bandwidth = _bandwidth(history)
    bytes_per_page = _bytes_per_page(history)
    overhead_ms = _overhead_ms(again, bandwidth, costs)
    return Speed(
        page_ms=_page_ms(history, bandwidth, bytes_per_page, overhead_ms),
        bytes_per_page=bytes_per_page,
        bandwidth_bytes_per_s=bandwidth,
        harvest_ms=history[-1].harvest_ms,
        overhead_ms=overhead_ms,
    )


def _sending_ms(measured: RoundMeasurement, overhead_ms: float = 0.0) -> float:
    return max(0.0, measured.duration_ms - measured.harvest_ms - overhead_ms)


def _bandwidth(history: Sequence[RoundMeasurement]) -> float:
    """Of the link: as the engine measured it, else bytes over time.

    A round that waited for the processors, or is tiny, says too little of
    it: what the engine measured counts first, then the fastest of the last
    bulk rounds, then the fastest of all.
    """
    for measured in reversed(history):
        if measured.link_bytes_per_s > 0:
            return measured.link_bytes_per_s
    bulk = [r for r in history if r.wire_bytes >= BULK_BYTES][-3:]
    return max(_per_s(r.wire_bytes, _sending_ms(r)) for r in bulk or history)


def _bytes_per_page(history: Sequence[RoundMeasurement]) -> float:
    """Of pages that are sent again, as far as any were."""
    for measured in reversed(history[1:]):
        if measured.sent_pages >= TYPICAL_PAGES:
            return measured.wire_bytes / measured.sent_pages
    return RAW_PAGE_BYTES


def _page_ms(
    history: Sequence[RoundMeasurement],
    bandwidth: float,
    bytes_per_page: float,
    overhead_ms: float,
) -> float:
    """Time that a page takes which is sent again.

    Of the latest round after the first that sent pages in bulk. Smaller
    ones give an upper bound, since all that they took besides pages counts
    for pages there.
    """
    for measured in reversed(history[1:]):
        if _is_bulk(measured):
            return _sending_ms(measured, overhead_ms) / measured.sent_pages
    by_link = 1000.0 * bytes_per_page / bandwidth if bandwidth > 0 else 0.0
    bounds = [_sending_ms(r) / r.sent_pages for r in history[-3:] if r.sent_pages >= TYPICAL_PAGES]
    return min([by_link, *bounds]) if by_link > 0 else min(bounds, default=0.0)


def _is_bulk(measured: RoundMeasurement) -> bool:
    """Did it spend its time on pages rather than on round trips?"""
    if measured.sent_pages >= BULK_PAGES:
        return True
    return measured.sent_pages >= TYPICAL_PAGES and _sending_ms(measured) >= BULK_MS


def _overhead_ms(
    again: Sequence[RoundMeasurement], bandwidth: float, costs: SwitchoverCosts
) -> float:
    """What a round costs besides harvest and bytes; small rounds show it."""
    small = [
        max(0.0, _sending_ms(r) - 1000.0 * r.wire_bytes / bandwidth)
        for r in again
        if not _is_bulk(r) and bandwidth > 0 and not r.disturbed
    ]
    return min(small) if small else costs.round_trip_ms


def _per_s(amount: float, duration_ms: float) -> float:
    return 1000.0 * amount / duration_ms if duration_ms > 0 else 0.0

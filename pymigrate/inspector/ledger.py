# SPDX-License-Identifier: Apache-2.0
"""What the frames of a channel have described so far.

The ledger is what makes the rules between frames checkable: no block twice in
an epoch, copies only of what was described, no suspect page left at the end
of a sealed epoch, no stale one at the end of the last. It holds a mask for
each block that was described, so it grows with the input and not with the
size a region claims to have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .pages import PagesHead, pages_of
from .regions import Fail
from .wire import BLOCK_BYTES, PAGE_BYTES

# A block: its region and its offset there in bytes.
Place = tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """Masks of the pages of a frame whose bytes do not match their hash."""

    suspect: int = 0
    stale: int = 0


@dataclass
class Marks:
    """Pages that wait for a newer version."""

    masks: dict[Place, int] = field(default_factory=dict)

    @property
    def pages(self) -> int:
        return sum(mask.bit_count() for mask in self.masks.values())

    def replace(self, place: Place, described: int, marked: int) -> None:
        left = self.masks.get(place, 0) & ~described | marked
        if left:
            self.masks[place] = left
        else:
            self.masks.pop(place, None)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Region and offset in bytes of each page."""
        for (region, offset), mask in self.masks.items():
            for page in pages_of(mask):
                yield region, offset + PAGE_BYTES * page


@dataclass
class PageLedger:
    """Kept over all epochs; what was described is that of the open one.

    :ivar is_whole: the channel is the whole stream, so that the ledger knows
        of every page whether it is outstanding.
    """

    is_whole: bool = True
    described: dict[Place, int] = field(default_factory=dict)
    suspects: Marks = field(default_factory=Marks)
    stale: Marks = field(default_factory=Marks)
    outstanding: Marks = field(default_factory=Marks)

    def begin_epoch(self) -> None:
        self.described.clear()

    def describe(self, pages: PagesHead, fail: Fail) -> None:
        """Enter the pages of a frame; fails where its block is there already."""
        place = pages.region, pages.offset
        if place in self.described:
            fail("PAGES describes a block for the second time in this epoch")
        self.described[place] = pages.mask

    def name_outstanding(self, place: Place, mask: int) -> None:
        """Pages of a block will come late; what they hold is of no account."""
        self.outstanding.replace(place, 0, mask)
        self.suspects.replace(place, mask, 0)
        self.stale.replace(place, mask, 0)

    def outstanding_at(self, pages: PagesHead) -> int:
        """Which pages of a frame have not come; all, where others may know better."""
        if not self.is_whole:
            return pages.mask
        return self.outstanding.masks.get((pages.region, pages.offset), 0) & pages.mask

    def is_described(self, region: int, offset: int) -> bool:
        """Was the page at this offset described in this epoch?"""
        start = offset - offset % BLOCK_BYTES
        mask = self.described.get((region, start), 0)
        return bool(mask >> (offset - start) // PAGE_BYTES & 1)

    def judge(self, pages: PagesHead, verdict: Verdict) -> None:
        """Some pages of a frame are suspect or stale, the others no longer."""
        place = pages.region, pages.offset
        self.suspects.replace(place, pages.mask, verdict.suspect)
        self.stale.replace(place, pages.mask, verdict.stale)

    def judge_late(self, pages: PagesHead, verdict: Verdict) -> None:
        """Pages of a frame have come late, but for those that are stale."""
        place = pages.region, pages.offset
        self.outstanding.replace(place, pages.mask & ~verdict.stale, 0)

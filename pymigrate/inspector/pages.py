# SPDX-License-Identifier: Apache-2.0
"""PAGES frames, and the ledger of what an epoch has described.

The ledger is what makes the rules between frames checkable: no page twice in
an epoch, and no suspect page left at the end of a sealed one. It holds one
mask for each block that was described, so it grows with the input and not
with the size a region claims to have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from .regions import Fail, Region
from .wire import (
    BLOCK_BYTES,
    BLOCK_PAGES,
    DIGEST_INPUT,
    MASK64,
    PAGE_BYTES,
    PAGE_ENTRY,
    PAGES_HEAD,
    Encoding,
    xxh3,
)


class PageSink(Protocol):
    """Receives page contents, in stream order. Offsets are in bytes."""

    def page(self, region: int, offset: int, data: memoryview) -> None: ...

    def zero(self, region: int, offset: int) -> None: ...


class Entry(NamedTuple):
    """A page whose contents are in the body."""

    page: int
    hash: int
    stored_bytes: int
    encoding: int


@dataclass(frozen=True)
class PagesHead:
    """The checked head of a PAGES frame."""

    epoch: int
    region: int
    offset: int
    mask: int
    zero_mask: int
    entries: list[Entry]

    @property
    def page_count(self) -> int:
        return self.mask.bit_count()

    @property
    def zero_count(self) -> int:
        return self.zero_mask.bit_count()


def decode_pages_head(
    head: bytes, body_bytes: int, regions: tuple[Region, ...], fail: Fail
) -> PagesHead:
    """Decode a head and check it against itself, its body and the regions."""
    if len(head) < PAGES_HEAD.size:
        fail(f"the PAGES head has {len(head)} bytes, at least {PAGES_HEAD.size} are needed")
    epoch, offset, region, count, mask, zero_mask = PAGES_HEAD.unpack_from(head)
    wanted = PAGES_HEAD.size + count * PAGE_ENTRY.size
    if len(head) != wanted:
        fail(f"the PAGES head has {len(head)} bytes, {count} entries need {wanted}")
    if region >= len(regions):
        fail(f"PAGES names region {region}, there are {len(regions)}")
    _check_place(offset, mask, regions[region], fail)
    if not mask or zero_mask & ~mask:
        fail("the masks of PAGES contradict each other")
    stored = mask & ~zero_mask
    if stored.bit_count() != count:
        fail(f"PAGES has {count} entries for {stored.bit_count()} pages")
    entries = _decode_entries(head, stored, fail)
    total = sum(entry.stored_bytes for entry in entries)
    if total != body_bytes:
        fail(f"the entries of PAGES make up {total} bytes, the body has {body_bytes}")
    return PagesHead(epoch, region, offset, mask, zero_mask, entries)


def _check_place(offset: int, mask: int, region: Region, fail: Fail) -> None:
    if offset % BLOCK_BYTES:
        fail(f"offset {offset} of PAGES is not that of a block")
    if offset >= region.size_bytes:
        fail(f"offset {offset} of PAGES is past the end of its region")
    valid_pages = min((region.size_bytes - offset) // PAGE_BYTES, BLOCK_PAGES)
    if mask >> valid_pages:
        fail("PAGES describes pages past the end of its region")


def _decode_entries(head: bytes, stored: int, fail: Fail) -> list[Entry]:
    entries = []
    pages = (page for page in range(BLOCK_PAGES) if stored >> page & 1)
    packed = PAGE_ENTRY.iter_unpack(head[PAGES_HEAD.size :])
    for page, (digest, size, encoding, reserved) in zip(pages, packed, strict=True):
        if any(reserved):
            fail(f"reserved bytes of the entry of page {page} are set")
        if encoding != Encoding.RAW:
            fail(f"page {page} has the unknown encoding {encoding}")
        if size != PAGE_BYTES:
            fail(f"raw page {page} is stored in {size} bytes")
        entries.append(Entry(page, digest, size, encoding))
    return entries


@dataclass
class PageLedger:
    """What was described; masks by (region, block offset in bytes)."""

    described: dict[tuple[int, int], int] = field(default_factory=dict)
    suspects: dict[tuple[int, int], int] = field(default_factory=dict)

    def begin_epoch(self) -> None:
        self.described.clear()

    @property
    def suspect_pages(self) -> int:
        return sum(mask.bit_count() for mask in self.suspects.values())

    def describe(self, pages: PagesHead, fail: Fail) -> None:
        """Enter the pages of a frame; fails where one is there already."""
        place = pages.region, pages.offset
        before = self.described.get(place, 0)
        if before & pages.mask:
            fail("PAGES describes a page for the second time in this epoch")
        self.described[place] = before | pages.mask

    def judge(self, pages: PagesHead, wrong: int) -> None:
        """Pages of ``wrong`` became suspect, the others of the frame did not."""
        place = pages.region, pages.offset
        left = self.suspects.get(place, 0) & ~pages.mask | wrong
        if left:
            self.suspects[place] = left
        else:
            self.suspects.pop(place, None)

    def first_suspect(self) -> tuple[int, int]:
        """Region and offset in bytes of a suspect page."""
        (region, offset), mask = next(iter(self.suspects.items()))
        return region, offset + PAGE_BYTES * ((mask & -mask).bit_length() - 1)


def digest_of(pages: PagesHead) -> int:
    """What the pages of a frame add to the digest of the epoch."""
    first = pages.offset // PAGE_BYTES
    pack, region, total = DIGEST_INPUT.pack, pages.region, 0
    for entry in pages.entries:
        total += xxh3(pack(region, first + entry.page, entry.hash))
    zeros = pages.zero_mask
    while zeros:
        lowest = zeros & -zeros
        total += xxh3(pack(region, first + lowest.bit_length() - 1, 0))
        zeros ^= lowest
    return total & MASK64


def check_contents(pages: PagesHead, body: memoryview, sink: PageSink | None) -> int:
    """Hash every page of the body; returns the mask of those that differ."""
    wrong = at = 0
    for entry in pages.entries:
        data = body[at : at + entry.stored_bytes]
        at += entry.stored_bytes
        if xxh3(data) != entry.hash:
            wrong |= 1 << entry.page
        if sink:
            sink.page(pages.region, pages.offset + entry.page * PAGE_BYTES, data)
    if sink:
        for page in range(BLOCK_PAGES):
            if pages.zero_mask >> page & 1:
                sink.zero(pages.region, pages.offset + page * PAGE_BYTES)
    return wrong

# SPDX-License-Identifier: Apache-2.0
"""The head of a PAGES frame: which pages of a block, and how each is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .regions import Fail, Region
from .wire import (
    BLOCK_BYTES,
    BLOCK_PAGES,
    COPY,
    DELTA_MASK,
    DIGEST_INPUT,
    GROUPED,
    LINE_BYTES,
    MASK64,
    PAGE_BYTES,
    PAGE_ENTRY,
    PAGE_LINES,
    PAGES_HEAD,
    Encoding,
    xxh3,
)


class Entry(NamedTuple):
    """A page whose contents, or the way to them, are in the body.

    ``span`` is that of the group which begins here; 0 within a group, and
    where there is none.
    """

    page: int
    hash: int
    stored_bytes: int
    encoding: Encoding
    span: int


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
    entries: list[Entry] = []
    packed = PAGE_ENTRY.iter_unpack(head[PAGES_HEAD.size :])
    group, left = Encoding.RAW, 0
    for page, (digest, size, number, span, reserved) in zip(pages_of(stored), packed, strict=True):
        if reserved:
            fail(f"reserved bytes of the entry of page {page} are set")
        try:
            encoding = Encoding(number)
        except ValueError:
            fail(f"page {page} has the unknown encoding {number}")
        entry = Entry(page, digest, size, encoding, span)
        if left:
            _check_member(entry, group, fail)
            left -= 1
        else:
            _check_first(entry, fail)
            group, left = encoding, max(0, span - 1)
        entries.append(entry)
    if left:
        fail(f"a group of pages lacks its last {left}")
    return entries


def _check_member(entry: Entry, group: Encoding, fail: Fail) -> None:
    """An entry behind the first of a group."""
    if (entry.encoding, entry.stored_bytes, entry.span) != (group, 0, 0):
        fail(f"page {entry.page} does not continue the group that it is in")


def _check_first(entry: Entry, fail: Fail) -> None:
    """An entry that stands alone, or begins a group."""
    page, size = entry.page, entry.stored_bytes
    name = entry.encoding.name.lower()
    if entry.encoding in GROUPED:
        if not 1 <= entry.span <= BLOCK_PAGES:
            fail(f"a group of {entry.span} pages begins at page {page}")
        if not 1 <= size <= PAGE_BYTES * entry.span:
            fail(f"{name} page {page} is stored in {size} bytes")
        return
    if entry.span:
        fail(f"{name} page {page} has the span {entry.span} of a group")
    if not _is_stored_size(entry.encoding, size):
        fail(f"{name} page {page} is stored in {size} bytes")


def _is_stored_size(encoding: Encoding, size: int) -> bool:
    if encoding is Encoding.RAW:
        return size == PAGE_BYTES
    if encoding is Encoding.UNCHANGED:
        return size == 0
    if encoding is Encoding.COPY:
        return size == COPY.size
    lines, rest = divmod(size - DELTA_MASK.size, LINE_BYTES)
    return not rest and 1 <= lines <= PAGE_LINES


def pages_of(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def digest_of(pages: PagesHead) -> int:
    """What the pages of a frame add to the digest of the epoch."""
    first = pages.offset // PAGE_BYTES
    pack, region, total = DIGEST_INPUT.pack, pages.region, 0
    for entry in pages.entries:
        total += xxh3(pack(region, first + entry.page, entry.hash))
    for page in pages_of(pages.zero_mask):
        total += xxh3(pack(region, first + page, 0))
    return total & MASK64

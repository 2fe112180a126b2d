# SPDX-License-Identifier: Apache-2.0
"""From the body of a PAGES frame to the pages themselves."""

from __future__ import annotations

from collections.abc import Iterator

from .contents import Contents, PageSink
from .groups import decompress
from .ledger import PageLedger, Verdict
from .pages import Entry, PagesHead, pages_of
from .regions import Fail, Region
from .wire import (
    BLOCK_BYTES,
    COPY,
    DELTA_MASK,
    GROUPED,
    LINE_BYTES,
    PAGE_BYTES,
    RESTING,
    Encoding,
    xxh3,
)


class PageBuilder:
    """Builds pages, in the order of their entries, and hands them on.

    :param contents: what the pages built so far hold.
    :param sink: who else receives them.
    """

    def __init__(
        self,
        regions: tuple[Region, ...],
        contents: Contents,
        sink: PageSink | None,
        ledger: PageLedger,
        fail: Fail,
    ) -> None:
        self._regions, self._contents, self._ledger = regions, contents, ledger
        self._fail = fail
        self._sinks = [contents] if sink is None or sink is contents else [contents, sink]

    def apply(self, pages: PagesHead, body: memoryview) -> Verdict:
        """All pages of a frame; says which of them are not what they should be."""
        for page in pages_of(pages.zero_mask):
            self._zero(pages, page)
        suspect = stale = 0
        done = pages.zero_mask
        for entry, stored, group in self._entries(pages, body):
            if entry.encoding is Encoding.COPY:
                data = memoryview(self._copy(pages, entry, stored, done))
            else:
                data = self._build(pages, entry, stored, group)
            bit = 1 << entry.page
            done |= bit
            if xxh3(data) != entry.hash:
                self._check_may_differ(entry)
                suspect |= bit if entry.encoding is Encoding.RAW else 0
                stale |= bit if entry.encoding in RESTING else 0
            self._put(pages, entry.page, data)
        return Verdict(suspect, stale)

    def apply_late(self, pages: PagesHead, body: memoryview) -> Verdict:
        """The same of pages that come late; those that are here stay as they are.

        The guest may have changed by now whatever came before, so copies are
        those of pages of the frame, and nothing else rests on a page that is here.
        """
        wanted = self._ledger.outstanding_at(pages)
        for page in pages_of(pages.zero_mask & wanted):
            self._zero(pages, page)
        built = dict.fromkeys(pages_of(pages.zero_mask), bytes(PAGE_BYTES))
        stale = 0
        for entry, stored, group in self._entries(pages, body):
            if entry.encoding is Encoding.COPY:
                data = memoryview(self._copy_of_frame(pages, entry, stored, built))
            else:
                is_here = not wanted >> entry.page & 1
                data = self._build(pages, entry, stored, group, on_zeros=is_here)
            built[entry.page] = bytes(data)
            bit = 1 << entry.page & wanted
            if bit and xxh3(data) != entry.hash:
                self._check_rests(entry)
                stale |= bit
            elif bit:
                self._put(pages, entry.page, data)
        return Verdict(0, stale)

    def _put(self, pages: PagesHead, page: int, data: memoryview) -> None:
        for sink in self._sinks:
            sink.page(pages.region, pages.offset + page * PAGE_BYTES, data)

    def _zero(self, pages: PagesHead, page: int) -> None:
        for sink in self._sinks:
            sink.zero(pages.region, pages.offset + page * PAGE_BYTES)

    def _entries(
        self, pages: PagesHead, body: memoryview
    ) -> Iterator[tuple[Entry, memoryview, memoryview]]:
        """Each entry, what the body has of it, and the page if a group gives it."""
        group, at = memoryview(b""), 0
        for entry in pages.entries:
            stored = body[at : at + entry.stored_bytes]
            at += entry.stored_bytes
            if entry.encoding in GROUPED and entry.span:
                size = entry.span * PAGE_BYTES
                group = memoryview(decompress(entry.encoding, stored, size, self._fail))
            yield entry, stored, group[:PAGE_BYTES]
            group = group[PAGE_BYTES:]

    def _build(
        self,
        pages: PagesHead,
        entry: Entry,
        stored: memoryview,
        group: memoryview,
        on_zeros: bool = False,
    ) -> memoryview:
        """A page that is not a copy.

        :param on_zeros: it rests on no version that came before.
        """
        if entry.encoding in GROUPED:
            return group
        if entry.encoding is Encoding.RAW:
            return stored
        offset = pages.offset + entry.page * PAGE_BYTES
        before = bytes(PAGE_BYTES) if on_zeros else self._contents.read(pages.region, offset)
        if entry.encoding is Encoding.UNCHANGED:
            return memoryview(before)
        return memoryview(self._delta(entry, before, stored))

    def _delta(self, entry: Entry, before: bytes, stored: memoryview) -> bytes:
        (mask,) = DELTA_MASK.unpack_from(stored)
        if mask.bit_count() * LINE_BYTES != len(stored) - DELTA_MASK.size:
            self._fail(
                f"delta page {entry.page} says {mask.bit_count()} lines changed "
                f"and has {len(stored) - DELTA_MASK.size} bytes of them"
            )
        page = bytearray(before)
        at = DELTA_MASK.size
        for line in pages_of(mask):
            page[line * LINE_BYTES : (line + 1) * LINE_BYTES] = stored[at : at + LINE_BYTES]
            at += LINE_BYTES
        return bytes(page)

    def _copy(self, pages: PagesHead, entry: Entry, stored: memoryview, done: int) -> bytes:
        """:param done: pages of this frame that are described before it."""
        region, offset = self._copied(entry, stored)
        if region == pages.region and 0 <= offset - pages.offset < BLOCK_BYTES:
            described = bool(done >> (offset - pages.offset) // PAGE_BYTES & 1)
        else:
            described = self._ledger.is_described(region, offset)
        if not described:
            self._fail(
                f"copy page {entry.page} names offset {offset:#x} of region {region}, "
                "which was not described before in this epoch"
            )
        return self._contents.read(region, offset)

    def _copy_of_frame(
        self, pages: PagesHead, entry: Entry, stored: memoryview, built: dict[int, bytes]
    ) -> bytes:
        region, offset = self._copied(entry, stored)
        found = built.get((offset - pages.offset) // PAGE_BYTES)
        if region != pages.region or found is None:
            self._fail(
                f"copy page {entry.page} names offset {offset:#x} of region {region}, "
                "which was not described before in this frame"
            )
        return found

    def _copied(self, entry: Entry, stored: memoryview) -> tuple[int, int]:
        """Region and offset of the page that a copy names."""
        region, reserved, offset = COPY.unpack(stored)
        what = f"copy page {entry.page} names offset {offset:#x} of region {region}"
        if reserved:
            self._fail(f"reserved bytes of copy page {entry.page} are set")
        if region >= len(self._regions) or offset >= self._regions[region].size_bytes:
            self._fail(f"{what}, which does not exist")
        if offset % PAGE_BYTES:
            self._fail(f"{what}, where no page begins")
        return region, offset

    def _check_may_differ(self, entry: Entry) -> None:
        if entry.encoding in GROUPED:
            name = entry.encoding.name.lower()
            self._fail(f"{name} page {entry.page} does not match its hash")

    def _check_rests(self, entry: Entry) -> None:
        if entry.encoding not in RESTING:
            self._fail(f"late page {entry.page} does not match its hash")

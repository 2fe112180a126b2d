# SPDX-License-Identifier: Apache-2.0
"""From the body of a PAGES frame to the pages themselves."""

from __future__ import annotations

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
            for sink in self._sinks:
                sink.zero(pages.region, pages.offset + page * PAGE_BYTES)
        suspect = stale = 0
        done = pages.zero_mask
        group, at = memoryview(b""), 0
        for entry in pages.entries:
            stored = body[at : at + entry.stored_bytes]
            at += entry.stored_bytes
            if entry.encoding in GROUPED:
                if entry.span:
                    size = entry.span * PAGE_BYTES
                    group = memoryview(decompress(entry.encoding, stored, size, self._fail))
                data, group = group[:PAGE_BYTES], group[PAGE_BYTES:]
            else:
                data = self._build(pages, entry, stored, done)
            bit = 1 << entry.page
            done |= bit
            if xxh3(data) != entry.hash:
                self._check_may_differ(entry)
                suspect |= bit if entry.encoding is Encoding.RAW else 0
                stale |= bit if entry.encoding in RESTING else 0
            for sink in self._sinks:
                sink.page(pages.region, pages.offset + entry.page * PAGE_BYTES, data)
        return Verdict(suspect, stale)

    def _build(self, pages: PagesHead, entry: Entry, stored: memoryview, done: int) -> memoryview:
        """A page that does not belong to a group.

        :param done: pages of this frame that are described before it.
        """
        if entry.encoding is Encoding.RAW:
            return stored
        if entry.encoding is Encoding.COPY:
            return memoryview(self._copy(pages, entry, stored, done))
        offset = pages.offset + entry.page * PAGE_BYTES
        before = self._contents.read(pages.region, offset)
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
        region, reserved, offset = COPY.unpack(stored)
        what = f"copy page {entry.page} names offset {offset:#x} of region {region}"
        if reserved:
            self._fail(f"reserved bytes of copy page {entry.page} are set")
        if region >= len(self._regions) or offset >= self._regions[region].size_bytes:
            self._fail(f"{what}, which does not exist")
        if offset % PAGE_BYTES:
            self._fail(f"{what}, where no page begins")
        page = (offset - pages.offset) // PAGE_BYTES
        if region == pages.region and 0 <= offset - pages.offset < BLOCK_BYTES:
            described = bool(done >> page & 1)
        else:
            described = self._ledger.is_described(region, offset)
        if not described:
            self._fail(f"{what}, which was not described before in this epoch")
        return self._contents.read(region, offset)

    def _check_may_differ(self, entry: Entry) -> None:
        if entry.encoding in GROUPED:
            name = entry.encoding.name.lower()
            self._fail(f"{name} page {entry.page} does not match its hash")

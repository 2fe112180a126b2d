# SPDX-License-Identifier: Apache-2.0
"""The whole of one channel: its frames, and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from .builder import PageBuilder
from .contents import Contents, Nothing, PageSink, Spool
from .frames import FrameReader, known_type
from .items import StateItem, StateListError, decode_items
from .late import decode_bitmap, decode_outstanding_head
from .ledger import PageLedger, Verdict
from .order import WITH_BODY, check_follows, check_none_described, check_order
from .pages import decode_pages_head, digest_of
from .regions import StreamInfo, check_ranges, decode_stream
from .summary import EpochSummary, StateSummary, Summary
from .wire import (
    BLOB_HEAD,
    END_HEAD,
    EPOCH_END_HEAD,
    EPOCH_HEAD,
    MASK64,
    SERVED_HEAD,
    EpochKind,
    FrameType,
    Header,
    xxh3,
)


class Sink(PageSink, Protocol):
    """Receives everything a stream carries, in order."""

    def stream(self, info: StreamInfo) -> None: ...

    def config(self, config: dict[str, Any]) -> None: ...

    def state(self, items: list[StateItem]) -> None: ...


FrameListener = Callable[[Header, str], None]


class Decoder:
    """Decodes and verifies one channel.

    ``contents`` keeps pages for those that rest on them; without it they are
    kept in a temporary file. ``on_frame`` is called with each frame after it proved right, together
    with a few words about it. ``run`` raises StreamError at the first error;
    ``summary`` then holds what came before it.
    """

    def __init__(
        self,
        source: BinaryIO,
        sink: Sink | None = None,
        on_frame: FrameListener | None = None,
        contents: Contents | None = None,
    ) -> None:
        self.summary = Summary()
        self._reader = FrameReader(source)
        self._sink = sink
        self._on_frame = on_frame
        self._ledger = PageLedger()
        self._spool = Spool() if contents is None else Nothing()
        self._contents: Contents = self._spool if contents is None else contents
        self._builder: PageBuilder | None = None
        self._epoch: EpochSummary | None = None
        self._state_digest = 0
        # Of the last sealed epoch: region and offset.
        self._first_stale = (0, 0)
        self._handlers: dict[FrameType, Callable[[Header, bytes], str]] = {
            FrameType.CONFIG: self._config,
            FrameType.EPOCH: self._begin_epoch,
            FrameType.PAGES: self._pages,
            FrameType.STATE: self._state,
            FrameType.EPOCH_END: self._end_epoch,
            FrameType.END: self._end,
            FrameType.RANGES: self._ranges,
            FrameType.OUTSTANDING: self._outstanding,
            FrameType.SERVED: self._served,
        }

    def run(self) -> Summary:
        """Decode to the end."""
        try:
            self._one_frame(self._stream_only)
            while not self.summary.complete:
                self._one_frame(self._dispatch)
            self._reader.expect_end_of_input()
        finally:
            self._spool.close()
            self.summary.bytes = self._reader.offset
        return self.summary

    def _one_frame(self, handle: Callable[[Header, bytes], str]) -> None:
        header, head = self._reader.next()
        detail = handle(header, head)
        self._reader.finish_frame()
        self.summary.count_frame(header)
        if self._on_frame:
            self._on_frame(header, detail)

    def _dispatch(self, header: Header, head: bytes) -> str:
        kind = known_type(header)
        if kind is None:
            return self._unknown(header)
        check_order(kind, self._epoch, self.summary, self._reader.fail)
        if kind not in WITH_BODY:
            self._no_body(header)
        return self._handlers[kind](header, head)

    @property
    def _info(self) -> StreamInfo:
        assert self.summary.stream is not None
        return self.summary.stream

    @property
    def _open_epoch(self) -> EpochSummary:
        assert self._epoch is not None
        return self._epoch

    def _no_body(self, header: Header) -> None:
        if header.body_bytes:
            self._reader.fail(
                f"{header.type_name} has no body, this one has {header.body_bytes} bytes"
            )

    def _head_size(self, header: Header, wanted: int) -> None:
        if header.head_bytes != wanted:
            self._reader.fail(
                f"the {header.type_name} head has {header.head_bytes} bytes, it must have {wanted}"
            )

    def _unknown(self, header: Header) -> str:
        if not header.skippable:
            self._reader.fail(f"a frame of unknown type {header.type} may not be skipped")
        self._reader.drop_body(header)
        self.summary.skipped_frames += 1
        return "skipped"

    def _stream_only(self, header: Header, head: bytes) -> str:
        if known_type(header) is not FrameType.STREAM:
            self._reader.fail(f"the first frame must be STREAM, this is {header.type_name}")
        self._no_body(header)
        info = decode_stream(head, self._reader.fail)
        self.summary.stream = info
        self._ledger.is_whole = self.summary.is_alone
        self._builder = PageBuilder(
            info.regions, self._contents, self._sink, self._ledger, self._reader.fail
        )
        if self._sink:
            self._sink.stream(info)
        return f"channel {info.channel_index} of {info.channel_count}, regions: {len(info.regions)}"

    def _ranges(self, header: Header, head: bytes) -> str:
        count = check_ranges(head, self._info.regions, self._reader.fail)
        return f"ranges: {count}"

    def _blob(self, header: Header, head: bytes) -> tuple[memoryview, int]:
        self._head_size(header, BLOB_HEAD.size)
        (expected,) = BLOB_HEAD.unpack(head)
        body = self._reader.body(header)
        found = xxh3(body)
        if found != expected:
            self._reader.fail(f"the body hashes to {found:016x}, the head says {expected:016x}")
        return body, found

    def _config(self, header: Header, head: bytes) -> str:
        body, _ = self._blob(header, head)
        try:
            config = json.loads(bytes(body).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            self._reader.fail(f"the body of CONFIG is not JSON: {error}")
        if not isinstance(config, dict):
            self._reader.fail("the body of CONFIG is not a JSON object")
        self.summary.config = config
        if self._sink:
            self._sink.config(config)
        return f"members: {len(config)}"

    def _state(self, header: Header, head: bytes) -> str:
        body, body_hash = self._blob(header, head)
        try:
            items = decode_items(body)
        except StateListError as error:
            self._reader.fail(str(error))
        self._state_digest = self._state_digest + body_hash & MASK64
        self.summary.state = StateSummary.of(items, header)
        if self._sink:
            self._sink.state(items)
        return f"items: {len(items)}"

    def _begin_epoch(self, header: Header, head: bytes) -> str:
        self._head_size(header, EPOCH_HEAD.size)
        number, kind, reserved = EPOCH_HEAD.unpack(head)
        expected = len(self.summary.epochs) + 1
        if number != expected:
            self._reader.fail(f"epoch {number} begins, expected epoch {expected}")
        if kind not in tuple(EpochKind):
            self._reader.fail(f"epoch {number} is of unknown kind {kind}")
        if reserved:
            self._reader.fail("reserved bytes of the EPOCH head are set")
        check_follows(number, EpochKind(kind), self.summary, self._reader.fail)
        self._epoch = EpochSummary(number, EpochKind(kind))
        self._ledger.begin_epoch()
        return f"epoch {number}, {EpochKind(kind).name.lower()}"

    def _outstanding(self, header: Header, head: bytes) -> str:
        named = decode_outstanding_head(
            head, header.body_bytes, self._info.regions, self._reader.fail
        )
        epoch = self._open_epoch
        if named.epoch != epoch.number:
            self._reader.fail(
                f"OUTSTANDING belongs to epoch {named.epoch}, epoch {epoch.number} is open"
            )
        region = self._info.regions[named.region]
        for offset, mask in decode_bitmap(
            named, self._reader.body(header), region, self._reader.fail
        ):
            self._ledger.name_outstanding((named.region, offset), mask)
        epoch.add_outstanding(header, named.bitmap_hash)
        return f"region {named.region} +{named.offset:#x}, {named.blocks} blocks"

    def _served(self, header: Header, head: bytes) -> str:
        self._head_size(header, SERVED_HEAD.size)
        (waited_ns,) = SERVED_HEAD.unpack(head)
        return f"after {waited_ns} ns"

    def _pages(self, header: Header, head: bytes) -> str:
        pages = decode_pages_head(head, header.body_bytes, self._info.regions, self._reader.fail)
        epoch = self._open_epoch
        if pages.epoch != epoch.number:
            self._reader.fail(f"PAGES belongs to epoch {pages.epoch}, epoch {epoch.number} is open")
        assert self._builder is not None
        if epoch.kind is EpochKind.LATE:
            verdict = self._builder.apply_late(pages, self._reader.body(header))
            self._ledger.judge_late(pages, verdict)
        else:
            self._ledger.describe(pages, self._reader.fail)
            verdict = self._builder.apply(pages, self._reader.body(header))
            self._ledger.judge(pages, verdict)
        epoch.add(pages, header, digest_of(pages), verdict)
        return f"region {pages.region} +{pages.offset:#x}, " + _count_words(
            pages.page_count, pages.zero_count, verdict
        )

    def _end_epoch(self, header: Header, head: bytes) -> str:
        self._head_size(header, EPOCH_END_HEAD.size)
        number, kind, reserved, frames, count, digest = EPOCH_END_HEAD.unpack(head)
        epoch = self._open_epoch
        found = epoch.digest + self._state_digest & MASK64
        for name, said, is_so in (
            ("epoch", number, epoch.number),
            ("kind", kind, epoch.kind.value),
            ("reserved", reserved, 0),
            ("frame_count", frames, epoch.frames),
            ("page_count", count, epoch.pages),
            ("digest", digest, found),
        ):
            if said != is_so:
                self._reader.fail(f"EPOCH_END says {name} {said}, it is {is_so}")
        epoch.digest = found
        epoch.suspect_pages_left = self._ledger.suspects.pages
        epoch.stale_pages_left = self._ledger.stale.pages
        epoch.outstanding_pages = self._ledger.outstanding.pages
        check_none_described(epoch, self.summary, self._reader.fail)
        if epoch.kind is EpochKind.SEALED and epoch.suspect_pages_left:
            region, offset = next(iter(self._ledger.suspects))
            self._reader.fail(
                f"{epoch.suspect_pages_left} pages of the sealed epoch do not match their hash, "
                f"the first in region {region} at offset {offset:#x}"
            )
        if epoch.kind is EpochKind.SEALED:
            self._first_stale = next(iter(self._ledger.stale), (0, 0))
        self.summary.close_epoch(epoch)
        self._epoch, self._state_digest = None, 0
        return f"epoch {number}, {count} pages, digest {digest:016x}"

    def _end(self, header: Header, head: bytes) -> str:
        self._head_size(header, END_HEAD.size)
        (count,) = END_HEAD.unpack(head)
        if count != header.sequence:
            self._reader.fail(f"END counts {count} frames before it, there were {header.sequence}")
        self._check_stale()
        self._check_outstanding()
        self.summary.complete = True
        return f"after {count} frames"

    def _check_stale(self) -> None:
        """Of one channel of several we cannot say: the page that another one
        rests on may have come on another channel.
        """
        if not self.summary.is_alone:
            return
        sealed = [epoch for epoch in self.summary.epochs if epoch.kind is EpochKind.SEALED]
        if sealed and sealed[-1].stale_pages_left:
            region, offset = self._first_stale
            self._reader.fail(
                f"{sealed[-1].stale_pages_left} pages of the last sealed epoch cannot be built "
                f"from what came before, the first in region {region} at offset {offset:#x}"
            )

    def _check_outstanding(self) -> None:
        """Of one channel of several we cannot say, as above."""
        left = self._ledger.outstanding
        if self.summary.is_alone and left.pages:
            region, offset = next(iter(left))
            self._reader.fail(
                f"{left.pages} outstanding pages have not come, "
                f"the first in region {region} at offset {offset:#x}"
            )


def _count_words(pages: int, zero: int, verdict: Verdict) -> str:
    words = f"{pages - zero} stored, {zero} zero"
    if verdict.suspect:
        words += f", {verdict.suspect.bit_count()} suspect"
    if verdict.stale:
        words += f", {verdict.stale.bit_count()} stale"
    return words

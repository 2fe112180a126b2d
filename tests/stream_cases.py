# SPDX-License-Identifier: Apache-2.0
"""Streams that a decoder must refuse, one for each rule of the format page.

Each case is the bytes of a stream and a piece of the reason that the
inspector must give for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import stream_builder as sb
from stream_builder import BLOCK, CONFIG, PAGE, Frame, Region, Writer, replace

# Positions in stream_builder.sample().
AT_STREAM, AT_RANGES, AT_CONFIG, AT_STATE, AT_EPOCH, AT_PAGES = range(6)
AT_EPOCH_END, AT_UNKNOWN, AT_SEALED, AT_LAST_STATE, AT_SEALED_END, AT_END = 7, 8, 9, 11, 12, 13


class Case(NamedTuple):
    data: bytes
    reason: str


def with_frame(at: int, frame: Frame) -> bytes:
    """The sample with one frame replaced."""
    frames = sb.sample()
    frames[at] = frame
    return sb.encode(frames)


def changed(at: int, **changes: Any) -> bytes:
    """The sample with fields of one frame changed; sums follow the change."""
    return with_frame(at, replace(sb.sample()[at], **changes))


def patched(at: int, offset: int, value: bytes) -> bytes:
    """The sample with bytes in the head of one frame changed."""
    head = sb.sample()[at].head
    return changed(at, head=head[:offset] + value + head[offset + len(value) :])


def without(at: int) -> bytes:
    frames = sb.sample()
    del frames[at]
    return sb.encode(frames)


def moved(at: int, to: int) -> bytes:
    frames = sb.sample()
    frames.insert(to, frames.pop(at))
    return sb.encode(frames)


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def header_cases() -> dict[str, Case]:
    return {
        "magic": Case(changed(AT_PAGES, magic=b"PMIX"), "must begin with PMIG"),
        "first magic": Case(changed(AT_STREAM, magic=b"\x7fELF"), "not a pymigrate stream"),
        "head limit": Case(changed(AT_PAGES, head_bytes=(1 << 20) + 1), "over the limit"),
        "body limit": Case(changed(AT_CONFIG, body_bytes=(64 << 20) + 1), "over the limit"),
        "largest sizes": Case(changed(AT_PAGES, head_bytes=(1 << 32) - 1), "over the limit"),
        "checksum": Case(changed(AT_EPOCH, checksum=12345), "checksum"),
        "sequence repeated": Case(changed(AT_EPOCH, sequence=3), "sequence number"),
        "sequence skipped": Case(changed(AT_EPOCH, sequence=5), "sequence number"),
        "reserved 0": Case(changed(AT_EPOCH, reserved=(1, 0, 0)), "reserved"),
        "reserved 1": Case(changed(AT_EPOCH, reserved=(0, 1, 0)), "reserved"),
        "reserved 2": Case(changed(AT_EPOCH, reserved=(0, 0, 1)), "reserved"),
        "reserved flag": Case(changed(AT_EPOCH, flags=2), "reserved"),
        "unknown type": Case(changed(AT_UNKNOWN, flags=0), "may not be skipped"),
        "type 0": Case(changed(AT_EPOCH, type=0), "may not be skipped"),
    }


def order_cases() -> dict[str, Case]:
    return {
        "empty": Case(b"", "empty"),
        "no STREAM": Case(without(AT_STREAM), "first frame must be STREAM"),
        "STREAM twice": Case(moved_in(AT_STREAM, 3), "second time"),
        "skippable first": Case(moved(AT_UNKNOWN, 0), "first frame must be STREAM"),
        "PAGES outside": Case(moved(AT_PAGES, AT_CONFIG), "outside an epoch"),
        "EPOCH_END outside": Case(moved(AT_EPOCH_END, AT_EPOCH), "outside an epoch"),
        "CONFIG inside": Case(moved(AT_CONFIG, AT_EPOCH), "within an epoch"),
        "RANGES inside": Case(moved(AT_RANGES, AT_EPOCH), "before the first epoch"),
        "RANGES late": Case(moved(AT_RANGES, AT_EPOCH_END), "before the first epoch"),
        "RANGES twice": Case(moved_in(AT_RANGES, AT_EPOCH), "second time"),
        "EPOCH inside": Case(without(AT_EPOCH_END), "within an epoch"),
        "END inside": Case(without(AT_SEALED_END), "within an epoch"),
        "no END": Case(without(AT_END), "without an END"),
        "END count": Case(with_frame(AT_END, sb.end(12)), "there were 13"),
        "CONFIG elsewhere": Case(off_channel_0(sb.config({})), "channel 0 only"),
        "STATE elsewhere": Case(off_channel_0(sb.state()), "channel 0 only"),
        "RANGES elsewhere": Case(off_channel_0(sb.ranges([])), "channel 0 only"),
    }


def moved_in(at: int, to: int) -> bytes:
    frames = sb.sample()
    frames.insert(to, frames[at])
    return sb.encode(frames)


def off_channel_0(frame: Frame) -> bytes:
    return Writer(channel=(1, 2)).add(frame).end()


def size_cases() -> dict[str, Case]:
    """Every fixed head one byte short and one long, every bare frame with a body."""
    cases = {}
    for at, frame in enumerate(sb.sample()):
        if at == AT_UNKNOWN:
            continue
        for word, head in (("short", frame.head[:-1]), ("long", frame.head + b"\0")):
            cases[f"frame {at} {word}"] = Case(changed(at, head=head), "head has")
        cases[f"frame {at} headless"] = Case(changed(at, head=b""), "head has")
        if not frame.body:
            cases[f"frame {at} with a body"] = Case(changed(at, body=bytes(8)), "has no body")
    return cases


def stream_cases() -> dict[str, Case]:
    far = Region(gpa=(1 << 64) - PAGE, size=2 * PAGE)

    def of(*regions: Region, **lies: Any) -> bytes:
        return with_frame(0, sb.stream(regions or (Region(),), **lies))

    return {
        "major version": Case(of(version=(2, 0)), "not supported"),
        "channel past count": Case(of(channel=(2, 2)), "impossible"),
        "no channels": Case(of(channel=(0, 0)), "impossible"),
        "too many channels": Case(of(channel=(0, 65)), "impossible"),
        "page size": Case(of(page=16384), "not supported"),
        "block size": Case(of(block=32), "not supported"),
        "stream reserved": Case(of(reserved=bytes(11) + b"\1"), "reserved"),
        "no regions": Case(of(count=0), "regions"),
        "too many regions": Case(of(count=1025), "regions"),
        "wrong region count": Case(of(count=2), "regions need"),
        "gpa unaligned": Case(of(Region(gpa=512)), "aligned"),
        "size unaligned": Case(of(Region(size=PAGE + 1)), "aligned"),
        "size zero": Case(of(Region(size=0)), "empty"),
        "region past the end": Case(of(far), "end of the address space"),
        "region kind": Case(of(Region(kind=2)), "unknown kind"),
        "region reserved": Case(of(Region(reserved=1)), "reserved"),
        "name not ended": Case(of(Region(b"n" * 32)), "name of region"),
        "name not padded": Case(of(Region(b"a\0b")), "name of region"),
        "overlap": Case(of(Region(), Region(gpa=BLOCK)), "overlap"),
        "same twice": Case(of(Region(), Region()), "overlap"),
    }


def blob_cases() -> dict[str, Case]:
    def config(body: bytes) -> bytes:
        return with_frame(AT_CONFIG, sb.blob(CONFIG, body))

    return {
        "body hash": Case(patched(AT_CONFIG, 0, u64(1)), "hashes to"),
        "state hash": Case(patched(AT_STATE, 0, u64(1)), "hashes to"),
        "not JSON": Case(config(b"{"), "not JSON"),
        "not UTF-8": Case(config(b'{"a": "\xff"}'), "not JSON"),
        "not an object": Case(config(b"[]"), "not a JSON object"),
        "no config": Case(config(b""), "not JSON"),
        "deep JSON": Case(config(b"[" * 100_000), "not JSON"),
    }


def epoch_cases() -> dict[str, Case]:
    return {
        "epoch 0": Case(patched(AT_EPOCH, 0, u64(0)), "expected epoch 1"),
        "epoch skipped": Case(patched(AT_SEALED, 0, u64(3)), "expected epoch 2"),
        "epoch repeated": Case(patched(AT_SEALED, 0, u64(1)), "expected epoch 2"),
        "epoch kind": Case(patched(AT_EPOCH, 8, u32(4)), "unknown kind"),
        "epoch reserved": Case(patched(AT_EPOCH, 12, u32(1)), "reserved"),
        "end of another epoch": Case(patched(AT_EPOCH_END, 0, u64(2)), "epoch 2, it is 1"),
        "end of another kind": Case(patched(AT_EPOCH_END, 8, u32(2)), "kind 2, it is 1"),
        "end reserved": Case(patched(AT_EPOCH_END, 12, u32(1)), "reserved"),
        "frame count": Case(patched(AT_EPOCH_END, 16, u64(3)), "frame_count 3, it is 2"),
        "page count": Case(patched(AT_EPOCH_END, 24, u64(5)), "page_count 5, it is 4"),
        "digest": Case(patched(AT_EPOCH_END, 32, u64(5)), "digest 5"),
        "digest without state": Case(without(AT_LAST_STATE), "digest"),
        "missing PAGES": Case(without(AT_PAGES), "frame_count"),
    }


def range_cases() -> dict[str, Case]:
    def of(*entries: tuple[int, int, int], count: int | None = None) -> bytes:
        return with_frame(AT_RANGES, sb.ranges(entries, count=count))

    return {
        "range region": Case(of((2, 0, PAGE)), "names region 2"),
        "range unaligned": Case(of((0, 100, PAGE)), "aligned"),
        "range size unaligned": Case(of((0, 0, 100)), "aligned"),
        "range empty": Case(of((0, 0, 0)), "empty"),
        "range past the end": Case(of((0, 3 * BLOCK, BLOCK + PAGE)), "past the end"),
        "range overflow": Case(of((0, PAGE, (1 << 64) - PAGE)), "past the end"),
        "range count": Case(of((0, 0, PAGE), count=2), "ranges need"),
        "range count huge": Case(of(count=(1 << 32) - 1), "ranges need"),
        "ranges reserved": Case(patched(AT_RANGES, 4, u32(1)), "reserved"),
        "range reserved": Case(patched(AT_RANGES, 12, u32(1)), "reserved"),
    }


def page_cases() -> dict[str, Case]:
    one = {0: sb.page_of(1)}

    def of(*args: Any, **lies: Any) -> bytes:
        return with_frame(AT_PAGES, sb.pages(1, *args, **lies))

    def twice() -> bytes:
        writer = Writer().begin(sb.SEALED).block(one).block({0: None})
        return writer.finish().end()

    def suspect() -> bytes:
        return Writer().begin(sb.SEALED).block(one, hashes={0: 7}).finish().end()

    return {
        "other epoch": Case(patched(AT_PAGES, 0, u64(2)), "belongs to epoch 2"),
        "page region": Case(of(one, region=2), "names region 2"),
        "page offset unaligned": Case(of(one, offset=PAGE), "not that of a block"),
        "page offset past the end": Case(of(one, offset=4 * BLOCK), "past the end"),
        "page offset huge": Case(of(one, offset=(1 << 64) - BLOCK), "past the end"),
        "page past the end": Case(of({60: None}, region=1, offset=BLOCK), "past the end"),
        "empty mask": Case(of({}), "masks"),
        "zero outside mask": Case(of(one, zero_mask=2), "masks"),
        "mask without entry": Case(of(one, mask=3), "entries for"),
        "entry without mask": Case(of({0: sb.page_of(1), 1: sb.page_of(2)}, mask=1), "entries for"),
        "entry count": Case(of(one, count=2), "entries need"),
        "entry count huge": Case(of(one, count=(1 << 32) - 1), "entries need"),
        "encoding": Case(of(one, encoding=6), "unknown encoding"),
        "stored bytes": Case(of(one, stored=100), "stored in 100"),
        "entry reserved": Case(of(one, reserved=b"\0\1"), "reserved"),
        "body short": Case(changed(AT_PAGES, body=bytes(PAGE)), "make up"),
        "body long": Case(changed(AT_PAGES, body=bytes(3 * PAGE)), "make up"),
        "page twice": Case(twice(), "second time"),
        "suspect in a sealed epoch": Case(suspect(), "do not match their hash"),
        "corrupt sealed page": Case(changed(10, body=bytes(PAGE)), "do not match their hash"),
    }


def state_cases() -> dict[str, Case]:
    """Rules inside the body of STATE."""
    good = sb.item(b"a", b"12345678")

    def of(body: bytes) -> bytes:
        return with_frame(AT_STATE, sb.blob(sb.STATE, body))

    def items(*entries: bytes, **lies: Any) -> bytes:
        return of(sb.state_list(entries, **lies))

    build: dict[str, tuple[Callable[..., bytes], tuple[Any, ...], dict[str, Any], str]] = {
        "state empty": (of, (b"",), {}, "no room"),
        "state magic": (items, (good,), {"magic": b"PMSX"}, "PMST"),
        "state version": (items, (good,), {"version": 2}, "version 2"),
        "state reserved": (items, (good,), {"reserved": 1}, "reserved"),
        "item count": (items, (good,), {"count": 2}, "cut off"),
        "item count small": (items, (good, sb.item(b"b", b"")), {"count": 1}, "follow the last"),
        "item count huge": (items, (good,), {"count": (1 << 32) - 1}, "over the limit"),
        "item cut off": (items, (good[:40],), {}, "cut off"),
        "item name": (items, (sb.item(b"UPPER", b""),), {}, "name of state item"),
        "item without name": (items, (sb.item(b"", b""),), {}, "name of state item"),
        "item name full": (items, (sb.item(b"n" * 48, b""),), {}, "name of state item"),
        "item name gap": (items, (sb.item(b"a\0b", b""),), {}, "name of state item"),
        "item flags": (items, (sb.item(b"a", b"", flags=2),), {}, "reserved flags"),
        "item size": (items, (sb.item(b"a", b"1" * 8, size=16),), {}, "claims 16"),
        "item size huge": (items, (sb.item(b"a", b"", size=(1 << 64) - 1),), {}, "claims"),
        "item padding": (items, (sb.item(b"a", b"1" * 8, size=7),), {}, "not padded"),
        "item padding missing": (items, (sb.item(b"a", b"1")[:-7],), {}, "not padded"),
        "item twice": (items, (good, good), {}, "occurs twice"),
        "bytes after": (of, (sb.state_list([good]) + bytes(8),), {}, "follow the last"),
    }
    return {
        name: Case(make(*args, **lies), reason)
        for name, (make, args, lies, reason) in build.items()
    }


def all_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for group in (
        header_cases,
        order_cases,
        size_cases,
        stream_cases,
        blob_cases,
        epoch_cases,
        range_cases,
        page_cases,
        state_cases,
    ):
        cases |= group()
    return cases

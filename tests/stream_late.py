# SPDX-License-Identifier: Apache-2.0
"""Streams with pages that come late: right ones, and one for each broken rule."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import stream_builder as sb
import stream_pages as sp
from encoding_cases import REGIONS, ZEROS, A, B, C, Good, edited, noise, wrong
from stream_builder import ARRIVED, BLOCK, LATE, PAGE, PLACED, SEALED, Frame, Writer
from stream_cases import Case
from stream_pages import Entry


def departed(before: dict[int, Any], masks: list[int], **how: Any) -> Writer:
    """An epoch of block 0, then one that names pages as outstanding."""
    writer = Writer(REGIONS).begin()
    if before:
        writer.block(before)
    return writer.finish().begin(SEALED).outstanding(masks, **how).finish()


def arrived(before: dict[int, Any], mask: int, *frames: dict[int, Any]) -> bytes:
    """Pages of block 0 come late, in these frames."""
    writer = departed(before, [mask]).begin(LATE)
    for contents in frames:
        writer.block(contents)
    return writer.finish().end()


def good_cases() -> dict[str, Good]:
    """What memory is in the end; nothing is stale after an epoch."""
    some, every, short = edited(C, 0, 31, 63), noise(7), C[:64] + bytes(PAGE - 64)
    own = {0: A, 1: None, 2: B}
    twice = Writer(REGIONS).begin().outstanding([1]).finish().begin(SEALED).outstanding([3])
    twice.finish().begin(LATE).block({0: A}).block({1: B}).finish()
    several = departed({}, [0, 0, 1, 0]).begin(LATE).block({0: A}, offset=2 * BLOCK)
    many = Writer(REGIONS).begin(SEALED).outstanding([1, 1, 1, 1], squeeze=True).finish()
    many.begin(LATE)
    for number in (3, 0, 2, 1):
        many.block({0: A}, offset=number * BLOCK)
    far = Writer(REGIONS).begin(SEALED).outstanding([1 << 58], region=1, offset=BLOCK).finish()
    far.begin(LATE).block({58: C}, region=1, offset=BLOCK)
    told = departed({}, [1]).begin(LATE).add(sb.served(5000)).block({0: A})
    empty = departed({0: A}, [0]).begin(LATE)
    return {
        "late, all encodings": late(
            arrived(
                {0: C, 1: A, 9: B},
                0x3FF,
                {**sp.at(4, sp.lz4_group(A, B)), 6: sp.copy(B, 5 * PAGE), 7: None},
                {0: sp.delta(C, some), 1: sp.unchanged(A), 2: every, 3: sp.copy(every, 2 * PAGE)},
                {8: sp.zstd_group(short)[0], 9: None},
            ),
            {0: some, 1: A, 2: every, 3: every, 4: A, 5: B, 6: B, 8: short},
        ),
        "late, one at a time": late(arrived({}, 7, {1: B}, {0: A}, {2: C}), {0: A, 1: B, 2: C}),
        "late, what is here stays": late(arrived(own, 1, {1: C}, {0: B, 2: A}), {0: B, 2: B}),
        "late, what came stays": late(arrived(own, 1, {0: B}, {0: C}), {0: B, 2: B}),
        "late, stale and sent again": late(
            arrived({0: A}, 1, {0: wrong(sp.delta(A, B))}, {0: C}), {0: C}
        ),
        "late, stale and lines again": late(
            arrived({0: A}, 1, {0: wrong(sp.delta(A, B))}, {0: sp.delta(A, C)}), {0: C}
        ),
        "late, stale where it is here": late(
            arrived({0: A}, 2, {0: wrong(sp.unchanged(A)), 1: B}), {0: A, 1: B}
        ),
        "late delta on a hole": late(arrived({}, 1, {0: sp.delta(ZEROS, A)}), {0: A}),
        "late delta on a zero page": late(arrived({0: None}, 1, {0: sp.delta(ZEROS, A)}), {0: A}),
        "late copy of a zero page": late(
            arrived({0: A, 5: B}, 33, {0: None, 5: sp.copy(ZEROS, 0)}), {}
        ),
        "late copy of what is here": late(
            arrived({0: A}, 2, {0: C, 1: sp.copy(C, 0)}), {0: A, 1: C}
        ),
        "late delta on what is here": late(
            arrived({0: A}, 3, {0: B}, {0: sp.delta(ZEROS, C), 1: sp.copy(C, 0)}), {0: B, 1: C}
        ),
        "late unchanged where it is here": late(
            arrived({0: A}, 3, {0: B}, {0: sp.unchanged(A), 1: sp.copy(ZEROS, 0)}), {0: B}
        ),
        "late group over what is here": late(
            arrived(own, 5, sp.at(0, sp.lz4_group(C, A, A))), {0: C, 2: A}
        ),
        "late, zeros over what is here": late(
            arrived(own, 5, {0: None, 1: None, 2: None, 3: None}), {}
        ),
        "late, named twice": late(twice.end(), {0: A, 1: B}),
        "late, bitmap of several blocks": late(several.finish().end(), {128: A}),
        "late, compressed bitmap": late(many.finish().end(), {n: A for n in (0, 64, 128, 192)}, 2),
        "late, last page of a region": late(far.finish().end(), {256 + 122: C}, 2),
        "late, served": late(told.finish().end(), {0: A}),
        "late, nothing outstanding": late(empty.finish().end(), {0: A}),
        "suspect, then outstanding": late(doubtful({0: replace(sp.raw(A), hash=5)}), {0: B}),
        "stale, then outstanding": Good(
            doubtful({0: wrong(sp.unchanged(ZEROS))}), {0: B}, (1, 0, 0)
        ),
    }


def late(data: bytes, pages: dict[int, bytes], epochs: int = 3) -> Good:
    """A stream with so many epochs that leaves nothing stale."""
    return Good(data, pages, (0,) * epochs)


def doubtful(pages: dict[int, Entry]) -> bytes:
    """Pages that are not what they should be, and come late."""
    writer = Writer(REGIONS).begin().block(dict(pages)).finish()
    writer.begin(SEALED).outstanding([1]).finish()
    return writer.begin(LATE).block({0: B}).finish().end()


def order_cases() -> dict[str, Case]:
    def sealed() -> Writer:
        return departed({}, [1])

    twice = sealed().begin(LATE).block({0: A}).finish().begin(LATE).finish()
    after = sealed().begin(LATE).block({0: A}).finish().begin(SEALED).finish()
    fuzzy = Writer(REGIONS).begin().outstanding([1]).finish().begin(LATE).block({0: A}).finish()
    mixed = Writer(REGIONS).begin(SEALED).block({0: A}).outstanding([2]).finish()
    mixed.begin(LATE).block({1: A}).finish()
    relapse = Writer(REGIONS).begin().outstanding([1]).finish().begin(SEALED).block({1: A})
    relapse.finish().begin(LATE).block({0: A}).finish()
    within = sealed().begin(LATE).outstanding([1]).block({0: A}).finish()
    return {
        "two late epochs": Case(twice.end(), "follows a late one"),
        "sealed after late": Case(after.end(), "follows a late one"),
        "late after fuzzy": Case(fuzzy.end(), "follows no sealed one"),
        "late first": Case(Writer(REGIONS).begin(LATE).finish().end(), "follows no sealed one"),
        "pages and outstanding": Case(mixed.end(), "has pages although"),
        "pages after outstanding": Case(relapse.end(), "has pages although"),
        "outstanding late": Case(within.end(), "within a late epoch"),
        "outstanding outside": Case(
            Writer(REGIONS).add(sb.outstanding(1, [1])).end(), "outside an epoch"
        ),
        "outstanding elsewhere": Case(
            Writer(channel=(1, 2)).begin().outstanding([1]).finish().end(), "channel 0 only"
        ),
        "served outside": Case(Writer(REGIONS).add(sb.served(1)).end(), "outside an epoch"),
        "served too early": Case(
            Writer(REGIONS).begin().add(sb.served(1)).finish().end(), "late epoch only"
        ),
        "request": Case(Writer(REGIONS).add(sb.request(1)).end(), "does not belong"),
        "arrived": Case(Writer(REGIONS).add(Frame(ARRIVED)).end(), "does not belong"),
        "placed": Case(Writer(REGIONS).add(Frame(PLACED, bytes(16))).end(), "does not belong"),
        "never arrived": Case(sealed().end(), "outstanding pages have not come"),
        "one never arrived": Case(
            departed({}, [3]).begin(LATE).block({0: A}).finish().end(), "have not come"
        ),
    }


def bitmap_cases() -> dict[str, Case]:
    def of(*masks: int, **lies: Any) -> bytes:
        writer = Writer(REGIONS).begin(SEALED).outstanding(masks, **lies).finish()
        return writer.begin(LATE).block({0: A}).finish().end()

    def patched(**changes: Any) -> bytes:
        frame = replace(sb.outstanding(1, [1]), **changes)
        return Writer(REGIONS).begin(SEALED).add(frame).finish().end()

    head = sb.outstanding(1, [1]).head
    return {
        "outstanding region": Case(of(1, region=2), "names region 2"),
        "outstanding unaligned": Case(of(1, offset=PAGE), "not that of a block"),
        "outstanding past the end": Case(of(1, offset=4 * BLOCK), "not that of a block"),
        "outstanding nothing": Case(of(count=0), "names 0 blocks"),
        "outstanding too many": Case(of(1, 0, 0, 0, 0), "names 5 blocks"),
        "outstanding count": Case(of(1, count=2), "stored in 8 bytes"),
        "outstanding count huge": Case(of(1, count=(1 << 64) - 1), "names"),
        "outstanding page past the end": Case(
            of(1 << 59, region=1, offset=BLOCK), "past the end of its region"
        ),
        "outstanding hash": Case(of(1, bitmap_hash=9), "does not match its hash"),
        "outstanding encoding": Case(of(1, encoding=4), "unknown encoding 4"),
        "outstanding not zstd": Case(
            patched(head=head[:20] + b"\x05\0\0\0" + head[24:], body=b"1234567"), "Zstandard"
        ),
        "outstanding as large compressed": Case(of(1, squeeze=True), "stored in"),
        "outstanding other epoch": Case(
            patched(head=sb.outstanding(2, [1]).head), "belongs to epoch 2"
        ),
        "outstanding short": Case(patched(head=head[:-1]), "head has"),
        "outstanding long": Case(patched(head=head + b"\0"), "head has"),
        "outstanding without body": Case(patched(body=b""), "stored in 0"),
    }


def page_cases() -> dict[str, Case]:
    cases: dict[str, tuple[Callable[[], bytes], str]] = {
        "late raw": (lambda: arrived({}, 1, {0: wrong(sp.raw(A))}), "late page 0"),
        "late group": (lambda: arrived({}, 1, {0: wrong(sp.lz4_group(A)[0])}), "late page 0"),
        "late stale": (lambda: arrived({0: A}, 1, {0: wrong(sp.delta(A, B))}), "have not come"),
        "late copy of another frame": (
            lambda: arrived({}, 3, {0: A}, {1: sp.copy(A, 0)}),
            "described before in this frame",
        ),
        "late copy of what is behind": (
            lambda: arrived({}, 3, {0: sp.copy(A, PAGE), 1: A}),
            "described before in this frame",
        ),
        "late copy of another region": (
            lambda: arrived({}, 1, {0: sp.copy(A, 0, region=1)}),
            "described before in this frame",
        ),
        "late damaged delta": (lambda: arrived({}, 1, {0: damaged_delta()}), "lines changed"),
        "late damaged delta of what is here": (
            lambda: arrived({}, 1, {0: A}, {0: damaged_delta()}),
            "lines changed",
        ),
        "late copy of what is nowhere": (
            lambda: arrived({}, 1, {0: sp.copy(A, 4 * BLOCK)}),
            "which does not exist",
        ),
        "late copy on no page": (
            lambda: arrived({}, 3, {0: A, 1: sp.copy(A, 8)}),
            "where no page begins",
        ),
        "late copy reserved": (
            lambda: arrived({}, 3, {0: A, 1: sp.copy(A, 0, reserved=1)}),
            "reserved bytes",
        ),
        "late other epoch": (lambda: patched_pages(head=struct.pack("<Q", 2)), "epoch 2"),
        "late past the end": (
            lambda: patched_pages(head=struct.pack("<QQIIQQ", 3, 4 * BLOCK, 0, 0, 1, 1)),
            "past the end",
        ),
    }
    served = departed({}, [1]).begin(LATE).add(replace(sb.served(1), head=bytes(9)))
    return {
        **{name: Case(make(), reason) for name, (make, reason) in cases.items()},
        "served long": Case(served.block({0: A}).finish().end(), "head has"),
    }


def damaged_delta() -> Entry:
    """One that says more lines than it has."""
    return replace(sp.delta(ZEROS, edited(ZEROS, 0)), body=struct.pack("<Q", 3) + bytes(64))


def patched_pages(head: bytes) -> bytes:
    """A late zero page in a frame whose head begins in another way."""
    frame = sp.pages(3, {0: None})
    frame = replace(frame, head=head + frame.head[len(head) :])
    return departed({}, [1]).begin(LATE).add(frame).finish().end()


def bad_cases() -> dict[str, Case]:
    return order_cases() | bitmap_cases() | page_cases()

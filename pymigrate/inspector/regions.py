# SPDX-License-Identifier: Apache-2.0
"""The STREAM head (the channel and its regions) and the RANGES hint."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from .wire import (
    BLOCK_PAGES,
    MAX_CHANNELS,
    MAX_REGIONS,
    PAGE_BYTES,
    RANGE,
    RANGES_HEAD,
    REGION,
    REGION_RAM,
    STREAM_HEAD,
)

Fail = Callable[[str], NoReturn]

VERSION_MAJOR = 1
_ADDRESS_LIMIT = 1 << 64


@dataclass(frozen=True)
class Region:
    """Guest memory as the stream declares it; sizes in bytes."""

    name: str
    gpa: int
    size_bytes: int
    backing_page_bytes: int

    @property
    def pages(self) -> int:
        return self.size_bytes // PAGE_BYTES


@dataclass(frozen=True)
class StreamInfo:
    """What the first frame of a channel says."""

    version: tuple[int, int]
    channel_index: int
    channel_count: int
    session_id: str
    regions: tuple[Region, ...]


def decode_stream(head: bytes, fail: Fail) -> StreamInfo:
    """Decode and check the head of a STREAM frame."""
    if len(head) < STREAM_HEAD.size:
        fail(f"the STREAM head has {len(head)} bytes, at least {STREAM_HEAD.size} are needed")
    major, minor, index, count, session, page, block, n_regions, reserved = STREAM_HEAD.unpack_from(
        head
    )
    if major != VERSION_MAJOR:
        fail(f"stream version {major}.{minor} is not supported, only {VERSION_MAJOR}.x is")
    if not 1 <= count <= MAX_CHANNELS or index >= count:
        fail(f"channel {index} of {count} is impossible")
    if (page, block) != (PAGE_BYTES, BLOCK_PAGES):
        fail(f"pages of {page} bytes in blocks of {block} are not supported")
    if any(reserved):
        fail("reserved bytes of the STREAM head are set")
    if not 1 <= n_regions <= MAX_REGIONS:
        fail(f"{n_regions} regions are not between 1 and {MAX_REGIONS}")
    wanted = STREAM_HEAD.size + n_regions * REGION.size
    if len(head) != wanted:
        fail(f"the STREAM head has {len(head)} bytes, {n_regions} regions need {wanted}")
    regions = tuple(
        _decode_region(
            number, *REGION.unpack_from(head, STREAM_HEAD.size + number * REGION.size), fail=fail
        )
        for number in range(n_regions)
    )
    _check_overlap(regions, fail)
    return StreamInfo((major, minor), index, count, session.hex(), regions)


def _decode_region(
    number: int,
    gpa: int,
    size: int,
    backing: int,
    kind: int,
    reserved: int,
    raw_name: bytes,
    *,
    fail: Fail,
) -> Region:
    if gpa % PAGE_BYTES or size % PAGE_BYTES or not size:
        fail(f"region {number} (gpa {gpa:#x}, {size} bytes) is empty or not page aligned")
    if gpa + size > _ADDRESS_LIMIT:
        fail(f"region {number} reaches past the end of the address space")
    if kind != REGION_RAM:
        fail(f"region {number} is of unknown kind {kind}")
    if reserved:
        fail(f"reserved bytes of region {number} are set")
    name, _, padding = raw_name.partition(b"\0")
    if len(name) == len(raw_name) or any(padding):
        fail(f"the name of region {number} is not padded with zero bytes")
    return Region(name.decode("utf-8", "backslashreplace"), gpa, size, backing)


def _check_overlap(regions: tuple[Region, ...], fail: Fail) -> None:
    ordered = sorted(range(len(regions)), key=lambda number: regions[number].gpa)
    for left, right in itertools.pairwise(ordered):
        if regions[left].gpa + regions[left].size_bytes > regions[right].gpa:
            fail(f"regions {left} and {right} overlap")


def check_ranges(head: bytes, regions: tuple[Region, ...], fail: Fail) -> int:
    """Check a RANGES head; returns how many ranges it lists."""
    if len(head) < RANGES_HEAD.size:
        fail(f"the RANGES head has {len(head)} bytes, at least {RANGES_HEAD.size} are needed")
    count, reserved = RANGES_HEAD.unpack_from(head)
    wanted = RANGES_HEAD.size + count * RANGE.size
    if len(head) != wanted:
        fail(f"the RANGES head has {len(head)} bytes, {count} ranges need {wanted}")
    if reserved:
        fail("reserved bytes of the RANGES head are set")
    for number, (region, zero, offset, size) in enumerate(
        RANGE.iter_unpack(head[RANGES_HEAD.size :])
    ):
        if zero:
            fail(f"reserved bytes of range {number} are set")
        if region >= len(regions):
            fail(f"range {number} names region {region}, there are {len(regions)}")
        if offset % PAGE_BYTES or size % PAGE_BYTES or not size:
            fail(f"range {number} is empty or not page aligned")
        if offset + size > regions[region].size_bytes:
            fail(f"range {number} reaches past the end of region {region}")
    return int(count)

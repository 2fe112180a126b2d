# SPDX-License-Identifier: Apache-2.0
"""Lies that get past the outer checks: sums and hashes follow each change."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import lz4.block
import stream_pages as sp
import zstandard
from stream_builder import (
    BLOCK,
    END,
    EPOCH,
    EPOCH_END,
    M64,
    OUTSTANDING,
    PAGE,
    PAGES,
    STATE,
    Frame,
    end,
    epoch_end,
    page_digest,
    xxh3,
)
from stream_pages import Entry

HEAD = struct.Struct("<QQIIQQ")
ENTRY = struct.Struct("<QIBB2s")
SIZES = [0, 1, 8, 15, 16, 17, 72, 73, 4095, 4096, 4097, 4104, 8192, 1 << 18, (1 << 32) - 1]


def entries_of(frame: Frame) -> list[Entry]:
    """The entries of a frame, as far as its head and body are in order."""
    at, entries = 0, []
    for fields in ENTRY.iter_unpack(frame.head[HEAD.size :]):
        page_hash, size, encoding, span, reserved = fields
        body = frame.body[at : at + size]
        entries.append(Entry(encoding, page_hash, body, span, reserved, size))
        at += size
    return entries


def with_entries(frame: Frame, entries: list[Entry]) -> Frame:
    head = frame.head[: HEAD.size] + b"".join(entry.encode() for entry in entries)
    return replace(frame, head=head, body=b"".join(entry.body for entry in entries))


def digest_of(frame: Frame) -> int:
    """What a PAGES frame adds to the digest, if its masks make sense."""
    _, offset, region, _, mask, zero_mask = HEAD.unpack_from(frame.head)
    hashes = iter([entry.hash for entry in entries_of(frame)])
    total = 0
    for page in range(64):
        if mask >> page & 1:
            page_hash = 0 if zero_mask >> page & 1 else next(hashes, 0)
            total += page_digest(region, (offset // PAGE + page) & M64, page_hash)
    return total


def resum(frames: list[Frame]) -> list[Frame]:
    """The same frames with the counts and digests that belong to them."""
    done: list[Frame] = []
    number = kind = count = pages = digest = 0
    for frame in frames:
        if frame.type == EPOCH and len(frame.head) == 16:
            number, kind, _ = struct.unpack("<QII", frame.head)
            count = pages = 0
        elif frame.type == PAGES and len(frame.head) >= HEAD.size:
            count += 1
            pages += HEAD.unpack_from(frame.head)[4].bit_count()
            with suppress(struct.error):
                digest += digest_of(frame)
        elif frame.type == OUTSTANDING and len(frame.head) >= 40:
            digest += struct.unpack_from("<Q", frame.head, 32)[0]
        elif frame.type == STATE:
            digest += xxh3(frame.body)
        elif frame.type == EPOCH_END:
            frame = epoch_end(number, kind, count, pages, digest & M64)
            digest = 0
        elif frame.type == END:
            frame = end(len(done))
        done.append(frame)
    return done


def rehash(entries: list[Entry], at: int) -> None:
    """Let the hashes of an entry, or its group, say what its body gives."""
    entry = entries[at]
    if entry.encoding == sp.RAW:
        entries[at] = replace(entry, hash=xxh3(entry.body))
    plain = b""
    with suppress(Exception):
        # Garbage makes these fail in many ways; then there is no hash.
        if entry.encoding == sp.LZ4:
            plain = lz4.block.decompress(entry.body, uncompressed_size=entry.span * PAGE)
        if entry.encoding == sp.ZSTD:
            squeezed = zstandard.ZstdDecompressor()
            plain = squeezed.decompress(entry.body, max_output_size=entry.span * PAGE)
    for n in range(min(len(plain) // PAGE, len(entries) - at)):
        page = plain[n * PAGE : (n + 1) * PAGE]
        entries[at + n] = replace(entries[at + n], hash=xxh3(page))


def lie_in_body(entries: list[Entry], at: int, chosen: random.Random) -> None:
    """A byte changes, or some are cut off, added or taken from elsewhere."""
    body = bytearray(entries[at].body)
    match chosen.randrange(5):
        case 0 | 1 if body:
            body[chosen.randrange(len(body))] = chosen.choice([0, 1, 0x7F, 0x80, 0xFF])
        case 2 if body:
            del body[chosen.randrange(len(body)) :]
        case 3:
            body += chosen.randbytes(chosen.choice([1, 4, 64]))
        case _:
            body = bytearray(chosen.choice(entries).body)
    entries[at] = replace(entries[at], body=bytes(body), stored=None)
    if chosen.random() < 0.7:
        rehash(entries, at)


def lie_in_entry(entries: list[Entry], at: int, chosen: random.Random) -> None:
    """A field of the entry changes; the body stays, or follows the size."""
    entry = entries[at]
    match chosen.randrange(5):
        case 0:
            entry = replace(entry, encoding=chosen.choice([0, 1, 2, 3, 4, 5, 6, 255]))
        case 1:
            entry = replace(entry, span=chosen.choice([0, 1, 2, 3, 63, 64, 65, 255]))
        case 2:
            entry = replace(entry, stored=chosen.choice(SIZES))
        case 3:
            size = chosen.choice(SIZES[:-1])
            entry = replace(entry, body=(entry.body + bytes(size))[:size], stored=None)
        case _:
            entry = replace(entry, hash=chosen.choice([0, entry.hash ^ 1, entries[0].hash]))
    entries[at] = entry


def swap_entries(entries: list[Entry], at: int, chosen: random.Random) -> None:
    """Two entries change places, and so the pages that they are for."""
    other = chosen.randrange(len(entries))
    entries[at], entries[other] = entries[other], entries[at]


def plain_bitmap(frame: Frame) -> bytes:
    """The bitmap of an OUTSTANDING frame, as far as it is in order."""
    with suppress(zstandard.ZstdError):
        return zstandard.ZstdDecompressor().decompress(frame.body, max_output_size=1 << 18)
    return frame.body


def lie_in_bitmap(frame: Frame, chosen: random.Random) -> Frame:
    """Other pages are outstanding; or a field or the body is damaged."""
    number, offset, region, encoding, count, digest = HEAD.unpack_from(frame.head)
    bitmap, body = bytearray(plain_bitmap(frame)), frame.body
    match chosen.randrange(7):
        case 0 | 1 | 2 if bitmap:
            at = chosen.randrange(len(bitmap))
            bitmap[at] = chosen.choice([0, 1, 0xFF, bitmap[at] ^ 0x10])
            body, encoding, digest = bytes(bitmap), 0, xxh3(bytes(bitmap))
        case 3:
            bitmap = bytearray(bytes(len(bitmap)))
            body = zstandard.ZstdCompressor().compress(bytes(bitmap))
            encoding, digest = 5, xxh3(bytes(bitmap))
        case 4:
            count = chosen.choice([0, 1, count - 1, count + 1, 1 << 15, 1 << 61, M64]) & M64
        case 5:
            offset, region = chosen.choice([(0, 1), (BLOCK, region), (PAGE, 0), (0, 2)])
        case _:
            encoding = chosen.choice([0, 1, 4, 5, 6])
    head = HEAD.pack(number, offset, region, encoding, count, digest)
    return replace(frame, head=head, body=body)


Lie = Callable[[list[Entry], int, random.Random], None]
LIES: tuple[Lie, ...] = (lie_in_body, lie_in_body, lie_in_entry, swap_entries)


def mutate(frames: list[Frame], chosen: random.Random) -> list[Frame]:
    """One to three lies about pages, with everything else made to fit."""
    frames = list(frames)
    named = [n for n, f in enumerate(frames) if f.type == OUTSTANDING]
    if named and chosen.random() < 0.3:
        at = chosen.choice(named)
        frames[at] = lie_in_bitmap(frames[at], chosen)
        return resum(frames)
    places = [n for n, f in enumerate(frames) if f.type == PAGES and len(f.head) > HEAD.size]
    for _ in range(chosen.choice([1, 1, 2, 3]) if places else 0):
        at = chosen.choice(places)
        entries = entries_of(frames[at])
        chosen.choice(LIES)(entries, chosen.randrange(len(entries)), chosen)
        frames[at] = with_entries(frames[at], entries)
    return resum(frames)

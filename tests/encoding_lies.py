# SPDX-License-Identifier: Apache-2.0
"""Streams with every encoding that a decoder must refuse.

Each case is the bytes of a stream and words of the reason, as a regular
expression for the inspector's and the receiver's sentence alike.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lz4.block
import stream_pages as sp
import zstandard
from encoding_cases import REGIONS, ZEROS, A, B, C, epochs, noise, streamed, wrong
from stream_builder import BLOCK, PAGE, SEALED, Writer
from stream_cases import Case
from stream_pages import Entry

# What both decoders say of a compressed body that gives something else.
WORDS = "compress|hash|LZ4|Zstandard|dictionary|window"
SQUEEZE = zstandard.ZstdCompressor(level=1)


def sealed(*entries: Entry | None, first: int = 0) -> bytes:
    """One sealed epoch of the first block."""
    return epochs(dict(enumerate(entries, first)))


def group_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name, make in (("lz4", sp.lz4_group), ("zstd", sp.zstd_group)):
        one, (first, second) = make(A)[0], make(A, B)
        other = sp.ZSTD if name == "lz4" else sp.LZ4
        cases |= {
            f"{name} span 0": Case(sealed(replace(one, span=0)), "span|group"),
            f"{name} span 65": Case(sealed(replace(one, span=65)), "span|group"),
            f"{name} span 255": Case(sealed(replace(one, span=255)), "span|group"),
            f"{name} span past the entries": Case(sealed(first), "span|group"),
            f"{name} stored in nothing": Case(sealed(replace(one, body=b"")), "stored|bytes|size"),
            f"{name} follower stores": Case(
                sealed(first, replace(second, body=b"x")), "stored|bytes|group"
            ),
            f"{name} follower of another kind": Case(
                sealed(first, replace(second, encoding=other)), "group|encoding|span"
            ),
            f"{name} follower is unchanged": Case(
                sealed(first, replace(second, encoding=sp.UNCHANGED)), "group|encoding"
            ),
            f"{name} follower has a span": Case(
                sealed(first, replace(second, span=1)), "span|group"
            ),
            f"{name} follower alone": Case(sealed(second), "span|group|stored"),
            f"{name} wrong hash": Case(epochs({0: wrong(one)}, {0: A}), "hash|damaged"),
            f"{name} wrong hash of a follower": Case(
                epochs({0: first, 1: wrong(second)}, {0: A, 1: A}), "hash|damaged"
            ),
        }
    return cases


def body_cases(name: str, encoding: int, squeezed: Sequence[bytes]) -> dict[str, Case]:
    """Bodies that do not give what they should: of one page, of two."""
    one, two = squeezed

    def of(body: bytes, *content: bytes) -> Case:
        return Case(
            sealed(*sp.group(encoding, content or (C,), body)),
            WORDS,
        )

    flipped = bytes([*one[: len(one) // 2], one[len(one) // 2] ^ 0x55, *one[len(one) // 2 + 1 :]])
    return {
        f"{name} cut off": of(one[:-1]),
        f"{name} first byte only": of(one[:1]),
        f"{name} garbled": of(flipped),
        f"{name} garbage": of(noise(4, 300)),
        f"{name} too much": of(two),
        f"{name} too little": of(one, C, C),
        f"{name} trailing byte": of(one + b"\0"),
        f"{name} twice": of(one + one, C, C),
    }


def lz4_cases() -> dict[str, Case]:
    def squeeze(data: bytes) -> bytes:
        return lz4.block.compress(data, store_size=False)

    large = squeeze(noise(5))
    assert len(large) > PAGE
    text = (C[:64] * 64)[:PAGE]
    cases = body_cases("lz4", sp.LZ4, (squeeze(C[:2000] + bytes(PAGE - 2000)), squeeze(text * 2)))
    return cases | {
        "lz4 larger than its page": Case(
            sealed(*sp.group(sp.LZ4, [noise(5)], large)), "stored|bytes|size"
        ),
        # A match that reaches back before the first byte.
        "lz4 match before the start": Case(
            sealed(Entry(sp.LZ4, 0, b"\x1fA\xff\xff" + b"\xff" * 15 + b"\xea\x50AAAAA", 1)),
            WORDS,
        ),
    }


def zstd_cases() -> dict[str, Case]:
    one = SQUEEZE.compress(C[:2000] + bytes(PAGE - 2000))
    frames = body_cases("zstd", sp.ZSTD, (one, SQUEEZE.compress(bytes(2 * PAGE))))
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    wide = [C[:64] * 64] * 64
    summed = bytearray(sp.zstd_group(B, checksum=True)[0].body)
    summed[-1] ^= 1
    # Magic, descriptor: single segment, one byte of dictionary ID.
    with_dictionary = one[:4] + bytes([one[4] | 1]) + b"\7" + one[5:]
    bomb = SQUEEZE.compress(bytes(64 << 20))

    def of(body: bytes, *pages: bytes) -> Case:
        return Case(sealed(*sp.group(sp.ZSTD, pages or (ZEROS,), body)), WORDS)

    return frames | {
        "zstd skippable frame": of(skippable),
        "zstd after a skippable frame": of(skippable + SQUEEZE.compress(ZEROS)),
        "zstd before a skippable frame": of(SQUEEZE.compress(ZEROS) + skippable),
        "zstd window too large": of(streamed(19, *wide), *wide),
        "zstd window huge": of(streamed(27, *wide), *wide),
        "zstd content checksum": of(bytes(summed), B),
        "zstd dictionary": of(with_dictionary, C[:2000] + bytes(PAGE - 2000)),
        "zstd bomb": of(bomb, *[ZEROS] * 64),
        "zstd bomb of unknown size": of(streamed(18, bytes(64 << 20)), *[ZEROS] * 64),
        "zstd empty frame": of(SQUEEZE.compress(b"")),
        "zstd old magic": of(b"\x25\xb5\x2f\xfd" + one[4:]),
    }


def delta_cases() -> dict[str, Case]:
    line = bytes(range(64))

    def of(mask: int, lines: bytes) -> Case:
        entry = Entry(sp.DELTA, 1, struct.pack("<Q", mask) + lines)
        return Case(sealed(entry), "delta|stored|bytes|mask")

    def short(size: int) -> Case:
        return Case(sealed(Entry(sp.DELTA, 1, bytes([1] * size))), "delta|stored|bytes|mask")

    return {
        "delta of no lines": of(0, b""),
        "delta of no lines with one": of(0, line),
        "delta without its line": of(1, b""),
        "delta with a line more": of(1 << 63, line * 2),
        "delta with a line less": of(3, line),
        "delta half a line": of(3, line + line[:32]),
        "delta of all lines, one less": of((1 << 64) - 1, line * 63),
        "delta of all lines, one more": of((1 << 64) - 1, line * 65),
        "delta empty": short(0),
        "delta half a mask": short(7),
        "delta span": Case(sealed(replace(sp.delta(ZEROS, A), span=1)), "span|reserved"),
    }


def copy_cases() -> dict[str, Case]:
    words = "copy|copies|described"

    def of(entry: Entry) -> Case:
        """Page 0 was sent now, page 1 in the epoch before."""
        return Case(epochs({1: A}, {0: A, 5: entry}), words)

    def sized(size: int) -> Case:
        entry = replace(sp.copy(A, 0), body=(sp.copy(A, 0).body + bytes(9))[:size])
        return Case(epochs({0: A, 5: entry}), words + "|stored|bytes")

    late = Writer(REGIONS).begin(SEALED).block({0: sp.copy(A, BLOCK)}).block({0: A}, offset=BLOCK)
    return {
        "copy of the epoch before": of(sp.copy(A, PAGE)),
        "copy of a hole": of(sp.copy(ZEROS, 2 * PAGE)),
        "copy of itself": of(sp.copy(ZEROS, 5 * PAGE)),
        "copy of a later entry": Case(epochs({0: sp.copy(A, PAGE), 1: A}), words),
        "copy of a later frame": Case(late.finish().end(), words),
        "copy of another block": of(sp.copy(ZEROS, BLOCK)),
        "copy unaligned": of(sp.copy(A, 8)),
        "copy past the end": of(sp.copy(ZEROS, 4 * BLOCK)),
        "copy past the end of a short block": of(sp.copy(ZEROS, BLOCK + 59 * PAGE, region=1)),
        "copy of a far offset": of(sp.copy(ZEROS, (1 << 64) - PAGE)),
        "copy of region 2": of(sp.copy(A, 0, region=2)),
        "copy of a far region": of(sp.copy(A, 0, region=(1 << 32) - 1)),
        "copy reserved": of(sp.copy(A, 0, reserved=1)),
        "copy span": Case(epochs({0: A, 5: replace(sp.copy(A, 0), span=1)}), "span|reserved"),
        "copy empty": sized(0),
        "copy short": sized(15),
        "copy long": sized(17),
    }


def entry_cases() -> dict[str, Case]:
    """Rules that every entry has to keep."""
    one, unchanged = sp.raw(A), sp.unchanged(ZEROS)
    cases = {
        "raw span": Case(sealed(replace(one, span=1)), "span|reserved"),
        "raw empty": Case(sealed(replace(one, body=b"")), "stored|bytes"),
        "unchanged span": Case(sealed(replace(unchanged, span=1)), "span|reserved"),
        "unchanged with a body": Case(
            sealed(replace(unchanged, body=ZEROS)), "contents|stored|bytes"
        ),
        "unchanged with a byte": Case(
            sealed(replace(unchanged, body=b"x")), "contents|stored|bytes"
        ),
        "stored less than the body": Case(
            sealed(sp.delta(ZEROS, A), replace(unchanged, body=b"x", stored=0)), "body|make up"
        ),
        "stored more than the body": Case(
            sealed(replace(sp.lz4_group(A)[0], stored=2000)), "body|make up"
        ),
        "stored more than 32 bits": Case(
            sealed(*[replace(sp.lz4_group(A)[0], stored=(1 << 32) - 1)] * 2),
            "body|stored|bytes|size",
        ),
        "block twice": Case(
            Writer(REGIONS).begin(SEALED).block({0: A}).block({1: A}).finish().end(),
            "twice|second time",
        ),
    }
    for entry in (one, unchanged, sp.delta(ZEROS, A), sp.lz4_group(A)[0], sp.zstd_group(A)[0]):
        for at, bits in enumerate((b"\1\0", b"\0\x80")):
            name = f"reserved byte {at} of encoding {entry.encoding}"
            cases[name] = Case(sealed(replace(entry, reserved=bits)), "reserved")
    for encoding in (6, 7, 15, 16, 63, 64, 127, 128, 255):
        for size in (0, PAGE):
            entry = replace(one, encoding=encoding, body=bytes(size))
            cases[f"encoding {encoding} of {size} bytes"] = Case(sealed(entry), "encoding")
    return cases


def left_cases() -> dict[str, Case]:
    """Pages that are wrong, and stay so."""
    stale = {
        "unchanged": wrong(sp.unchanged(A)),
        "delta": wrong(sp.delta(A, B)),
        "copy": wrong(sp.copy(C, PAGE)),
    }
    cases: dict[str, Case] = {}
    for name, entry in stale.items():
        first: dict[int, Any] = {0: A, 1: C}
        now: dict[int, Any] = {9: entry, 1: C} if name == "copy" else {0: entry}
        cases |= {
            f"stale {name} is left": Case(epochs(first, now, {}), "stale|built"),
            f"stale {name} comes last": Case(epochs(first, now), "stale|built"),
            f"stale {name} is settled too late": Case(
                epochs(first, now, {0: A, 9: A}, kinds="fsf"), "stale|built"
            ),
            f"stale {name} of the last of two": Case(
                epochs(first, now, now, kinds="fss"), "stale|built"
            ),
        }
    suspect = {0: replace(sp.raw(A), hash=5)}
    words = "hash|changed while"
    return cases | {
        "suspect page is left": Case(epochs(suspect, {}), words),
        "suspect page in the sealed epoch": Case(epochs(suspect), words),
        "suspect page is mended too late": Case(epochs(suspect, {}, {0: A}, kinds="fss"), words),
    }


def bad_cases() -> dict[str, Case]:
    return {
        **group_cases(),
        **lz4_cases(),
        **zstd_cases(),
        **delta_cases(),
        **copy_cases(),
        **entry_cases(),
        **left_cases(),
    }

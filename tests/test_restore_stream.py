# SPDX-License-Identifier: Apache-2.0
"""Restoring lazily out of streams that are right, and out of streams that lie.

The receiver, which applies every frame in its order, is what the restore is
compared with: it looks at the last version of each page, and traces that
back through whatever it rests on.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
import stream_builder as sb
import stream_late
import stream_pages as sp
from encoding_cases import A, B, C, edited, epochs, good_cases, noise
from encoding_lies import bad_cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_builder import BLOCK, PAGE, SEALED, Frame, Writer
from stream_cases import all_cases
from stream_decoders import REGIONS, by_restore, ends_sealed, restore_agrees
from stream_history import frames_of, random_history
from stream_mutations import mutate

pytestmark = pytest.mark.uffd

GOOD = good_cases()
LATE = stream_late.good_cases()
# What a machine is, in CONFIG, is for those who build it.
SHAPES = {name: case for name, case in all_cases().items() if "JSON" not in case.reason}
LIES = bad_cases()
SAMPLE = sb.encode(sb.sample())

relaxed = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", GOOD)
def test_every_encoding(name: str) -> None:
    data = GOOD[name].data
    assert restore_agrees(data) == ends_sealed(data)


@pytest.mark.parametrize("name", LATE)
def test_pages_that_came_late_are_not_in_the_file(name: str) -> None:
    words = by_restore(LATE[name].data)
    assert isinstance(words, str) and "late" in words


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_format_forbids(name: str) -> None:
    assert isinstance(by_restore(SHAPES[name].data), str)


@pytest.mark.parametrize("name", LIES)
def test_lies_about_pages(name: str) -> None:
    restore_agrees(LIES[name].data)


def test_every_truncation() -> None:
    for size in [*range(0, 700, 7), *range(700, len(SAMPLE), 211), len(SAMPLE) - 1]:
        words = by_restore(SAMPLE[:size])
        assert isinstance(words, str), f"cut off after {size} bytes"


# ---- what a page may rest on ------------------------------------------------


def test_deltas_over_many_epochs() -> None:
    versions = [noise(1)]
    for line in range(40):
        versions.append(edited(versions[-1], line, 63))
    parts = [{0: sp.raw(versions[0])}]
    parts += [{0: sp.delta(old, new)} for old, new in itertools.pairwise(versions)]
    data = epochs(*parts)
    assert restore_agrees(data)
    memory = by_restore(data)
    assert not isinstance(memory, str) and memory[0][:PAGE] == versions[-1]


def test_copies_of_copies_across_blocks() -> None:
    writer = Writer(REGIONS).begin()
    writer.block({3: sp.raw(A)}, 0, 0)
    original = 3 * PAGE
    for offset in (BLOCK, 2 * BLOCK, 3 * BLOCK):
        writer.block({5: sp.copy(A, original)}, offset=offset)
        original = offset + 5 * PAGE
    writer.finish()
    # The copies were made before their originals changed.
    writer.begin(SEALED).block({3: sp.raw(B), 7: None}, 0, 0).finish()
    data = writer.end()
    assert restore_agrees(data)
    memory = by_restore(data)
    assert not isinstance(memory, str)
    assert memory[0][3 * PAGE : 4 * PAGE] == B
    assert memory[0][3 * BLOCK + 5 * PAGE : 3 * BLOCK + 6 * PAGE] == A


def test_delta_over_a_copy_of_a_page_in_a_group() -> None:
    writer = Writer(REGIONS).begin()
    writer.block(dict(enumerate(sp.zstd_group(A, B, C))), 0, 0)
    writer.block({0: sp.copy(B, PAGE)}, 0, BLOCK)
    writer.finish().begin(SEALED)
    writer.block({0: sp.delta(B, edited(B, 3))}, 0, BLOCK)
    data = writer.finish().end()
    assert restore_agrees(data)


def test_delta_that_does_not_fit_is_refused() -> None:
    data = epochs({0: sp.raw(A)}, {0: sp.delta(B, edited(B, 3))})
    words = by_restore(data)
    assert isinstance(words, str) and "cannot be built" in words


# ---- the index of a file ----------------------------------------------------

INDEX = 13
ENTRY = struct.Struct("<QQQQII")
Entries = list[list[int]]


def frames_in(data: bytes) -> list[Frame]:
    """Those of a whole stream, as they can be encoded again."""
    frames, at = [], 0
    while at < len(data):
        head, body = struct.unpack_from("<II", data, at + 20)
        split = at + 40 + head
        frames.append(Frame(data[at + 16], data[at + 40 : split], data[split : split + body]))
        frames[-1] = replace(frames[-1], flags=data[at + 17])
        at = split + body
    return frames


def entries_of(frames: list[Frame]) -> tuple[Entries, int]:
    """What an index says of the frames, and where the last STATE is."""
    found: Entries = []
    at, state_at = 0, 0
    for sequence, frame in enumerate(frames):
        if frame.type == sb.PAGES:
            _, offset, region, _, mask, zero = struct.unpack_from("<QQIIQQ", frame.head)
            found.append([at, offset, mask, zero, region, sequence])
        if frame.type == sb.STATE:
            state_at = at
        at += 40 + len(frame.head) + len(frame.body)
    return found, state_at


def indexed(frames: list[Frame], lie: Callable[[Entries], None] = lambda _: None) -> bytes:
    """The frames with an index before their END; lie changes its entries."""
    entries, state_at = entries_of(frames)
    lie(entries)
    body = b"".join(ENTRY.pack(*entry) for entry in entries)
    body += struct.pack("<Q", 40 + 32 + len(body) + 8)
    (kind,) = struct.unpack_from("<I", [f for f in frames if f.type == sb.EPOCH][-1].head, 8)
    head = struct.pack("<QQQII", sb.xxh3(body), len(entries), state_at, kind, 0)
    return sb.encode([*frames[:-1], Frame(INDEX, head, body, 1), sb.end(len(frames))])


@pytest.mark.parametrize("name", GOOD)
def test_every_encoding_by_an_index(name: str) -> None:
    data = indexed(frames_in(GOOD[name].data))
    assert restore_agrees(data) == ends_sealed(data)


@relaxed
@given(seeds)
def test_histories_by_an_index(seed: int) -> None:
    frames = frames_of(random_history(REGIONS, seed))
    if any(frame.type == sb.EPOCH for frame in frames):
        data = indexed(frames)
        assert restore_agrees(data) == ends_sealed(data)


@relaxed
@given(seeds, st.integers(0, 99), st.integers(0, 5), st.sampled_from([0, 1, 8, 63, 4096, 1 << 31]))
def test_index_that_lies(seed: int, which: int, field: int, value: int) -> None:
    """It may keep pages from being found; never is another one taken for them."""
    frames = frames_of(random_history(REGIONS, seed))
    entries, _ = entries_of(frames)
    if not entries:
        return

    def lie(entries: Entries) -> None:
        entries[which % len(entries)][field] ^= value

    truth, found = by_restore(sb.encode(frames)), by_restore(indexed(frames, lie))
    if isinstance(truth, str) or isinstance(found, str):
        return
    for mine, right in zip(found, truth, strict=True):
        for at in range(0, len(mine), PAGE):
            page = mine[at : at + PAGE]
            assert page == right[at : at + PAGE] or not any(page) or field in (2, 3)


# ---- random streams ---------------------------------------------------------


@relaxed
@given(seeds)
def test_histories(seed: int) -> None:
    data = sb.encode(frames_of(random_history(REGIONS, seed)))
    assert restore_agrees(data) == ends_sealed(data)


@settings(relaxed, max_examples=200)
@given(seeds, seeds)
def test_mutations(seed: int, lie: int) -> None:
    """Every sum and, mostly, every hash follows the lie."""
    frames = frames_of(random_history(REGIONS, seed))
    restore_agrees(sb.encode(mutate(frames, random.Random(lie))))


@relaxed
@given(seeds, st.data())
def test_flipped_bits(seed: int, data: st.DataObject) -> None:
    stream = bytearray(sb.encode(frames_of(random_history(REGIONS, seed))))
    at = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[at // 8] ^= 1 << at % 8
    restore_agrees(bytes(stream))

# SPDX-License-Identifier: Apache-2.0
"""Every encoding, right and wrong, by both decoders of the format page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import stream_pages as sp
from encoding_cases import A, B, C, good_cases, wrong
from encoding_lies import bad_cases
from stream_builder import BLOCK, FUZZY, PAGE, SEALED, Writer
from stream_decoders import REGIONS, Decoded, by_inspector, by_receiver

GOOD, BAD = good_cases(), bad_cases()
DECODERS = pytest.mark.parametrize("decode", [by_inspector, by_receiver])
Decode = Callable[[bytes], Decoded | str]


def placed(page: int) -> tuple[int, int]:
    """Region and number; the pages of the second follow those of the first."""
    first = REGIONS[0].size // PAGE
    return (0, page) if page < first else (1, page - first)


@DECODERS
@pytest.mark.parametrize("name", GOOD)
def test_taken(name: str, decode: Decode) -> None:
    case = GOOD[name]
    found = decode(case.data)
    assert isinstance(found, Decoded), found
    assert found.pages() == {placed(page): data for page, data in case.pages.items()}
    assert found.stale == case.stale


@DECODERS
@pytest.mark.parametrize("name", BAD)
def test_refused(name: str, decode: Decode) -> None:
    found = decode(BAD[name].data)
    assert isinstance(found, str), "accepted"
    assert re.search(BAD[name].reason, found), found


# ---- several channels: the receiver alone reads more than one ---------------

Parts = dict[int, dict[int, bytes | sp.Entry | None]]


def two_channels(*epochs: tuple[int, Parts, Parts]) -> tuple[bytes, bytes]:
    """Epochs as their kind and, for each channel, blocks by offset."""
    writers = [Writer(REGIONS, (channel, 2)) for channel in range(2)]
    for kind, *parts in epochs:
        for writer, blocks in zip(writers, parts, strict=True):
            writer.begin(kind)
            for offset, contents in blocks.items():
                writer.block(contents, offset=offset)
            writer.finish()
    return writers[0].end(), writers[1].end()


def test_a_block_may_change_its_channel() -> None:
    mended = sp.delta(B, C)
    found = by_receiver(
        *two_channels(
            (FUZZY, {0: {0: A, 1: replace(sp.raw(A), hash=5)}}, {BLOCK: {3: B}}),
            (FUZZY, {BLOCK: {3: mended}}, {0: {0: wrong(sp.delta(A, B)), 1: C}}),
            (SEALED, {0: {0: C}}, {}),
        )
    )
    assert isinstance(found, Decoded), found
    assert found.pages() == {(0, 0): C, (0, 1): C, (0, 67): C}
    assert (found.suspect, found.stale) == ((1, 0, 0), (0, 1, 0))


def test_stale_pages_of_all_channels_count() -> None:
    found = by_receiver(
        *two_channels(
            (FUZZY, {0: {0: wrong(sp.unchanged(A))}}, {BLOCK: {7: wrong(sp.unchanged(A))}}),
            (FUZZY, {}, {}),
            (SEALED, {}, {0: {0: A}, BLOCK: {7: A}}),
        )
    )
    assert isinstance(found, Decoded), found
    assert found.stale == (2, 2, 0)


def test_copy_from_another_channel_is_refused() -> None:
    found = by_receiver(
        *two_channels((FUZZY, {0: {0: A}}, {}), (SEALED, {0: {0: B}}, {BLOCK: {1: sp.copy(B, 0)}}))
    )
    assert isinstance(found, str) and "copy" in found


def test_block_on_both_channels_is_refused() -> None:
    found = by_receiver(*two_channels((SEALED, {0: {0: A}}, {0: {1: B}})))
    assert isinstance(found, str) and "twice" in found


def test_stale_page_of_either_channel_is_left() -> None:
    found = by_receiver(
        *two_channels((FUZZY, {0: {0: A}}, {}), (SEALED, {}, {0: {0: wrong(sp.unchanged(A))}}))
    )
    assert isinstance(found, str) and "stale" in found

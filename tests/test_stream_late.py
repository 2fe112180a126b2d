# SPDX-License-Identifier: Apache-2.0
"""Pages that come late on several channels, and on connections made anew.

Each channel is decoded by the inspector alone, all of them together by the
receiver; tests/test_stream_format.py has streams of one channel.
"""

from __future__ import annotations

import io
import mmap

import pytest
import stream_builder as sb
import stream_pages as sp
from encoding_cases import REGIONS, A, B, C, edited
from stream_builder import LATE, PAGE, SEALED, Writer
from stream_decoders import ANONYMOUS, COPIED_FILES, FILES, Backing, Decoded, by_receiver
from stream_late import departed

from pymigrate import _engine as engine
from pymigrate.inspector import Decoder, EpochKind, StreamError, Summary

SOME = edited(B, 1, 5)
HANG_MS = 20_000


def pair() -> tuple[Writer, Writer]:
    """Two channels up to the late epoch; pages 0 to 2 are outstanding."""
    first = Writer(REGIONS, channel=(0, 2)).begin().block({0: A, 1: B, 9: C}).finish()
    second = Writer(REGIONS, channel=(1, 2)).begin().finish()
    first.begin(SEALED).outstanding([7]).finish().begin(LATE)
    second.begin(SEALED).finish().begin(LATE)
    return first, second


def inspect(data: bytes) -> Summary:
    return Decoder(io.BytesIO(data)).run()


@pytest.mark.parametrize("backing", [ANONYMOUS, FILES, COPIED_FILES])
def test_late_pages_come_on_all_channels(backing: Backing) -> None:
    first, second = pair()
    first.block({0: C, 9: A})
    second.add(sb.served(100)).block({1: sp.delta(B, SOME), 2: sp.copy(SOME, PAGE)})
    found = by_receiver(first.finish().end(), second.finish().end(), backing=backing)
    assert isinstance(found, Decoded)
    assert found.pages() == {(0, 0): C, (0, 1): SOME, (0, 2): SOME, (0, 9): C}


def test_a_page_that_comes_on_two_channels_is_placed_once() -> None:
    first, second = pair()
    for writer in (first, second):
        for page in range(3):
            writer.block({page: sb.page_of(page)})
    found = by_receiver(first.finish().end(), second.finish().end())
    assert isinstance(found, Decoded)
    assert found.pages() == {(0, n): sb.page_of(n) for n in range(3)} | {(0, 9): C}


def test_a_page_that_comes_on_no_channel_is_missing() -> None:
    first, second = pair()
    first.block({0: A})
    second.block({2: A})
    assert by_receiver(first.finish().end(), second.finish().end()) == "1 pages are missing"


def test_one_channel_of_several_is_valid_and_not_a_machine() -> None:
    first, second = pair()
    first.block({0: C})
    second.block({1: sp.delta(B, SOME), 2: A})
    summary = inspect(first.finish().end())
    assert summary.complete and not summary.loadable and summary.rests_on_others
    assert [epoch.outstanding_pages for epoch in summary.epochs] == [0, 3, 2]
    summary = inspect(second.finish().end())
    assert summary.complete and not summary.loadable and summary.rests_on_others
    # The delta rests on a page of the other channel.
    assert [epoch.stale_pages for epoch in summary.epochs] == [0, 0, 1]


def test_damage_is_found_on_one_channel_of_several() -> None:
    _, second = pair()
    second.block({1: A}, hashes={1: 7})
    with pytest.raises(StreamError, match="late page 1 does not match its hash"):
        inspect(second.finish().end())


def test_pages_are_named_on_the_first_channel_only() -> None:
    first = Writer(REGIONS, channel=(0, 2)).begin(SEALED).finish()
    second = Writer(REGIONS, channel=(1, 2)).begin(SEALED).outstanding([1]).finish()
    found = by_receiver(first.end(), second.end())
    assert isinstance(found, str) and "OUTSTANDING frame out of place" in found
    with pytest.raises(StreamError, match="OUTSTANDING is allowed on channel 0 only"):
        inspect(second.end())


def test_no_channel_has_pages_once_some_are_outstanding() -> None:
    first = Writer(REGIONS, channel=(0, 2)).begin(SEALED).outstanding([1]).finish()
    second = Writer(REGIONS, channel=(1, 2)).begin(SEALED).block({9: A}).finish()
    found = by_receiver(first.end(), second.end())
    assert isinstance(found, str) and "has pages although they were named" in found


def test_an_epoch_is_late_on_all_channels_or_none() -> None:
    first, _ = pair()
    second = Writer(REGIONS, channel=(1, 2)).begin().finish().begin(SEALED).finish()
    second.begin(SEALED).finish()
    found = by_receiver(first.block({0: A, 1: A, 2: A}).finish().end(), second.end())
    assert isinstance(found, str) and "epoch 3 is of one kind on one channel" in found


def test_late_page_on_one_channel_rests_on_nothing_of_another() -> None:
    first, second = pair()
    first.block({0: C})
    second.block({1: sp.copy(C, 0), 2: A})
    found = by_receiver(first.finish().end(), second.finish().end())
    assert isinstance(found, str) and "a copy of a page that was not sent before" in found
    with pytest.raises(StreamError, match="not described before in this frame"):
        inspect(second.end())


# ---- connections made anew -------------------------------------------------


def resumed(channel: int) -> Writer:
    return Writer(REGIONS, channel=(channel, 2)).begin(LATE)


def test_a_stream_of_several_channels_may_begin_with_late_pages() -> None:
    summary = inspect(resumed(1).block({0: A}).finish().end())
    assert [epoch.kind for epoch in summary.epochs] == [EpochKind.LATE]
    assert summary.complete and not summary.loadable and summary.rests_on_others
    found = by_receiver(resumed(0).finish().end(), resumed(1).block({0: A}).finish().end())
    assert isinstance(found, str)
    assert "the stream begins with late pages, and none is missing" in found


def test_an_earlier_stream_goes_on() -> None:
    """What came before stays; what is missing comes on the new channels."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    area = mmap.mmap(-1, REGIONS[0].size, flags=private)
    other = mmap.mmap(-1, REGIONS[1].size, flags=private)
    regions = [
        engine.Region.of_buffer(area, REGIONS[0].gpa, name="ram"),
        engine.Region.of_buffer(other, REGIONS[1].gpa, name="high"),
    ]
    first = resumed(0).block({0: B, 1: B}).finish().end()
    second = resumed(1).add(sb.served(1)).block({2: C}).finish().end()
    with (
        engine.Channel.memory(first) as one,
        engine.Channel.memory(second) as two,
        engine.Memory(regions) as memory,
        engine.Faults(memory) as faults,
    ):
        area[:PAGE] = A
        faults.expect([6])
        faults.start()
        assert faults.missing_pages() == 2
        with engine.Receiver(memory, [one, two], fresh=True, faults=faults) as receiver:
            event = receiver.wait(HANG_MS)
            assert isinstance(event, engine.EpochEvent) and event.kind is engine.EpochKind.LATE
            assert event.pages == 3
            assert isinstance(receiver.wait(HANG_MS), engine.EndEvent)
        assert faults.wait(HANG_MS)
    assert area[: 3 * PAGE] == A + B + C


def test_one_channel_has_nothing_to_go_on_with() -> None:
    data = Writer(REGIONS).begin(LATE).block({0: A}).finish().end()
    with pytest.raises(StreamError, match="late epoch 1 follows no sealed one"):
        inspect(data)


def test_every_truncation_of_a_late_stream_is_refused() -> None:
    writer = departed({0: A}, [3, 0, 1]).begin(LATE).add(sb.served(1))
    data = writer.block({0: sp.delta(A, B), 1: C}).block({0: A}, offset=2 * sb.BLOCK).finish().end()
    assert isinstance(by_receiver(data), Decoded) and inspect(data).loadable
    heads = len(data) - 4 * PAGE
    for size in [*range(0, heads, 13), *range(heads, len(data), 211), len(data) - 1]:
        assert isinstance(by_receiver(data[:size]), str), f"cut off after {size} bytes"
        with pytest.raises(StreamError, match=r"cut off|empty"):
            inspect(data[:size])

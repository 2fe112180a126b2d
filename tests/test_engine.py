# SPDX-License-Identifier: Apache-2.0
"""The typed objects over the C core."""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Iterator

import pytest

from pymigrate import Compression, Tuning
from pymigrate._engine import (
    BLOCK_BYTES,
    BlobEvent,
    Channel,
    DirtyTracker,
    EndEvent,
    EpochEvent,
    EpochKind,
    Event,
    FrameType,
    Memory,
    PopulatedEvent,
    Receiver,
    Region,
    Sender,
    SenderOptions,
    StateItem,
    StateList,
    TrackerKind,
    View,
    check,
)
from pymigrate.errors import (
    ChannelError,
    EngineCancelled,
    EngineError,
    NotSupportedError,
    StallError,
    StreamError,
)

SIZE_BYTES = 2 * BLOCK_BYTES


@pytest.fixture
def buffer() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, SIZE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as found:
        yield found


@pytest.fixture
def memory(buffer: mmap.mmap) -> Iterator[Memory]:
    with Memory([Region.of_buffer(buffer)]) as found:
        yield found


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOTSUP, NotSupportedError),
        (errno.EBADMSG, StreamError),
        (errno.EPIPE, ChannelError),
        (errno.ECONNRESET, ChannelError),
        (errno.ETIMEDOUT, StallError),
        (errno.ECANCELED, EngineCancelled),
        (errno.EINVAL, EngineError),
    ],
)
def test_codes_become_exceptions(code: int, kind: type[EngineError]) -> None:
    with pytest.raises(EngineError) as caught:
        check(-code)
    assert type(caught.value) is kind
    assert caught.value.code == -code
    assert errno.errorcode[code] in str(caught.value)


def test_results_pass() -> None:
    assert check(3) == 3


def test_sentence_of_the_core_is_the_message(buffer: mmap.mmap) -> None:
    good = Region.of_buffer(buffer)
    with pytest.raises(EngineError, match="overlap"):
        Memory([good, good])


def test_region_names_are_bounded(buffer: mmap.mmap) -> None:
    with pytest.raises(ValueError, match="longer than 31 bytes"):
        Memory([Region.of_buffer(buffer, name="x" * 32)])


def test_memory_keeps_its_buffer_open(buffer: mmap.mmap) -> None:
    memory = Memory([Region.of_buffer(buffer)])
    with pytest.raises(BufferError):
        buffer.close()
    memory.close()
    memory.close()
    with pytest.raises(ValueError, match="Memory is closed"):
        memory.blocks  # noqa: B018


def test_memory_shape_and_hashes(buffer: mmap.mmap, memory: Memory) -> None:
    assert (memory.blocks, memory.size_bytes) == (2, SIZE_BYTES)
    assert memory.describe() == [
        {"gpa": 0, "size_bytes": SIZE_BYTES, "page_size_bytes": 4096, "name": "ram"}
    ]
    assert not any(memory.hash(0, 2))
    buffer[4096] = 1
    assert next(i for i, byte in enumerate(memory.hash(0, 2)) if byte) // 8 == 1
    assert memory.present(0, 1)[0] & 2
    memory.discard()
    assert buffer[4096] == 0


def test_marks_reach_a_view(memory: Memory) -> None:
    with DirtyTracker(memory, TrackerKind.MARKED) as tracker:
        assert tracker.kind is TrackerKind.MARKED
        tracker.start()
        with View(tracker) as view:
            assert view.pending_pages() == 128
            assert view.take(0) == (1 << 64) - 1
            view.commit()
            view.take(1)
            view.commit()
            tracker.mark(3 * 4096, 1)
            view.harvest()
            assert view.peek(0, 2) == [8, 0]
            assert view.take(0) == 8
            view.rollback()
            assert view.pending_pages() == 1
        tracker.stop()


def test_mark_outside_memory(memory: Memory) -> None:
    with DirtyTracker(memory, TrackerKind.MARKED) as tracker, pytest.raises(EngineError):
        tracker.mark(SIZE_BYTES, 1)


def test_mark_after_close_is_harmless(memory: Memory) -> None:
    tracker = DirtyTracker(memory, TrackerKind.MARKED)
    tracker.close()
    tracker.mark(0, 1)


def test_collect_is_called_and_marks(memory: Memory) -> None:
    def collect(tracker: DirtyTracker) -> None:
        tracker.mark(0, 4096)

    with DirtyTracker(memory, TrackerKind.MARKED, collect=collect) as tracker:
        tracker.start()
        with View(tracker) as view:
            for block in range(2):
                view.take(block)
            view.commit()
            view.harvest()
            assert view.pending_pages() == 1


def test_exception_in_collect_is_raised_after_the_call(memory: Memory) -> None:
    def collect(_tracker: DirtyTracker) -> None:
        raise KeyError("vhost log")

    with DirtyTracker(memory, TrackerKind.MARKED, collect=collect) as tracker:
        tracker.start()
        with View(tracker) as view:
            with pytest.raises(KeyError, match="vhost log"):
                view.harvest()
            with (
                Channel.null() as channel,
                Sender(memory, view, [channel], bytes(16)) as sender,
                pytest.raises(KeyError, match="vhost log"),
            ):
                sender.round(EpochKind.FUZZY)


def events_of(receiver: Receiver) -> list[Event]:
    """All to the end, but for the word on memory, which may come any time."""
    events: list[Event] = []
    while not events or not isinstance(events[-1], EndEvent):
        event = receiver.wait(5000)
        assert event is not None
        if not isinstance(event, PopulatedEvent):
            events.append(event)
    return events


def test_stream_through_memory(buffer: mmap.mmap, memory: Memory) -> None:
    buffer[:] = os.urandom(SIZE_BYTES)
    with (
        DirtyTracker(memory, TrackerKind.MARKED) as tracker,
        Channel.memory() as channel,
    ):
        tracker.start()
        with View(tracker) as view, Sender(memory, view, [channel], bytes(16)) as sender:
            sender.hint()
            stats = sender.round(EpochKind.FUZZY)
            assert (stats.sent_pages, stats.raw_pages, stats.zero_pages) == (128, 128, 0)
            sender.put(FrameType.STATE, b"state")
            assert sender.round(EpochKind.SEALED).dirty_pages in (0, 128)
            sender.end()
            progress = sender.progress()
            assert progress is not None and progress.wire_bytes > SIZE_BYTES
        assert sender.progress() is None
        data = channel.memory_data()
    sent = bytes(buffer)
    buffer[:] = bytes(SIZE_BYTES)
    with Channel.memory(data) as source, Receiver(memory, [source]) as receiver:
        events = events_of(receiver)
    assert [type(event) for event in events] == [EpochEvent, BlobEvent, EpochEvent, EndEvent]
    assert events[1] == BlobEvent(FrameType.STATE, b"state")
    assert bytes(buffer) == sent


def test_sender_resends_and_is_tuned(memory: Memory, buffer: mmap.mmap) -> None:
    buffer[:4096] = b"x" * 4096
    options = SenderOptions(tuning=Tuning(compression=Compression.NONE))
    with DirtyTracker(memory, TrackerKind.MARKED) as tracker, Channel.null() as channel:
        tracker.start()
        with View(tracker) as view, Sender(memory, view, [channel], bytes(16), options) as sender:
            sender.round(EpochKind.FUZZY)
            view.commit()
            sender.resend([(0, 1), (1, 1 << 63)])
            assert view.pending_pages() == 2
            stats = sender.round(EpochKind.FUZZY)
            assert (stats.sent_pages, stats.raw_pages, stats.zero_pages) == (2, 1, 1)
            with pytest.raises(EngineError, match="outside guest memory"):
                sender.resend([(2, 1)])
            assert sender.tune(Tuning(compression=Compression.ZSTD, compression_level=19))
            with pytest.raises(EngineError, match="there are 1 channels"):
                sender.tune(Tuning(active_channels=2))
        assert not sender.tune(Tuning())


def test_cut_stream_is_an_error(memory: Memory) -> None:
    with (
        Channel.memory(b"PMIG") as source,
        Receiver(memory, [source]) as receiver,
        pytest.raises(EngineError),
    ):
        receiver.wait(5000)


def test_cancel_works_before_and_after_close(memory: Memory) -> None:
    near, far = socket.socketpair()
    with near, far, Channel.from_socket(near) as channel:
        receiver = Receiver(memory, [channel])
        assert receiver.wait(10) is None
        receiver.cancel()
        with pytest.raises(EngineCancelled):
            receiver.wait(5000)
        receiver.close()
        receiver.cancel()
        receiver.close()


def test_state_list() -> None:
    items = [StateItem("a/b", b"xyz", 2), StateItem("c", b"", 1, skippable=True)]
    with StateList() as state:
        for item in items:
            state.add(item)
        with pytest.raises(EngineError):
            state.add(items[0])
        data = state.encode()
    with StateList.decode(data) as again:
        assert list(again) == items
        assert len(again) == 2
        assert again.find("c") == items[1]
        assert again.find("d") is None
        assert again.encode() == data
    with pytest.raises(StreamError):
        StateList.decode(data[:-1])

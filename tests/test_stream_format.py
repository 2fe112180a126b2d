# SPDX-License-Identifier: Apache-2.0
"""Two decoders of the format page against each other, on streams that lie.

The streams are built by a third party (stream_builder). The inspector in
Python and the receiver in C must agree on each: accepted with the same
contents, or refused; never a crash, never a hang.
"""

from __future__ import annotations

import io
import json
import mmap
from typing import Any

import pytest
import stream_builder as sb
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stream_builder import BLOCK, PAGE, Frame, Region, Writer, replace
from stream_cases import all_cases

from pymigrate import _engine as engine
from pymigrate.errors import EngineError
from pymigrate.inspector import Decoder, StateItem, StreamError, StreamInfo

REGIONS = (Region(), Region(b"high", 1 << 32, 2 * BLOCK - 5 * PAGE))
SAMPLE = sb.encode(sb.sample())
HANG_MS = 20_000
CASES = all_cases()


class MemorySink:
    """Applies a stream to byte arrays; refuses a machine that is not ours."""

    def __init__(self) -> None:
        self.memory = [bytearray(region.size) for region in REGIONS]

    def stream(self, info: StreamInfo) -> None:
        ours = [(region.gpa, region.size) for region in REGIONS]
        if [(region.gpa, region.size_bytes) for region in info.regions] != ours:
            raise StreamError(0, 0, "other regions")
        if (info.channel_index, info.channel_count) != (0, 1):
            raise StreamError(0, 0, "another channel")

    def config(self, config: dict[str, Any]) -> None: ...

    def state(self, items: list[StateItem]) -> None: ...

    def page(self, region: int, offset: int, data: memoryview) -> None:
        self.memory[region][offset : offset + PAGE] = data

    def zero(self, region: int, offset: int) -> None:
        self.memory[region][offset : offset + PAGE] = bytes(PAGE)


def by_inspector(data: bytes) -> list[bytes] | str:
    """Memory after the stream, or why it was refused."""
    sink = MemorySink()
    try:
        Decoder(io.BytesIO(data), sink).run()
    except StreamError as error:
        return str(error)
    return [bytes(memory) for memory in sink.memory]


def by_receiver(data: bytes) -> list[bytes] | str:
    """The same by the C receiver, with what its users check on top."""
    maps = [mmap.mmap(-1, region.size) for region in REGIONS]
    regions = [
        engine.Region.of_buffer(area, region.gpa, name=region.name.decode())
        for area, region in zip(maps, REGIONS, strict=True)
    ]
    with (
        engine.Memory(regions) as memory,
        engine.Channel.memory(data) as channel,
        engine.Receiver(memory, [channel], fresh=True) as receiver,
    ):
        try:
            drain(receiver)
        except (EngineError, ValueError) as error:
            return str(error) or "refused"
    return [bytes(area) for area in maps]


def drain(receiver: engine.Receiver) -> None:
    while True:
        event = receiver.wait(HANG_MS)
        if event is None:
            pytest.fail(f"the receiver hangs: no event within {HANG_MS} ms")
        if isinstance(event, engine.EndEvent):
            return
        if isinstance(event, engine.BlobEvent):
            check_blob(event)


def check_blob(event: engine.BlobEvent) -> None:
    if event.frame is engine.FrameType.STATE:
        engine.StateList.decode(event.data).close()
        return
    try:
        is_object = isinstance(json.loads(event.data.decode()), dict)
    except RecursionError as error:
        raise ValueError("CONFIG is nested too deep") from error
    if not is_object:
        raise ValueError("CONFIG is not an object")


def agree(data: bytes) -> bool:
    """Both accept with the same memory, or both refuse; returns which."""
    inspector, receiver = by_inspector(data), by_receiver(data)
    if isinstance(inspector, str) or isinstance(receiver, str):
        assert isinstance(inspector, str) and isinstance(receiver, str), (
            f"inspector: {inspector if isinstance(inspector, str) else 'accepts'}; "
            f"receiver: {receiver if isinstance(receiver, str) else 'accepts'}"
        )
        return False
    assert inspector == receiver, "both accept, with different memory"
    return True


def test_both_accept_the_sample() -> None:
    assert agree(SAMPLE)


@pytest.mark.parametrize("name", CASES)
def test_both_refuse_what_the_page_forbids(name: str) -> None:
    assert not agree(CASES[name].data)


def test_both_refuse_every_truncation() -> None:
    for size in [*range(0, 700, 7), *range(700, len(SAMPLE), 211), len(SAMPLE) - 1]:
        assert not agree(SAMPLE[:size]), f"cut off after {size} bytes"


def test_both_refuse_bytes_after_the_end() -> None:
    assert not agree(SAMPLE + b"\0")


@pytest.mark.parametrize("newer", [None, sb.page_of(2)])
def test_both_let_a_newer_page_heal_a_suspect_one(newer: bytes | None) -> None:
    writer = Writer(REGIONS).begin().block({7: sb.page_of(1)}, hashes={7: 99}).finish()
    assert agree(writer.begin(sb.SEALED).block({7: newer}).finish().end())


# ---- random streams ---------------------------------------------------------

# Time limits belong to the suite; the deadline of one example says nothing
# on a machine that others use too.
relaxed = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

contents = st.one_of(st.none(), st.integers(0, 9).map(sb.page_of))
high_blocks = st.tuples(st.just(1), st.just(BLOCK), st.dictionaries(st.integers(0, 58), contents))
ram_blocks = st.tuples(
    st.just(0),
    st.integers(0, 3).map(lambda n: n * BLOCK),
    st.dictionaries(st.integers(0, 63), contents),
)
blocks = st.lists(st.one_of(ram_blocks, high_blocks), max_size=3, unique_by=lambda b: b[:2])
names = st.text("abc/_-.0", min_size=1, max_size=8).map(str.encode)
items = st.lists(
    st.tuples(names, st.binary(max_size=20), st.integers(0, 9), st.integers(0, 1)),
    max_size=3,
    unique_by=lambda item: item[0],
).map(lambda entries: sb.state(*(sb.item(*entry) for entry in entries)))
unknown = st.builds(
    Frame, st.integers(9, 255), st.binary(max_size=40), st.binary(max_size=40), st.just(1)
)
epochs = st.lists(
    st.tuples(st.sampled_from([sb.FUZZY, sb.SEALED]), blocks, st.one_of(st.none(), items, unknown)),
    max_size=3,
)


@st.composite
def frames(draw: st.DrawFn) -> list[Frame]:
    """The frames of a correct channel."""
    writer = Writer(REGIONS)
    if draw(st.booleans()):
        writer.add(sb.config({"x": draw(st.integers())}))
    if draw(st.booleans()):
        writer.add(sb.ranges([(0, BLOCK, PAGE), (1, 0, 2 * PAGE)]))
    for kind, parts, extra in draw(epochs):
        writer.begin(kind)
        for region, offset, pages in parts:
            if pages:
                writer.block(pages, region, offset)
        if extra:
            writer.add(extra)
        writer.finish()
    writer.frames.append(sb.end(len(writer.frames)))
    return writer.frames


@relaxed
@given(frames())
def test_both_accept_what_is_right(channel: list[Frame]) -> None:
    assert agree(sb.encode(channel))


@relaxed
@given(frames(), st.data())
def test_a_flipped_bit_is_never_accepted(channel: list[Frame], data: st.DataObject) -> None:
    """Unless it is in a page of a fuzzy epoch, which then is only suspect."""
    stream = bytearray(sb.encode(channel))
    at = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[at // 8] ^= 1 << at % 8
    agree(bytes(stream))


@relaxed
@given(frames(), st.data())
def test_lies_with_a_right_checksum(channel: list[Frame], data: st.DataObject) -> None:
    """A byte of a head is changed, and the checksum follows."""
    at = data.draw(st.integers(0, len(channel) - 1))
    head = bytearray(channel[at].head)
    where = data.draw(st.integers(0, len(head) - 1)) if head else 0
    if head:
        head[where] = data.draw(st.integers(0, 255))
    channel[at] = replace(channel[at], head=bytes(head))
    agree(sb.encode(channel))


@relaxed
@given(frames(), st.data())
def test_frames_out_of_order(channel: list[Frame], data: st.DataObject) -> None:
    """Frames are moved, doubled or left out; numbers and counts follow."""
    at = data.draw(st.integers(0, len(channel) - 1))
    to = data.draw(st.integers(0, len(channel)))
    frame = channel[at] if data.draw(st.booleans()) else channel.pop(at)
    channel.insert(to, frame) if data.draw(st.booleans()) else None
    if channel and channel[-1].type == sb.END:
        channel[-1] = sb.end(len(channel) - 1)
    agree(sb.encode(channel))


@relaxed
@given(frames(), st.data())
def test_headers_that_lie(channel: list[Frame], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(channel) - 1))
    field, values = data.draw(
        st.sampled_from(
            [
                ("type", st.integers(0, 12)),
                ("flags", st.integers(0, 255)),
                ("sequence", st.integers(0, 2**64 - 1)),
                ("head_bytes", st.integers(0, 2**32 - 1)),
                ("body_bytes", st.integers(0, 2**32 - 1)),
                ("body_bytes", st.integers(0, 10_000)),
                ("reserved", st.tuples(st.just(0), st.integers(0, 2), st.integers(0, 2))),
            ]
        )
    )
    channel[at] = replace(channel[at], **{field: data.draw(values)})
    agree(sb.encode(channel))


@relaxed
@given(st.binary(max_size=200), st.booleans())
@example(b"", False)
def test_garbage(tail: bytes, after_the_magic: bool) -> None:
    assert not agree(b"PMIG" * after_the_magic + tail)


@relaxed
@given(st.binary(max_size=300), st.booleans())
def test_garbage_as_state(body: bytes, after_the_head: bool) -> None:
    """Both decoders of the state list see the same bytes."""
    body = sb.state_list([], count=1) + body if after_the_head else body
    agree(Writer(REGIONS).add(sb.blob(sb.STATE, body)).end())

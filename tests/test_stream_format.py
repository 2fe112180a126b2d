# SPDX-License-Identifier: Apache-2.0
"""Two decoders of the format page against each other, on streams that lie.

The streams are built by a third party (stream_builder). The inspector in
Python and the receiver in C must agree on each: accepted with the same
contents, or refused; never a crash, never a hang.
"""

from __future__ import annotations

import random

import pytest
import stream_builder as sb
import stream_late
from encoding_cases import good_cases
from encoding_lies import bad_cases
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stream_builder import BLOCK, PAGE, Frame, Writer, replace
from stream_cases import all_cases
from stream_decoders import REGIONS, Decoded, agree, by_receiver
from stream_history import History, frames_of, random_history
from stream_mutations import mutate, resum

SAMPLE = sb.encode(sb.sample())
CASES = all_cases() | bad_cases() | stream_late.bad_cases()
GOOD = good_cases() | stream_late.good_cases()


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


@pytest.mark.parametrize("name", GOOD)
def test_both_take_every_encoding(name: str) -> None:
    assert agree(GOOD[name].data)


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
    Frame, st.integers(13, 255), st.binary(max_size=40), st.binary(max_size=40), st.just(1)
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


histories = st.integers(0, 2**32 - 1).map(lambda seed: random_history(REGIONS, seed))
channels = st.one_of(frames(), histories.map(frames_of))


@settings(relaxed, max_examples=60)
@given(histories)
def test_both_follow_a_history(history: History) -> None:
    frames = frames_of(history)
    assert resum(frames) == frames
    assert agree(sb.encode(frames))
    found = by_receiver(sb.encode(frames))
    assert isinstance(found, Decoded)
    assert found.pages() == history.pages()
    assert not any(found.stale) and not any(found.suspect)


@settings(relaxed, max_examples=400)
@given(histories, st.integers(0, 2**32 - 1))
def test_lies_about_pages(history: History, seed: int) -> None:
    """Every sum and, mostly, every hash follows the lie."""
    agree(sb.encode(mutate(frames_of(history), random.Random(seed))))


@relaxed
@given(frames())
def test_both_accept_what_is_right(channel: list[Frame]) -> None:
    assert agree(sb.encode(channel))


@relaxed
@given(channels, st.data())
def test_a_flipped_bit_is_never_accepted(channel: list[Frame], data: st.DataObject) -> None:
    """Unless it is in a page of a fuzzy epoch, which then is only suspect."""
    stream = bytearray(sb.encode(channel))
    at = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[at // 8] ^= 1 << at % 8
    agree(bytes(stream))


@relaxed
@given(channels, st.data())
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
@given(channels, st.data())
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
@given(channels, st.data())
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

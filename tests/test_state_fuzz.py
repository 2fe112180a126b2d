# SPDX-License-Identifier: Apache-2.0
"""State lists: the C decoder and the inspector's agree on every input.

The two share no code. What one takes the other takes, with the same items;
what one refuses the other refuses; and what is taken encodes to the same
bytes, since a list has exactly one encoding.
"""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from pymigrate._engine import StateItem, StateList
from pymigrate.errors import EngineError, StreamError
from pymigrate.inspector import StateListError, decode_items

HEAD = struct.Struct("<4sIII")
ITEM_HEAD = struct.Struct("<48sIIQ")
u32 = st.integers(0, (1 << 32) - 1)

names = st.text("abcxyz0189./_-", min_size=1, max_size=47)
items = st.builds(
    StateItem, name=names, data=st.binary(max_size=40), version=u32, skippable=st.booleans()
)
lists = st.lists(items, max_size=5, unique_by=lambda item: item.name)


def encode(listed: list[StateItem]) -> bytes:
    with StateList() as state:
        for item in listed:
            state.add(item)
        return state.encode()


def decode_native(data: bytes) -> list[StateItem] | None:
    """The items, once the list was found to encode to the same bytes."""
    try:
        state = StateList.decode(data)
    except StreamError as error:
        assert "state" in str(error)
        return None
    with state:
        assert state.encode() == data
        return list(state)


def decode_inspector(data: bytes) -> list[StateItem] | None:
    try:
        found = decode_items(data)
    except StateListError:
        return None
    return [StateItem(item.name, item.data, item.version, item.skippable) for item in found]


def agreed(data: bytes) -> list[StateItem] | None:
    native = decode_native(data)
    assert native == decode_inspector(data)
    return native


@given(lists)
def test_what_was_added_is_decoded(listed: list[StateItem]) -> None:
    assert agreed(encode(listed)) == listed


@given(lists)
def test_items_are_found_by_name(listed: list[StateItem]) -> None:
    with StateList.decode(encode(listed)) as state:
        assert [state.find(item.name) for item in listed] == listed
        assert state.find("missing") is None or "missing" in {item.name for item in listed}


@settings(max_examples=300)
@given(st.data())
def test_bits_flipped(data: st.DataObject) -> None:
    encoded = bytearray(encode(data.draw(lists)))
    for bit in data.draw(st.lists(st.integers(0, len(encoded) * 8 - 1), min_size=1, max_size=4)):
        encoded[bit // 8] ^= 1 << bit % 8
    agreed(bytes(encoded))


@settings(max_examples=300)
@given(st.data())
def test_cut_and_spliced(data: st.DataObject) -> None:
    encoded = encode(data.draw(lists))
    start = data.draw(st.integers(0, len(encoded)))
    end = data.draw(st.integers(start, len(encoded)))
    agreed(encoded[:start] + data.draw(st.binary(max_size=64)) + encoded[end:])


headers = st.builds(
    ITEM_HEAD.pack,
    st.sampled_from((b"a", b"kvm/vm/clock", b"", b"A", b"a\0b", b"x" * 47, b"x" * 48)),
    st.sampled_from((0, 1, (1 << 32) - 1)),
    st.sampled_from((0, 1, 2, 1 << 31)),
    st.sampled_from((0, 1, 7, 8, 9, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 8, (1 << 64) - 1)),
)
bodies = st.lists(headers | st.sampled_from((b"\0" * 8, b"\1" + b"\0" * 7, b"12345678")))


@settings(max_examples=300)
@given(
    st.sampled_from((b"PMST", b"PMSU")),
    st.sampled_from((0, 1, 2)),
    st.sampled_from((0, 1, 2, 65536, 65537, (1 << 32) - 1)),
    st.sampled_from((0, 0, 0, 1)),
    bodies,
)
@example(b"PMST", 1, 0, 0, [])
def test_built_by_hand(
    magic: bytes, version: int, count: int, reserved: int, body: list[bytes]
) -> None:
    agreed(HEAD.pack(magic, version, count, reserved) + b"".join(body))


@given(st.binary(max_size=200))
def test_anything(data: bytes) -> None:
    agreed(data)


def test_more_items_than_allowed() -> None:
    body = b"".join(ITEM_HEAD.pack(f"{n:x}".encode(), 1, 0, 0) for n in range(65537))
    assert agreed(HEAD.pack(b"PMST", 1, 65537, 0) + body) is None
    whole = HEAD.pack(b"PMST", 1, 65536, 0) + body[: -ITEM_HEAD.size]
    assert len(agreed(whole) or []) == 65536


@pytest.mark.parametrize("name", ["", "Capital", "a b", "x" * 48, "\x7f"])
def test_names_that_are_refused(name: str) -> None:
    with StateList() as state, pytest.raises(EngineError, match="1 to 47"):
        state.add(StateItem(name, b""))

# SPDX-License-Identifier: Apache-2.0
"""Control messages: round trips, and what is refused."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pymigrate import _frames, protocol
from pymigrate._link import Link, read_hello
from pymigrate.errors import (
    PeerFailedError,
    PeerLostError,
    ProtocolError,
    StepTimeoutError,
)
from pymigrate.protocol import MESSAGES, Hello, Message, decode, encode, negotiate

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
HEX = "0123456789abcdef"
BY_CHECK = {
    id(protocol.INT): st.integers(0, (1 << 64) - 1),
    id(protocol.BOOL): st.booleans(),
    id(protocol.MS): st.floats(0, 1e12),
    id(protocol.TEXT): TEXT,
    id(protocol.TEXTS): st.lists(TEXT, max_size=4),
    id(protocol.ID): st.text(HEX, min_size=32, max_size=32),
    id(protocol.TOKEN): st.just("") | st.text(HEX, min_size=32, max_size=32),
    id(protocol.HASH): st.text(HEX, min_size=16, max_size=16),
    id(protocol.OBJECT): st.dictionaries(TEXT, JSON, max_size=3),
    id(protocol.ROLE): st.sampled_from(["control", "data", "query", "recover"]),
    id(protocol.EPOCH_KIND): st.sampled_from(["fuzzy", "sealed"]),
    id(protocol.STATUS): st.sampled_from(
        ["unknown", "preparing", "prepared", "committed", "running", "aborted", "broken"]
    ),
    id(protocol.PUSH): st.sampled_from(["all", "first", "none"]),
}


def declared(kind: type[Message]) -> list[Any]:
    return [f for f in fields(kind) if f.name != "body"]


def of_checks(kind: type[Message]) -> dict[str, st.SearchStrategy[Any]]:
    """What each member may hold; the mapping proxy hides the original."""
    by_function = {
        next(iter(getattr(protocol, name).values())): BY_CHECK[id(getattr(protocol, name))]
        for name in (
            "INT", "BOOL", "MS", "TEXT", "TEXTS", "ID", "TOKEN", "HASH", "OBJECT", "ROLE",
            "EPOCH_KIND", "STATUS", "PUSH",
        )
    }  # fmt: skip
    return {f.name: by_function[f.metadata["check"]] for f in declared(kind)}


@st.composite
def messages(draw: Any) -> Message:
    kind = draw(st.sampled_from(list(MESSAGES.values())))
    values = {name: draw(strategy) for name, strategy in of_checks(kind).items()}
    if kind.HAS_BODY:
        values["body"] = draw(st.binary(max_size=200))
    return kind(**values)


@given(messages())
def test_round_trip(message: Message) -> None:
    assert decode(message.TYPE, encode(message), message.body) == message


@given(messages(), st.data())
def test_flipped_bit_in_a_frame_is_noticed(message: Message, data: Any) -> None:
    frame = bytearray(
        _frames.pack(message.TYPE, encode(message), len(message.body), 7) + message.body
    )
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        header = _frames.parse(bytes(frame[: _frames.HEADER_BYTES]))
        end = _frames.HEADER_BYTES + header.head_bytes
        head = bytes(frame[_frames.HEADER_BYTES : end])
        _frames.check_head(header, head, 7)
        decode(header.type, head, bytes(frame[end:]))


@given(st.integers(0, 255), st.binary(max_size=300), st.binary(max_size=50))
def test_garbage_is_refused_or_read(frame_type: int, head: bytes, body: bytes) -> None:
    try:
        message = decode(frame_type, head, body)
    except ProtocolError:
        return
    assert decode(message.TYPE, encode(message), message.body) == message


@given(st.sampled_from(list(MESSAGES.values())), JSON)
def test_wrong_members_are_refused_by_name(kind: type[Message], junk: Any) -> None:
    for member in declared(kind):
        if member.metadata["check"](junk):
            continue
        good = {f.name: "x" for f in declared(kind)}
        good[member.name] = junk
        with pytest.raises(ProtocolError, match=kind.__name__):
            decode(kind.TYPE, json.dumps(good).encode())


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=lambda kind: kind.__name__)
def test_missing_members_are_refused_by_name(kind: type[Message]) -> None:
    required = [f.name for f in declared(kind) if f.default is MISSING]
    empty = {"body_hash": xxhash.xxh3_64_hexdigest(b"")}
    if required:
        with pytest.raises(ProtocolError, match=required[0]):
            decode(kind.TYPE, json.dumps(empty).encode(), b"")


def test_every_type_is_64_or_more_and_fits_a_byte() -> None:
    assert all(64 <= number <= 255 for number in MESSAGES)


@pytest.mark.parametrize("head", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_heads_that_are_no_objects(head: bytes) -> None:
    with pytest.raises(ProtocolError, match="head of Commit"):
        decode(protocol.Commit.TYPE, head)


def test_later_members_are_ignored() -> None:
    assert decode(protocol.Commit.TYPE, b'{"later":1}') == protocol.Commit()


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ProtocolError, match="reason"):
        decode(protocol.Abort.TYPE, b'{"reason":"\\ud800"}')


def hello(oldest: int, newest: int) -> Hello:
    return Hello(oldest=oldest, newest=newest, role="control", session="0" * 32)


@pytest.mark.parametrize(
    ("theirs", "ours", "chosen"),
    [((1, 1), (1, 1), 1), ((2, 3), (1, 2), 2), ((1, 2), (2, 3), 2), ((3, 4), (3, 4), 4)],
)
def test_newest_common_version(theirs: Any, ours: Any, chosen: int) -> None:
    assert negotiate(hello(*theirs), *ours) == chosen


def test_no_common_version_names_both() -> None:
    with pytest.raises(ProtocolError, match="protocol 3 to 4, this side 1 to 2"):
        negotiate(hello(3, 4), 1, 2)


def acknowledgement(**values: Any) -> protocol.EpochAck:
    head = {"epoch": 1, "kind": "fuzzy", "pages": 9, "suspect_pages": 0, "digest": "0" * 16}
    return protocol.EpochAck(**{**head, **values})


def test_acknowledgement_says_nothing_of_a_body_that_it_has_not() -> None:
    plain, stale = acknowledgement(), acknowledgement(stale_pages=1, body=bytes(8) + b"\1" * 8)
    assert b"body_hash" not in encode(plain) and b"body_hash" in encode(stale)
    head = json.loads(encode(plain))
    del head["stale_pages"]
    assert decode(plain.TYPE, json.dumps(head).encode()) == plain
    head = json.loads(encode(stale))
    del head["body_hash"]
    with pytest.raises(ProtocolError, match="the body of EpochAck fails its hash"):
        decode(stale.TYPE, json.dumps(head).encode(), stale.body)


# ---- pages that come late --------------------------------------------------


def head_without(message: Message, *members: str) -> bytes:
    head = json.loads(encode(message))
    return json.dumps({k: v for k, v in head.items() if k not in members}).encode()


def test_who_says_nothing_of_late_pages_has_none() -> None:
    described = protocol.Describe({}, channels=2, stream_major=1, stream_minor=2, late=True)
    accepted = protocol.Accept("0" * 32, {}, late=True, late_reason="")
    prepare = protocol.Prepare(epoch=3, digest="0" * 16, late=True)
    for message in (described, accepted, prepare):
        assert decode(message.TYPE, encode(message)) == message
        older = decode(message.TYPE, head_without(message, "late", "late_reason"))
        assert older == replace(message, late=False)


@pytest.mark.parametrize("junk", [0, 1, "yes", None, [], {}])
def test_late_is_yes_or_no(junk: Any) -> None:
    head = json.loads(encode(protocol.Prepare(epoch=3, digest="0" * 16)))
    head["late"] = junk
    with pytest.raises(ProtocolError, match="Prepare: 'late'"):
        decode(protocol.Prepare.TYPE, json.dumps(head).encode())


def test_accept_says_why_pages_cannot_come_late() -> None:
    why = "no userfaultfd: Linux 4.11 is needed"
    message = protocol.Accept("0" * 32, {}, late_reason=why)
    assert decode(message.TYPE, encode(message)) == message
    head = json.loads(encode(message))
    head["late_reason"] = 5
    with pytest.raises(ProtocolError, match="'late_reason' is 5"):
        decode(message.TYPE, json.dumps(head).encode())


def test_hello_of_a_recovery() -> None:
    again = Hello(oldest=1, newest=1, role="recover", session="a" * 32, token="b" * 32)
    assert decode(Hello.TYPE, encode(again)) == again
    data = replace(again, role="data", channel=2, attempt=3)
    assert decode(Hello.TYPE, encode(data)) == data
    # The first connections of a migration are of no attempt.
    assert decode(Hello.TYPE, head_without(data, "attempt")) == replace(data, attempt=0)
    near, far = socket.socketpair()
    with near, far:
        near.sendall(_frames.pack(again.TYPE, encode(again), 0, 0))
        assert read_hello(far, 500) == again


@pytest.mark.parametrize(
    ("member", "junk"), [("attempt", -1), ("attempt", 1 << 64), ("attempt", "1"), ("role", "late")]
)
def test_hello_that_recovers_nothing(member: str, junk: Any) -> None:
    head = json.loads(encode(hello(1, 1)))
    head[member] = junk
    with pytest.raises(ProtocolError, match=f"Hello: '{member}'"):
        decode(Hello.TYPE, json.dumps(head).encode())


def test_missing_pages_are_named_in_a_body_with_a_hash() -> None:
    missing = protocol.Missing(attempt=1, pages=3, body=b"bitmap")
    assert decode(missing.TYPE, encode(missing), missing.body) == missing
    none = protocol.Missing(attempt=1, pages=0)
    assert decode(none.TYPE, encode(none)) == none
    for head, body in (
        (head_without(missing, "body_hash"), missing.body),
        (encode(missing), b"bitmaq"),
        (encode(missing), b""),
    ):
        with pytest.raises(ProtocolError, match="the body of Missing fails its hash"):
            decode(missing.TYPE, head, body)


def test_arrived_brings_figures_and_no_body() -> None:
    arrived = protocol.Arrived({"remote_faults": 7})
    assert decode(arrived.TYPE, encode(arrived)) == arrived
    with pytest.raises(ProtocolError, match="Arrived came with a body"):
        decode(arrived.TYPE, encode(arrived), b"x")
    with pytest.raises(ProtocolError, match="Arrived: 'figures'"):
        decode(arrived.TYPE, b'{"figures":[]}')


# ---- the page --------------------------------------------------------------

PAGE = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"
ROW = re.compile(r"^\| (\d+) \| ([A-Z_]+) \| [a-z]+ \|(.*)\|$", re.M)


def test_the_page_has_every_message_with_all_that_it_holds() -> None:
    rows = {int(number): (name, text) for number, name, text in ROW.findall(PAGE.read_text())}
    assert set(rows) == set(MESSAGES)
    for number, kind in MESSAGES.items():
        name, text = rows[number]
        assert name == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()
        named = [f.name for f in declared(kind)]
        assert [member for member in named if f"`{member}`" not in text] == []
        assert ("body" in text) is kind.HAS_BODY, name


# ---- links ---------------------------------------------------------------


@pytest.fixture
def pair() -> Any:
    near, far = socket.socketpair()
    links = [Link(near, "far", 400), Link(far, "near", 400)]
    yield links
    for link in links:
        link.close()


def test_messages_arrive_in_order(pair: Any) -> None:
    for number in range(20):
        pair[0].send(protocol.VerifyPages(first_block=number, n_blocks=1))
    for number in range(20):
        got = pair[1].receive("a test", 1000, protocol.VerifyPages)
        assert got.first_block == number


def test_body_travels(pair: Any) -> None:
    state = bytes(range(256)) * 20_000
    pair[0].send(protocol.Rehearse(body=state))
    assert pair[1].receive("a test", 2000, protocol.Rehearse).body == state


def test_idle_link_lives_by_its_heartbeat(pair: Any) -> None:
    with pytest.raises(StepTimeoutError, match=r"a test: no answer from far within 1 s"):
        pair[0].receive("a test", 1000, protocol.Ready)
    assert pair[0].failure is None
    assert pair[0].round_trip_ms is not None


def test_unexpected_message(pair: Any) -> None:
    pair[1].send(protocol.Ready())
    with pytest.raises(ProtocolError, match="far sent READY out of place"):
        pair[0].receive("a test", 1000, protocol.Prepared)


def test_two_threads_may_expect_different_answers(pair: Any) -> None:
    got: list[Message] = []
    with pair[0].expecting(protocol.Ready):
        thread = threading.Thread(
            target=lambda: got.append(pair[0].receive("one", 2000, protocol.Prepared))
        )
        thread.start()
        pair[1].send(protocol.Ready())
        pair[1].send(protocol.Prepared(load_ms=1))
        thread.join(3)
        assert isinstance(got[0], protocol.Prepared)
        assert pair[0].receive("two", 1000, protocol.Ready) == protocol.Ready()


def test_error_message_ends_the_link(pair: Any) -> None:
    pair[1].send(protocol.Error(step="loading", message="no memory"))
    with pytest.raises(PeerFailedError, match="far failed at loading: no memory"):
        pair[0].receive("a test", 1000, protocol.Ready)


def test_last_words_are_read_before_the_end() -> None:
    near, far = socket.socketpair()
    lost = threading.Event()
    here = Link(near, "far", 2000, on_failure=lambda _error: lost.set())
    there = Link(far, "near", 2000)
    there.send(protocol.Refuse(differences=["no"]))
    there.cut()
    assert lost.wait(5)
    assert here.receive("a test", 1000, protocol.Refuse).differences == ["no"]
    with pytest.raises(PeerLostError, match="closed the connection"):
        here.receive("a test", 1000, protocol.Refuse)
    here.close()
    there.close()


def test_silent_peer_is_lost() -> None:
    near, far = socket.socketpair()
    link = Link(near, "far", 400)
    with far:
        with pytest.raises(PeerLostError, match=r"nothing came from far for 0\.\d s"):
            link.receive("a test", 5000, protocol.Ready)
        link.close()


def test_peer_that_reads_nothing_is_lost() -> None:
    near, far = socket.socketpair()
    link = Link(near, "far", 300)
    with far:
        with pytest.raises(PeerLostError, match="cannot send REHEARSE to far"):
            link.send(protocol.Rehearse(body=bytes(8 << 20)))
        link.close()


def test_flood_is_refused() -> None:
    near, far = socket.socketpair()
    failed = threading.Event()
    link = Link(near, "far", 2000, on_failure=lambda _error: failed.set())
    with far:
        for number in range(100):
            head = encode(protocol.Ready())
            far.sendall(_frames.pack(protocol.Ready.TYPE, head, 0, number))
        assert failed.wait(5)
        assert "faster than the protocol allows" in str(link.failure)
        link.close()


def test_flood_of_bodies_is_refused() -> None:
    near, far = socket.socketpair()
    failed = threading.Event()
    here = Link(near, "far", 5000, on_failure=lambda _error: failed.set())
    there = Link(far, "near", 5000)
    with contextlib.suppress(PeerLostError):
        for _ in range(3):
            there.send(protocol.VerifyHashes(0, 1, body=bytes(24 << 20)))
    assert failed.wait(10)
    assert "faster than the protocol allows" in str(here.failure)
    here.close()
    there.close()


def test_repeated_frame_is_refused() -> None:
    near, far = socket.socketpair()
    link = Link(near, "far", 2000)
    with far:
        frame = _frames.pack(protocol.Commit.TYPE, b"{}", 0, 0)
        far.sendall(frame + frame)
        link.receive("a test", 1000, protocol.Commit)
        with pytest.raises(ProtocolError, match="sequence 0, expected 1"):
            link.receive("a test", 1000, protocol.Commit)
        link.close()


def test_close_wakes_and_is_idempotent(pair: Any) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            pair[0].receive("a test", None, protocol.Ready)
        except PeerLostError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    pair[1].close()
    pair[1].close()
    thread.join(3)
    assert not thread.is_alive() and errors


@given(st.binary(min_size=1, max_size=120))
def test_hello_of_garbage(data: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        with pytest.raises((ProtocolError, OSError)):
            read_hello(far, 500)


def test_hello_leaves_the_stream_alone() -> None:
    near, far = socket.socketpair()
    with near, far:
        greeting = hello(1, 1)
        near.sendall(_frames.pack(greeting.TYPE, encode(greeting), 0, 0) + b"PMIGstream")
        assert read_hello(far, 500) == greeting
        assert far.recv(100) == b"PMIGstream"


def test_slow_hello_times_out() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(b"PMIG")
        with pytest.raises(TimeoutError):
            read_hello(far, 100)


def test_giant_hello_is_refused_unread() -> None:
    near, far = socket.socketpair()
    with near, far:
        frame = _frames.pack(Hello.TYPE, bytes(1 << 20), 0, 0)
        near.sendall(frame[: _frames.HEADER_BYTES])
        with pytest.raises(ProtocolError, match="HELLO of 1048576"):
            read_hello(far, 500)

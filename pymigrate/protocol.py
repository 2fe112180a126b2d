# SPDX-License-Identifier: Apache-2.0
"""The messages of the control protocol; docs/protocol.md is normative.

A message is a frame of type 64 and up: its head is one JSON object with the
members of a class below, its body (of a few) is bytes whose hash the head
carries. Everything is checked before it is believed; members that a
later version adds are ignored. Pure Python, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import xxhash

from pymigrate.errors import ProtocolError

__all__ = [
    "MESSAGES",
    "NEWEST",
    "OLDEST",
    "Abort",
    "Aborted",
    "Accept",
    "Arrived",
    "Commit",
    "Describe",
    "Done",
    "EpochAck",
    "Error",
    "First",
    "Held",
    "Hello",
    "Message",
    "Missing",
    "Offer",
    "Ping",
    "Pong",
    "Populated",
    "Prepare",
    "Prepared",
    "Query",
    "Ready",
    "Refuse",
    "Rehearse",
    "Rehearsed",
    "Running",
    "Status",
    "VerifyHashes",
    "VerifyPages",
    "Welcome",
    "decode",
    "encode",
    "negotiate",
]

# Versions of this protocol that this side speaks: the current one and the
# one before, which for version 1 does not exist.
NEWEST = 1
OLDEST = max(1, NEWEST - 1)

MAX_HELLO_BYTES = 4096
U64 = 1 << 64

Check = Callable[[Any], bool]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < U64


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_ms(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < 1e15


def _is_text(value: Any) -> bool:
    # JSON can spell lone surrogates, which nothing can print.
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_hex(digits: int) -> Check:
    def check(value: Any) -> bool:
        if not isinstance(value, str) or len(value) != digits:
            return False
        return all(c in "0123456789abcdef" for c in value)

    return check


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(item) for item in value)


def _words(*words: str) -> Mapping[str, Check]:
    return {"check": lambda value: value in words}


# What a member must be; the metadata of its field.
OBJECT: Mapping[str, Check] = {"check": lambda value: isinstance(value, dict)}
TEXTS: Mapping[str, Check] = {"check": _is_texts}
INT: Mapping[str, Check] = {"check": _is_int}
BOOL: Mapping[str, Check] = {"check": _is_bool}
MS: Mapping[str, Check] = {"check": _is_ms}
TEXT: Mapping[str, Check] = {"check": _is_text}
ID: Mapping[str, Check] = {"check": _is_hex(32)}
TOKEN: Mapping[str, Check] = {"check": lambda value: value == "" or _is_hex(32)(value)}
HASH: Mapping[str, Check] = {"check": _is_hex(16)}
ROLE = _words("control", "data", "query", "recover", "fetch")
PUSH = _words("all", "first", "none")
EPOCH_KIND = _words("fuzzy", "sealed")
STATUS = _words("unknown", "preparing", "prepared", "committed", "running", "aborted", "broken")


@dataclass(frozen=True)
class Message:
    """Base of all messages.

    :cvar TYPE: the frame type.
    :cvar HAS_BODY: whether a body may follow.
    :cvar BODY_OPTIONAL: whether the head says nothing of an empty body.
    """

    TYPE: ClassVar[int] = 0
    HAS_BODY: ClassVar[bool] = False
    BODY_OPTIONAL: ClassVar[bool] = False
    body: bytes = field(default=b"", kw_only=True, repr=False)


@dataclass(frozen=True)
class Hello(Message):
    """First frame of every connection: who connects, and what for."""

    TYPE = 64
    oldest: int = field(metadata=INT)
    newest: int = field(metadata=INT)
    role: str = field(metadata=ROLE)
    session: str = field(metadata=ID)
    # What ACCEPT gave; empty for a control connection.
    token: str = field(default="", metadata=TOKEN)
    channel: int = field(default=0, metadata=INT)
    # What MISSING said; 0 before the first recovery.
    attempt: int = field(default=0, metadata=INT)


@dataclass(frozen=True)
class Welcome(Message):
    """Answer to HELLO on connections that carry messages."""

    TYPE = 65
    version: int = field(metadata=INT)


@dataclass(frozen=True)
class Describe(Message):
    """The machine, and how it will be sent."""

    TYPE = 66
    description: dict[str, Any] = field(metadata=OBJECT)
    channels: int = field(metadata=INT)
    stream_major: int = field(metadata=INT)
    stream_minor: int = field(metadata=INT)
    # Pages may come late; the last of the channels is the urgent one.
    late: bool = field(default=False, metadata=BOOL)


@dataclass(frozen=True)
class Accept(Message):
    """The destination has built the machine and can run it."""

    TYPE = 67
    token: str = field(metadata=ID)
    host: dict[str, Any] = field(metadata=OBJECT)
    # Bit e: page encoding e is understood; raw always is.
    encodings: int = field(default=1, metadata=INT)
    # Pages may come late; if not, why.
    late: bool = field(default=False, metadata=BOOL)
    late_reason: str = field(default="", metadata=TEXT)


@dataclass(frozen=True)
class Refuse(Message):
    """The destination cannot run it, and why."""

    TYPE = 68
    differences: list[str] = field(metadata=TEXTS)


@dataclass(frozen=True)
class Ready(Message):
    """All data channels are there, the receiver runs."""

    TYPE = 69


@dataclass(frozen=True)
class Populated(Message):
    """The memory that RANGES announced is allocated; at any time, once."""

    TYPE = 87


@dataclass(frozen=True)
class EpochAck(Message):
    """An epoch has arrived completely; the body lists its stale pages."""

    TYPE = 70
    HAS_BODY = True
    BODY_OPTIONAL = True
    epoch: int = field(metadata=INT)
    kind: str = field(metadata=EPOCH_KIND)
    pages: int = field(metadata=INT)
    suspect_pages: int = field(metadata=INT)
    digest: str = field(metadata=HASH)
    stale_pages: int = field(default=0, metadata=INT)


@dataclass(frozen=True)
class Rehearse(Message):
    """Load this trial state (the body); do not keep it."""

    TYPE = 71
    HAS_BODY = True


@dataclass(frozen=True)
class Rehearsed(Message):
    """The trial state loads; an error means that it does not."""

    TYPE = 72
    load_ms: float = field(metadata=MS)
    error: str = field(default="", metadata=TEXT)


@dataclass(frozen=True)
class Prepare(Message):
    """The sealed epoch is out; this is what must have arrived."""

    TYPE = 73
    epoch: int = field(metadata=INT)
    digest: str = field(metadata=HASH)
    # Pages come late; the late epoch has begun.
    late: bool = field(default=False, metadata=BOOL)


@dataclass(frozen=True)
class Prepared(Message):
    """Pages and state are in place; COMMIT would run the guest."""

    TYPE = 74
    load_ms: float = field(metadata=MS)


@dataclass(frozen=True)
class VerifyPages(Message):
    """Hash these blocks."""

    TYPE = 75
    first_block: int = field(metadata=INT)
    n_blocks: int = field(metadata=INT)


@dataclass(frozen=True)
class VerifyHashes(Message):
    """8 bytes for each page, in order; no body when all are zero."""

    TYPE = 76
    HAS_BODY = True
    first_block: int = field(metadata=INT)
    n_blocks: int = field(metadata=INT)


@dataclass(frozen=True)
class Commit(Message):
    """Run the guest. Whoever sent this will not run it again on its own."""

    TYPE = 77


@dataclass(frozen=True)
class Running(Message):
    """The guest runs at the destination."""

    TYPE = 78
    resume_ms: float = field(metadata=MS)


@dataclass(frozen=True)
class Abort(Message):
    """Discard the machine; never run it."""

    TYPE = 79
    reason: str = field(metadata=TEXT)


@dataclass(frozen=True)
class Aborted(Message):
    """The machine is discarded and was never run."""

    TYPE = 80
    reason: str = field(metadata=TEXT)


@dataclass(frozen=True)
class Done(Message):
    """The source knows that the guest runs; nothing more will come."""

    TYPE = 81


@dataclass(frozen=True)
class Query(Message):
    """What became of this session?"""

    TYPE = 82


@dataclass(frozen=True)
class Status(Message):
    """Answer to QUERY, and to a COMMIT or ABORT that came too late."""

    TYPE = 83
    state: str = field(metadata=STATUS)
    reason: str = field(default="", metadata=TEXT)


@dataclass(frozen=True)
class Error(Message):
    """This side failed; the connection ends."""

    TYPE = 84
    step: str = field(metadata=TEXT)
    message: str = field(metadata=TEXT)


@dataclass(frozen=True)
class Ping(Message):
    """Sent when nothing else was, so that silence means something."""

    TYPE = 85
    number: int = field(default=0, metadata=INT)


@dataclass(frozen=True)
class Pong(Message):
    """Answer to PING."""

    TYPE = 86
    number: int = field(default=0, metadata=INT)


@dataclass(frozen=True)
class Missing(Message):
    """Answer to HELLO recover: a bitmap of the pages that are missing."""

    TYPE = 88
    HAS_BODY = True
    attempt: int = field(metadata=INT)
    pages: int = field(metadata=INT)


@dataclass(frozen=True)
class Arrived(Message):
    """No page is missing any more; what it cost to wait for them."""

    TYPE = 89
    figures: dict[str, Any] = field(metadata=OBJECT)


@dataclass(frozen=True)
class Offer(Message):
    """The memory file that a page server has."""

    TYPE = 90
    # Tells what is in it from what is in others.
    contents: str = field(metadata=TEXT)
    size_bytes: int = field(metadata=INT)


@dataclass(frozen=True)
class Held(Message):
    """A bitmap of the described pages that hold something; others are zero."""

    TYPE = 91
    HAS_BODY = True
    pages: int = field(metadata=INT)


@dataclass(frozen=True)
class First(Message):
    """What to send without being asked for: first of all, pages by number.

    Without a list these are the server's own, if it has any.
    """

    TYPE = 92
    HAS_BODY = True
    BODY_OPTIONAL = True
    pages: int = field(metadata=INT)
    push: str = field(metadata=PUSH)


M = TypeVar("M", bound=Message)

MESSAGES: Mapping[int, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        Hello,
        Welcome,
        Describe,
        Accept,
        Refuse,
        Ready,
        EpochAck,
        Rehearse,
        Rehearsed,
        Prepare,
        Prepared,
        VerifyPages,
        VerifyHashes,
        Commit,
        Running,
        Abort,
        Aborted,
        Done,
        Query,
        Status,
        Error,
        Ping,
        Pong,
        Populated,
        Missing,
        Arrived,
        Offer,
        Held,
        First,
    )
}


def encode(message: Message) -> bytes:
    """The head of a message's frame."""
    head = {f.name: getattr(message, f.name) for f in fields(message) if f.name != "body"}
    if _has_hash(message, message.body):
        head["body_hash"] = xxhash.xxh3_64_hexdigest(message.body)
    elif message.body:
        raise ValueError(f"{type(message).__name__} has no body")
    return json.dumps(head, separators=(",", ":")).encode()


def _has_hash(kind: Message | type[Message], body: bytes) -> bool:
    return kind.HAS_BODY and (bool(body) or not kind.BODY_OPTIONAL)


def decode(frame_type: int, head: bytes, body: bytes = b"") -> Message:
    """Read a message.

    :raises ProtocolError: unknown type, malformed head, wrong body.
    """
    kind = MESSAGES.get(frame_type)
    if kind is None:
        raise ProtocolError(f"frame type {frame_type} is not a control message")
    name = kind.__name__
    members = _parse_head(name, head)
    if body and not kind.HAS_BODY:
        raise ProtocolError(f"{name} came with a body")
    if _has_hash(kind, body) and members.get("body_hash") != xxhash.xxh3_64_hexdigest(body):
        raise ProtocolError(f"the body of {name} fails its hash")
    values: dict[str, Any] = {}
    for member in fields(kind):
        if member.name == "body":
            continue
        if member.name not in members:
            if member.default is MISSING:
                raise ProtocolError(f"{name} lacks {member.name!r}")
            continue
        value = members[member.name]
        if not member.metadata["check"](value):
            raise ProtocolError(f"{name}: {member.name!r} is {value!r:.80}")
        values[member.name] = value
    return kind(**values, body=body)


def _parse_head(name: str, head: bytes) -> dict[str, Any]:
    try:
        members = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the head of {name} is not JSON: {error}") from None
    if not isinstance(members, dict):
        raise ProtocolError(f"the head of {name} is not a JSON object")
    return members


def negotiate(hello: Hello, oldest: int = OLDEST, newest: int = NEWEST) -> int:
    """The newest version that both sides speak.

    :raises ProtocolError: there is none.
    """
    version = min(hello.newest, newest)
    if version < max(hello.oldest, oldest):
        raise ProtocolError(
            f"the peer speaks control protocol {hello.oldest} to {hello.newest}, "
            f"this side {oldest} to {newest}"
        )
    return version

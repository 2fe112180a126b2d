# SPDX-License-Identifier: Apache-2.0
"""What a VMM says when it hands its page faults over.

One message on a unix stream socket: a JSON array, an element for each region
of guest memory, and with it one descriptor, the userfaultfd that the regions
are registered with. There is no length, no version and no answer; the VMM
usually closes the connection right after. Members of an element:

``base_host_virt_addr``
    where the region begins in the VMM's address space
``size``
    bytes
``offset``
    of its first byte in the memory file
``page_size``, ``page_size_kib``
    of the backing. Both are given in bytes, whatever the second one is
    called; real KiB are understood there as well. Where neither is given, as
    by VMMs that know no huge pages, it is 4096.

Other members are ignored.
"""

from __future__ import annotations

import array
import itertools
import json
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymigrate.errors import HandshakeError

__all__ = ["GuestRegion", "Handshake", "parse_regions", "receive_handshake"]

PAGE_BYTES = 4096
PAGE_SIZES = (4096, 2 << 20)
MAX_REGIONS = 1024
ADDRESS_BITS = 63
# A thousand regions are 150 KiB of JSON.
MAX_MESSAGE_BYTES = 1 << 20
RECEIVE_BYTES = 1 << 16
MAX_FDS = 16
UCRED = struct.Struct("3i")


@dataclass(frozen=True)
class GuestRegion:
    """One region of the VMM's guest memory.

    :ivar base: its address in the VMM.
    :ivar offset_bytes: of its first byte in the memory file.
    :ivar page_size_bytes: of the backing.
    """

    base: int
    size_bytes: int
    offset_bytes: int
    page_size_bytes: int = PAGE_BYTES

    @property
    def end_bytes(self) -> int:
        """Behind its last byte in the memory file."""
        return self.offset_bytes + self.size_bytes

    def to_json(self) -> dict[str, int]:
        """As an element of the handshake."""
        return {
            "base_host_virt_addr": self.base,
            "size": self.size_bytes,
            "offset": self.offset_bytes,
            "page_size": self.page_size_bytes,
        }


@dataclass(frozen=True)
class Handshake:
    """What came; the descriptor is the caller's to close.

    :ivar regions: in the order of their offsets.
    :ivar uffd: non-blocking from here on, for the VMM as well.
    :ivar pid: of who sent it; 0 where it is in another pid namespace.
    """

    regions: tuple[GuestRegion, ...]
    uffd: int
    pid: int


def receive_handshake(sock: socket.socket, timeout_s: float) -> Handshake | None:
    """Read the one message of a connection.

    :returns: None for one that ended without a word: somebody who looked
        whether anybody listens.
    :raises HandshakeError: it is malformed, incomplete, or came without its
        descriptor, or not in time.
    """
    text, fds = b"", []
    deadline = time.monotonic() + timeout_s
    try:
        while (document := _complete(text)) is None:
            piece, more = _receive(sock, deadline, len(text))
            text += piece
            fds += more
            if not text and not fds:
                return None
        return Handshake(_read_regions(document), _take_uffd(fds), _peer_pid(sock))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _receive(sock: socket.socket, deadline: float, so_far: int) -> tuple[bytes, list[int]]:
    left_s = deadline - time.monotonic()
    try:
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(left_s)
        space = socket.CMSG_SPACE(MAX_FDS * 4)
        flags = socket.MSG_CMSG_CLOEXEC
        piece, messages, got, _ = sock.recvmsg(RECEIVE_BYTES, space, flags)
    except TimeoutError:
        words = "the VMM connected, and did not say in time which memory it has"
        raise HandshakeError(f"{words}: {so_far} bytes came") from None
    except OSError as error:
        raise HandshakeError(f"reading the handshake: {error.strerror}") from error
    fds = [fd for level, kind, data in messages for fd in _fds_of(level, kind, data)]
    try:
        if got & socket.MSG_CTRUNC:
            raise HandshakeError("more descriptors came with the handshake than anybody sends")
        if not piece and so_far:
            raise HandshakeError(f"the handshake breaks off after {so_far} bytes")
        if so_far + len(piece) > MAX_MESSAGE_BYTES:
            raise HandshakeError(f"the handshake is longer than {MAX_MESSAGE_BYTES} bytes")
    except HandshakeError:
        for fd in fds:
            os.close(fd)
        raise
    return piece, fds


def _fds_of(level: int, kind: int, data: bytes) -> list[int]:
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
        return []
    fds = array.array("i")
    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def _complete(text: bytes) -> Any:
    """The document, or None where more has to come.

    There is no length: that it can be parsed says that it is complete.
    """
    if not text.strip():
        return None
    if text.lstrip()[:1] != b"[":
        raise HandshakeError(f"the handshake is not a JSON array: it begins with {text[:20]!r}")
    try:
        return json.loads(text)
    except RecursionError:
        raise HandshakeError("the handshake is nested too deeply") from None
    except ValueError as error:
        # Wrong at its end it may only be incomplete; elsewhere it is wrong.
        if isinstance(error, json.JSONDecodeError) and not _is_cut_off(text, error):
            raise HandshakeError(f"the handshake is not JSON: {error}") from None
        return None


def _is_cut_off(text: bytes, error: json.JSONDecodeError) -> bool:
    rest = error.doc[error.pos :].strip()
    return not rest or rest.startswith('"') or _is_part_of_word(rest)


def _is_part_of_word(rest: str) -> bool:
    return any(word.startswith(rest) for word in ("true", "false", "null", "NaN", "-Infinity"))


def _take_uffd(fds: list[int]) -> int:
    if not fds:
        raise HandshakeError("no descriptor came with the handshake: the userfaultfd is missing")
    if len(fds) > 1:
        raise HandshakeError(
            f"{len(fds)} descriptors came with the handshake, where one is expected: "
            "memory that is not anonymous is not served"
        )
    link = os.readlink(f"/proc/self/fd/{fds[0]}")
    if "userfaultfd" not in link:
        raise HandshakeError(f"the descriptor that came is no userfaultfd, but {link}")
    # Without this, poll() reports an error and nothing else.
    os.set_blocking(fds[0], False)
    return fds[0]


def _peer_pid(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    return int(UCRED.unpack(credentials)[0])


# ---- the regions --------------------------------------------------------------


def parse_regions(text: bytes) -> tuple[GuestRegion, ...]:
    """The regions of a complete message, in the order of their offsets.

    :raises HandshakeError: with what is wrong.
    """
    document = _complete(text)
    if document is None:
        raise HandshakeError(f"the handshake breaks off after {len(text)} bytes")
    return _read_regions(document)


def _read_regions(document: Any) -> tuple[GuestRegion, ...]:
    if not isinstance(document, list) or not document:
        raise HandshakeError("the handshake names no regions of memory")
    if len(document) > MAX_REGIONS:
        raise HandshakeError(f"the handshake names {len(document)} regions of memory, too many")
    regions = [_read_region(number, element) for number, element in enumerate(document)]
    _check_overlap(regions, "the VMM's address space", lambda region: region.base)
    _check_overlap(regions, "the memory file", lambda region: region.offset_bytes)
    return tuple(sorted(regions, key=lambda region: region.offset_bytes))


def _read_region(number: int, element: Any) -> GuestRegion:
    if not isinstance(element, Mapping):
        raise HandshakeError(f"region {number} of the handshake is no JSON object")
    region = GuestRegion(
        base=_number(number, element, "base_host_virt_addr"),
        size_bytes=_number(number, element, "size"),
        offset_bytes=_number(number, element, "offset"),
        page_size_bytes=_page_size(number, element),
    )
    page = region.page_size_bytes
    if not region.size_bytes:
        raise HandshakeError(f"region {number} of the handshake is empty")
    for name, value in (("base_host_virt_addr", region.base), ("size", region.size_bytes)):
        if value % page:
            raise HandshakeError(
                f"region {number} of the handshake: {name} is {value:#x}, no multiple of its "
                f"pages of {page} bytes"
            )
    if region.offset_bytes % PAGE_BYTES:
        raise HandshakeError(
            f"region {number} of the handshake: offset is {region.offset_bytes:#x}, no multiple "
            f"of {PAGE_BYTES}"
        )
    if max(region.base, region.offset_bytes) + region.size_bytes >= 1 << ADDRESS_BITS:
        raise HandshakeError(f"region {number} of the handshake ends beyond all addresses")
    return region


def _number(number: int, element: Mapping[str, Any], name: str) -> int:
    if name not in element:
        raise HandshakeError(f"region {number} of the handshake lacks {name!r}")
    value = element[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise HandshakeError(f"region {number} of the handshake: {name} is {value!r:.40}")
    return value


def _page_size(number: int, element: Mapping[str, Any]) -> int:
    found = {
        size
        for name in ("page_size", "page_size_kib")
        if name in element
        for size in (_number(number, element, name),)
    }
    if not found:
        return PAGE_BYTES
    for size in PAGE_SIZES:
        if found <= {size, size >> 10}:
            return size
    words = ", ".join(str(size) for size in sorted(found))
    raise HandshakeError(
        f"region {number} of the handshake has pages of {words}: known are 4096 and 2097152 bytes"
    )


def _check_overlap(regions: Sequence[GuestRegion], where: str, place: Any) -> None:
    ordered = sorted(regions, key=place)
    for lower, upper in itertools.pairwise(ordered):
        if place(lower) + lower.size_bytes > place(upper):
            raise HandshakeError(
                f"regions of the handshake overlap in {where}: at {place(lower):#x} one of "
                f"{lower.size_bytes} bytes, at {place(upper):#x} another"
            )

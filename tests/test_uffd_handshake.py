# SPDX-License-Identifier: Apache-2.0
"""What a VMM says when it hands its page faults over, and what is refused."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from beds import SYS_USERFAULTFD
from hypothesis import given
from hypothesis import strategies as st
from uffd_vmm import UFFD_API, UFFDIO_API

from pymigrate.errors import HandshakeError
from pymigrate.uffd_handler.handshake import GuestRegion, parse_regions, receive_handshake
from pymigrate.uffd_handler.vmm_process import reports_removals

MIB = 1 << 20
LIMIT_S = 5.0


def mapping(**changes: Any) -> dict[str, Any]:
    """An element as Firecracker 1.10 sends it."""
    found = {
        "base_host_virt_addr": 0x7F0000000000,
        "size": 2 * MIB,
        "offset": 0,
        "page_size": 4096,
        "page_size_kib": 4096,
    }
    found |= changes
    return {name: value for name, value in found.items() if value is not None}


def text(*mappings: Any) -> bytes:
    return json.dumps(mappings).encode()


# ---- regions ----------------------------------------------------------------


def test_regions_come_in_the_order_of_their_offsets() -> None:
    high = mapping(base_host_virt_addr=0x600000000000, offset=2 * MIB, size=MIB)
    assert parse_regions(text(high, mapping())) == (
        GuestRegion(0x7F0000000000, 2 * MIB, 0, 4096),
        GuestRegion(0x600000000000, MIB, 2 * MIB, 4096),
    )


def test_unknown_members_are_ignored() -> None:
    assert parse_regions(text(mapping(numa_node=3, later={"a": [1]})))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"page_size": 2 * MIB, "page_size_kib": 2 * MIB}, 2 * MIB),
        ({"page_size": 2 * MIB, "page_size_kib": 2048}, 2 * MIB),
        ({"page_size": None, "page_size_kib": 2 * MIB}, 2 * MIB),
        ({"page_size": None, "page_size_kib": 2048}, 2 * MIB),
        ({"page_size": 4096, "page_size_kib": None}, 4096),
        ({"page_size": None, "page_size_kib": 4}, 4096),
        ({"page_size": None, "page_size_kib": None}, 4096),
    ],
)
def test_page_sizes_as_different_versions_say_them(sizes: dict[str, Any], expected: int) -> None:
    assert parse_regions(text(mapping(**sizes)))[0].page_size_bytes == expected


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"{}", "not a JSON array"),
        (b"hello", "not a JSON array"),
        (b"[1]", "no JSON object"),
        (b"[]", "no regions"),
        (b'[{"size": }]', "not JSON"),
        (text(mapping())[:-3], "breaks off"),
        (text(mapping()) + b"[]", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (text(mapping(base_host_virt_addr=None)), "lacks 'base_host_virt_addr'"),
        (text(mapping(size=None)), "lacks 'size'"),
        (text(mapping(offset=None)), "lacks 'offset'"),
        (text(mapping(size="4096")), "size is '4096'"),
        (text(mapping(size=True)), "size is True"),
        (text(mapping(size=-4096)), "size is -4096"),
        (text(mapping(size=4096.0)), "size is 4096.0"),
        (text(mapping(size=0)), "is empty"),
        (text(mapping(size=5000)), "no multiple of its pages"),
        (text(mapping(base_host_virt_addr=0x7F0000000001)), "no multiple of its pages"),
        (text(mapping(offset=100)), "offset is 0x64"),
        (text(mapping(size=1 << 63)), "beyond all addresses"),
        (text(mapping(offset=(1 << 64) - 4096)), "beyond all addresses"),
        (text(mapping(page_size=8192)), "pages of 4096, 8192"),
        (text(mapping(page_size=8192, page_size_kib=8192)), "pages of 8192"),
        (text(mapping(page_size=0, page_size_kib=0)), "pages of 0"),
        (text(mapping(page_size=1 << 30, page_size_kib=1 << 30)), "pages of 1073741824"),
        (
            text(mapping(page_size=2 * MIB, page_size_kib=2 * MIB, size=3 * MIB)),
            "no multiple of its pages",
        ),
        (
            text(mapping(), mapping(offset=2 * MIB, base_host_virt_addr=0x7F0000100000)),
            "overlap in the VMM's address space",
        ),
        (
            text(mapping(), mapping(offset=MIB, base_host_virt_addr=0x600000000000)),
            "overlap in the memory file",
        ),
        (text(*[mapping(offset=n * 2 * MIB) for n in range(1025)]), "1025 regions"),
    ],
)
def test_malformed_handshakes_are_refused_with_a_reason(said: bytes, reason: str) -> None:
    with pytest.raises(HandshakeError, match=reason):
        parse_regions(said)


@given(st.binary(max_size=200))
def test_anything_is_read_or_refused(said: bytes) -> None:
    try:
        parse_regions(said)
    except HandshakeError as error:
        assert str(error)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(sorted(mapping())),
            st.integers(-(1 << 70), 1 << 70) | st.none() | st.text(max_size=3),
        ),
        max_size=3,
    )
)
def test_any_numbers_are_read_or_refused(document: list[dict[str, Any]]) -> None:
    try:
        regions = parse_regions(json.dumps(document).encode())
    except HandshakeError:
        return
    assert all(region.size_bytes > 0 and region.base >= 0 for region in regions)


@pytest.mark.uffd
@pytest.mark.parametrize(("features", "told"), [(0, False), (1 << 3, True), (1 << 4, False)])
def test_what_the_vmm_has_asked_the_kernel_for(uffd: int, features: int, told: bool) -> None:
    fcntl.ioctl(uffd, UFFDIO_API, struct.pack("<QQQ", UFFD_API, features, 0))
    assert reports_removals(uffd) is told


# ---- the message ------------------------------------------------------------


@pytest.fixture
def uffd() -> Iterator[int]:
    fd = ctypes.CDLL(None).syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        yield here, there


Pair = tuple[socket.socket, socket.socket]


def send(sock: socket.socket, said: bytes, *fds: int) -> None:
    socket.send_fds(sock, [said], list(fds))


@pytest.mark.uffd
def test_a_message_with_its_descriptor(pair: Pair, uffd: int, nothing_leaks: None) -> None:
    here, there = pair
    send(there, text(mapping()), uffd)
    handshake = receive_handshake(here, LIMIT_S)
    assert handshake is not None
    assert handshake.pid == os.getpid()
    assert len(handshake.regions) == 1
    assert os.fstat(handshake.uffd).st_ino == os.fstat(uffd).st_ino
    # A blocking one cannot be polled; the flag is of the open file.
    assert not os.get_blocking(uffd)
    os.close(handshake.uffd)


@pytest.mark.uffd
def test_a_message_in_pieces(pair: Pair, uffd: int, nothing_leaks: None) -> None:
    """There is no length: what has come is complete once it can be parsed."""
    here, there = pair
    words = text(*[mapping(offset=n << 30, base_host_virt_addr=n << 30) for n in range(1, 700)])

    def send_slowly() -> None:
        send(there, words[:1], uffd)
        for at in range(1, len(words), 997):
            there.sendall(words[at : at + 997])

    thread = threading.Thread(target=send_slowly)
    thread.start()
    handshake = receive_handshake(here, LIMIT_S)
    thread.join()
    assert handshake is not None and len(handshake.regions) == 699
    os.close(handshake.uffd)


@pytest.mark.uffd
@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_message_cut_anywhere_is_no_message(
    pair: Pair, uffd: int, cut: int, nothing_leaks: None
) -> None:
    here, there = pair
    words = json.dumps([mapping(note='a "quoted" word', flag=True, nothing=[None])]).encode()
    send(there, words[:cut], uffd)
    there.shutdown(socket.SHUT_WR)
    with pytest.raises(HandshakeError, match=f"breaks off after {cut} bytes"):
        receive_handshake(here, LIMIT_S)


def test_a_connection_without_a_word_is_nobody(pair: Pair) -> None:
    here, there = pair
    there.shutdown(socket.SHUT_WR)
    assert receive_handshake(here, LIMIT_S) is None


def test_silence_ends(pair: Pair) -> None:
    here, there = pair
    there.sendall(b"[")
    with pytest.raises(HandshakeError, match="did not say in time"):
        receive_handshake(here, 0.05)


@pytest.mark.uffd
def test_wrong_descriptors(pair: Pair, uffd: int, nothing_leaks: None) -> None:
    here, there = pair
    words = text(mapping())
    send(there, words)
    with pytest.raises(HandshakeError, match="no descriptor came"):
        receive_handshake(here, LIMIT_S)
    send(there, words, uffd, uffd)
    with pytest.raises(HandshakeError, match="2 descriptors came"):
        receive_handshake(here, LIMIT_S)
    send(there, words, *[uffd] * 20)
    with pytest.raises(HandshakeError, match="more descriptors"):
        receive_handshake(here, LIMIT_S)


def test_a_descriptor_that_is_no_userfaultfd(pair: Pair, nothing_leaks: None) -> None:
    here, there = pair
    with open(os.devnull, "rb") as null:
        send(there, text(mapping()), null.fileno())
        with pytest.raises(HandshakeError, match="no userfaultfd, but /dev/null"):
            receive_handshake(here, LIMIT_S)


def test_a_flood_is_cut_off(pair: Pair) -> None:
    here, there = pair
    there.settimeout(LIMIT_S)

    def flood() -> None:
        with contextlib.suppress(OSError):
            there.sendall(b"[" + b" " * (2 << 20))

    thread = threading.Thread(target=flood)
    thread.start()
    with pytest.raises(HandshakeError, match="longer than"):
        receive_handshake(here, LIMIT_S)
    here.close()
    thread.join()

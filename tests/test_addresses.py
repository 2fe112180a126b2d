# SPDX-License-Identifier: Apache-2.0
"""Addresses: read, written, listened on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pymigrate.addresses import TCP_CONGESTION, Scheme, connect, listen, parse_address
from pymigrate.errors import AddressError
from pymigrate.network import shaped_link


@pytest.mark.parametrize(
    "text", ["tcp:host:1", "tcp:10.0.0.1:65535", "tcp:[::1]:0", "unix:/a/b", "file:x:y", "null:"]
)
def test_text_comes_back(text: str) -> None:
    assert str(parse_address(text)) == text


def test_parts() -> None:
    address = parse_address("tcp:[fe80::1]:4444")
    assert (address.scheme, address.host, address.port) == (Scheme.TCP, "fe80::1", 4444)
    assert parse_address("unix:/run/x").path == "/run/x"
    assert parse_address(address) is address


@pytest.mark.parametrize(
    "text",
    ["", "host:1", "tcp:", "tcp::1", "tcp:h", "tcp:h:x", "tcp:h:65536", "tcp:::1:5", "unix:",
     "file:", "null:x", "tcp:h:\u0661"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(AddressError, match=r"expected|missing|larger|brackets|nothing"):
        parse_address(text)


def test_system_chooses_the_port() -> None:
    sock, address = listen(parse_address("tcp:127.0.0.1:0"))
    with sock:
        assert address.port > 0
        connect(address, 1000, 1000).close()


@pytest.mark.parametrize("text", ["file:x", "null:"])
def test_not_for_sockets(text: str) -> None:
    with pytest.raises(AddressError, match="listened on"):
        listen(parse_address(text))
    with pytest.raises(AddressError, match="connected to"):
        connect(parse_address(text), 1000, 1000)


def test_socket_of_a_dead_process_is_replaced_a_living_one_is_not(tmp_path: Path) -> None:
    address = parse_address(f"unix:{tmp_path}/s")
    first, _ = listen(address)
    with first, pytest.raises(OSError, match="in use"):
        listen(address)
    second, _ = listen(address)
    with second:
        connect(address, 1000, 1000).close()


def test_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen(parse_address(f"unix:{path}"))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("host", ["a" * 70 + ".invalid", "ü" * 70 + ".invalid", "ü.invalid"])
def test_no_such_host(host: str) -> None:
    """Names that cannot be one included: an OSError, which callers expect."""
    address = parse_address(f"tcp:{host}:4444")
    with pytest.raises(OSError):
        connect(address, 1000, 1000)
    with pytest.raises(OSError):
        listen(address)


def test_no_delay_for_small_messages() -> None:
    sock, address = listen(parse_address("tcp:127.0.0.1:0"))
    with sock, connect(address, 1000, 1000) as near:
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert near.gettimeout() is None


def test_nothing_is_paced_within_a_host() -> None:
    """Reno from the start: what begins with BBR is paced whatever it is set to later."""
    listener, address = listen(parse_address("tcp:127.0.0.1:0"))
    with listener, connect(address, 1000, 1000) as sock:
        chosen = sock.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
        assert chosen.rstrip(b"\0") == b"reno"


@pytest.mark.netns
def test_a_path_that_leaves_the_host_keeps_its_congestion_control() -> None:
    with shaped_link(10**9) as (here, there):
        listener, address = there.namespace.run(
            lambda: listen(parse_address(f"tcp:{there.address}:0"))
        )

        def choice() -> tuple[bytes, bytes]:
            with connect(address, 1000, 1000) as sock, socket.socket() as untouched:
                connected, plain = (
                    one.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
                    for one in (sock, untouched)
                )
                return connected, plain

        with listener:
            connected, plain = here.namespace.run(choice)
        assert connected == plain

# SPDX-License-Identifier: Apache-2.0
"""The shaped link between two network namespaces."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from pymigrate import network
from pymigrate.network import Endpoint, NetworkError, NetworkNamespace, shaped_link

MBIT = 1_000_000


def connect(left: Endpoint, right: Endpoint) -> tuple[socket.socket, socket.socket]:
    """A connection from left to right, both ends in this process."""
    with right.namespace.run(lambda: socket.create_server((right.address, 0))) as server:
        target = server.getsockname()
        client = left.namespace.run(lambda: socket.create_connection(target, 10))
        accepted, _ = server.accept()
    return client, accepted


def goodput_bits_per_s(client: socket.socket, server: socket.socket, n_bytes: int) -> float:
    """Payload rate, without the first eighth in which TCP finds its speed."""
    sender = threading.Thread(target=lambda: client.sendall(bytes(n_bytes)))
    sender.start()
    buffer = bytearray(1 << 20)
    received, begin, skipped = 0, 0.0, 0
    while received < n_bytes:
        received += server.recv_into(buffer)
        if not begin and received >= n_bytes // 8:
            begin, skipped = time.monotonic(), received
    elapsed = time.monotonic() - begin
    sender.join()
    return (received - skipped) * 8 / elapsed


@pytest.mark.netns
@pytest.mark.parametrize("rate", [100 * MBIT, 1000 * MBIT])
def test_the_link_carries_its_rate_both_ways(rate: int) -> None:
    with shaped_link(rate) as (left, right):
        client, server = connect(left, right)
        with client, server:
            for source, sink in ((client, server), (server, client)):
                measured = goodput_bits_per_s(source, sink, rate // 16)
                # Ethernet, IP and TCP headers take 5 %; the machine may be busy.
                assert 0.75 * rate < measured < rate


@pytest.mark.netns
def test_nothing_is_left_behind() -> None:
    namespaces, descriptors = network_namespaces(), open_descriptors()
    with contextlib.suppress(ZeroDivisionError), shaped_link(100 * MBIT) as (left, _):
        assert network_namespaces() > namespaces
        assert interfaces(left) == ["lo", "pmig0"]
        raise ZeroDivisionError
    assert open_descriptors() == descriptors
    assert network_namespaces() == namespaces


def network_namespaces() -> int:
    """How many this process holds; the kernel frees what nobody holds."""
    targets = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum(os.readlink(path).startswith("net:") for path in targets if os.path.lexists(path))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def interfaces(end: Endpoint) -> list[str]:
    return sorted(name for _, name in end.namespace.run(socket.if_nameindex))


@pytest.mark.netns
def test_this_process_stays_where_it_is() -> None:
    before = os.readlink("/proc/self/ns/net")
    with shaped_link(100 * MBIT) as (left, right):
        inside = left.namespace.run(lambda: os.readlink("/proc/thread-self/ns/net"))
        there = right.namespace.run(lambda: os.readlink("/proc/thread-self/ns/net"))
        assert len({before, inside, there}) == 3
        assert os.readlink("/proc/self/ns/net") == before


@pytest.mark.netns
def test_a_child_process_enters() -> None:
    with shaped_link(100 * MBIT) as (left, _):
        code = (
            "import socket, sys; from pymigrate.network import enter_namespace;"
            "enter_namespace(int(sys.argv[1])); print(socket.if_nameindex())"
        )
        fd = left.namespace.fd
        child = [sys.executable, "-c", code, str(fd)]
        out = subprocess.run(child, pass_fds=[fd], capture_output=True, text=True, check=True)
        assert "pmig0" in out.stdout


@pytest.mark.netns
def test_an_exception_inside_comes_out() -> None:
    with shaped_link(100 * MBIT) as (left, _), pytest.raises(ZeroDivisionError):
        left.namespace.run(lambda: 1 // 0)


def test_without_privilege_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_arguments: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(network, "_libc_call", refuse)
    with pytest.raises(NetworkError, match="take root"):
        NetworkNamespace()


@pytest.mark.netns
def test_a_missing_queueing_discipline_is_named() -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    with (
        NetworkNamespace() as namespace,
        pytest.raises(NetworkError, match="CONFIG_NET_SCH_TBF"),
    ):

        def add() -> None:
            with network._netlink("the tbf queueing discipline (CONFIG_NET_SCH_TBF)"):
                raise NetlinkError(2, "No such file or directory")

        namespace.run(add)


@pytest.mark.parametrize("rate", [0, -1, 33_000 * MBIT])
def test_impossible_rates(rate: int) -> None:
    with pytest.raises(NetworkError, match="at most 32gbit"), shaped_link(rate):
        pass

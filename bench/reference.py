# SPDX-License-Identifier: Apache-2.0
"""What a page fault over a link cannot be faster than, measured where it is judged."""

from __future__ import annotations

import ctypes
import socket
import statistics
import threading
import time
from collections.abc import Sequence

from bench.native import PAGE, library
from pymigrate.network import Endpoint

__all__ = ["link_us", "touch_us"]

TOUCHES = 4096
ECHOES = 300
REQUEST_BYTES = 64


def touch_us() -> float:
    """Median of a fault that a thread of the same process serves.

    :raises OSError: no userfaultfd.
    """
    times = (ctypes.c_uint64 * TOUCHES)()
    code = library().bench_touch(TOUCHES, times)
    if code:
        raise OSError(-code, "userfaultfd")
    return float(statistics.median(times)) / 1e3


def link_us(ends: Sequence[Endpoint], rate_bits_per_s: int) -> float:
    """Median of a small request from the right end, and a page in answer.

    On an idle link, by blocking sockets of this process.  What shapes the link
    lets a page pass at once after a pause, as no link of that rate would, so
    the time that a page takes on it is added.
    """
    left, right = ends
    server = left.namespace.run(lambda: socket.create_server((left.address, 0)))
    thread = threading.Thread(target=_answer, args=(server,), daemon=True)
    thread.start()
    try:
        where = server.getsockname()
        client = right.namespace.run(lambda: socket.create_connection(where))
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            passing_us = 1e6 * 8 * PAGE / rate_bits_per_s
            return statistics.median(_ask(client) for _ in range(ECHOES)) / 1e3 + passing_us
    finally:
        thread.join()
        server.close()


def _ask(client: socket.socket) -> int:
    begin_ns = time.perf_counter_ns()
    client.sendall(bytes(REQUEST_BYTES))
    left_bytes = PAGE
    while left_bytes:
        left_bytes -= len(client.recv(left_bytes))
    return time.perf_counter_ns() - begin_ns


def _answer(server: socket.socket) -> None:
    sock, _ = server.accept()
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while sock.recv(REQUEST_BYTES):
            sock.sendall(bytes(PAGE))

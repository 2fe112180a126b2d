# SPDX-License-Identifier: Apache-2.0
"""The limit: plain send and recv of as many bytes over as many sockets.

Two processes, one thread for each socket. No headers, no checks, no knowledge
of pages: what a migration of the same bytes over the same sockets cannot beat
by much. The destination's memory is populated before the clock starts, or is
fresh, and then its allocation is a part of the time.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.contents import fill
from bench.task import Run, Task
from bench.warm import MADV_POPULATE_WRITE, warm
from pymigrate.network import Endpoint

CHUNK_BYTES = 1 << 20
_Mover = Callable[[socket.socket, memoryview], None]


@dataclass(frozen=True)
class BareMover:
    """As many bytes as the guest has allocated, over loopback.

    :ivar fresh: into memory that has yet to be allocated.
    """

    name: str
    channels: int = 2
    fresh: bool = False

    def run(self, task: Task, ends: Sequence[Endpoint] = ()) -> Run:
        """Move once.

        :raises RuntimeError: one of the two processes failed.
        """
        if ends:
            raise ValueError("the bare mover is for loopback: iperf3 measures a link")
        pairs = [_connected_pair() for _ in range(self.channels)]
        here = [a for a, _ in pairs]
        told, ready = os.pipe()
        child = os.fork()
        if child == 0:
            _receiver_process([b for _, b in pairs], task, self.fresh, ready)
        os.close(ready)
        for _, there in pairs:
            there.close()
        with open(told, encoding="utf-8") as reports:
            try:
                return self._send(here, task, reports)
            finally:
                for sock in here:
                    sock.close()
                os.waitpid(child, 0)

    def _send(self, sockets: Sequence[socket.socket], task: Task, reports: Any) -> Run:
        with allocate(task.touched_bytes, task.backing) as memory:
            fill(
                lambda at, data: memory.__setitem__(slice(at, at + len(data)), data),
                _whole(task),
                0,
            )
            _expect(reports, "ready")
            if self.fresh:
                warm(task.touched_bytes)
            cpu, begin = time.process_time(), time.monotonic()
            on_each(_send_all, sockets, memory)
            done = _expect(reports, "done")
            return Run(
                total_ms=1000 * (time.monotonic() - begin),
                wire_bytes=task.touched_bytes,
                source_cpu_s=time.process_time() - cpu,
                destination_cpu_s=done["cpu_s"],
            )


def allocate(size_bytes: int, backing: str) -> mmap.mmap:
    """Untouched memory of the kind that a guest would have."""
    if backing == "memfd":
        fd = os.memfd_create("bare-mover")
        os.ftruncate(fd, size_bytes)
        memory = mmap.mmap(fd, size_bytes)
        os.close(fd)
        return memory
    memory = mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if backing == "thp":
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def on_each(move: _Mover, sockets: Sequence[socket.socket], memory: mmap.mmap) -> None:
    """Move every socket's share of memory, each in a thread."""
    with memoryview(memory) as view:
        share = len(view) // len(sockets)
        threads = [
            threading.Thread(target=move, args=(sock, view[i * share : (i + 1) * share]))
            for i, sock in enumerate(sockets)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _whole(task: Task) -> list[tuple[str, int]]:
    return [(content, size) for content, size in task.layout if content != "untouched"]


def _connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    return here, there


def _send_all(sock: socket.socket, part: memoryview) -> None:
    with part:
        for at in range(0, len(part), CHUNK_BYTES):
            with part[at : at + CHUNK_BYTES] as chunk:
                sock.sendall(chunk)


def _receive_all(sock: socket.socket, part: memoryview) -> None:
    at = 0
    with part:
        while at < len(part):
            with part[at : at + CHUNK_BYTES] as chunk:
                got = sock.recv_into(chunk)
            if not got:
                raise ConnectionError("the sender ended early")
            at += got


def _receiver_process(
    sockets: Sequence[socket.socket], task: Task, fresh: bool, ready: int
) -> None:
    """The body of the child; ends the process."""
    status = 1
    try:
        memory = allocate(task.touched_bytes, task.backing)
        if not fresh:
            memory.madvise(MADV_POPULATE_WRITE)
        _report(ready, "ready")
        cpu = time.process_time()
        on_each(_receive_all, sockets, memory)
        _report(ready, "done", cpu_s=time.process_time() - cpu)
        status = 0
    finally:
        os._exit(status)


def _report(fd: int, event: str, **fields: Any) -> None:
    os.write(fd, json.dumps({"event": event, **fields}).encode() + b"\n")


def _expect(reports: Any, event: str) -> dict[str, Any]:
    line = reports.readline()
    found: dict[str, Any] = json.loads(line) if line else {}
    if found.get("event") != event:
        raise RuntimeError("the receiving process of the bare mover failed")
    return found

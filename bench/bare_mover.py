# SPDX-License-Identifier: Apache-2.0
"""The limit: plain send and recv of as many bytes over as many sockets.

Two processes, one thread for each socket, memory on both sides populated
before the clock starts. No headers, no checks, no knowledge of pages: what a
migration of the same bytes over the same sockets cannot beat by much.
"""

from __future__ import annotations

import mmap
import os
import socket
import threading
import time

CHUNK_BYTES = 1 << 20


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    return here, there


def populated(size_bytes: int, seed: bytes) -> mmap.mmap:
    """Shared memory filled with seed, over and over."""
    memory = mmap.mmap(-1, size_bytes)
    for at in range(0, size_bytes, len(seed)):
        part = min(len(seed), size_bytes - at)
        memory[at : at + part] = seed[:part]
    return memory


def send_all(sock: socket.socket, part: memoryview) -> None:
    for at in range(0, len(part), CHUNK_BYTES):
        sock.sendall(part[at : at + CHUNK_BYTES])


def receive_all(sock: socket.socket, part: memoryview) -> None:
    at = 0
    while at < len(part):
        got = sock.recv_into(part[at : at + CHUNK_BYTES])
        if not got:
            raise ConnectionError("the sender ended early")
        at += got


def on_each(function, sockets, memory) -> None:
    """Run function for every socket and its share of memory, in threads."""
    view = memoryview(memory)
    share = len(view) // len(sockets)
    threads = [
        threading.Thread(target=function, args=(sock, view[i * share : (i + 1) * share]))
        for i, sock in enumerate(sockets)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    view.release()


def receiver_process(sockets, size_bytes: int, ready: int) -> None:
    """The body of the child; ends the process."""
    status = 1
    try:
        memory = populated(size_bytes, bytes(CHUNK_BYTES))
        os.write(ready, b"r")
        on_each(receive_all, sockets, memory)
        os.write(ready, b"d")
        status = 0
    finally:
        os._exit(status)


def move(size_bytes: int, channels: int, source: mmap.mmap) -> float:
    """Seconds to move size_bytes from source to another process."""
    pairs = [connected_pair() for _ in range(channels)]
    told, ready = os.pipe()
    child = os.fork()
    if child == 0:
        receiver_process([there for _, there in pairs], size_bytes, ready)
    os.close(ready)
    try:
        if os.read(told, 1) != b"r":
            raise RuntimeError("the receiving process failed to start")
        begin = time.monotonic()
        on_each(send_all, [here for here, _ in pairs], source)
        if os.read(told, 1) != b"d":
            raise RuntimeError("the receiving process failed")
        return time.monotonic() - begin
    finally:
        os.waitpid(child, 0)
        os.close(told)
        for here, there in pairs:
            here.close()
            there.close()

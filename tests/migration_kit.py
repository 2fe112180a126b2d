# SPDX-License-Identifier: Apache-2.0
"""What the migration tests share: plain memory as a guest, and faulty wires.

The guest is a thread that writes to memory. It counts: every page of its
working set begins with a counter, counted up in order, so that at any
instant all counters are n or n+1 with one step: a lost page breaks that.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pymigrate import (
    CallableMachine,
    Destination,
    DirtyTracker,
    Memory,
    Options,
    PolicyOptions,
    Region,
    Report,
    Source,
    StateItem,
    StateList,
    TrackerKind,
)
from pymigrate.addresses import connect, parse_address

MIB = 1 << 20
SIZE_BYTES = 4 * MIB
WORKING_SET_PAGES = 128
COUNTER = struct.Struct("<Q")

# Short limits, so that a fault is noticed within a test's patience.
FAST = Options(
    channels=2,
    tracker=TrackerKind.MARKED,
    connect_timeout_ms=2000,
    handshake_timeout_ms=3000,
    peer_timeout_ms=2000,
    stall_timeout_ms=2000,
    rehearsal_timeout_ms=3000,
    prepare_timeout_ms=3000,
    verify_timeout_ms=3000,
    commit_timeout_ms=2000,
    resolve_timeout_ms=1500,
    prepared_timeout_ms=1500,
    linger_timeout_ms=500,
)


@dataclass
class Guest:
    """Memory, a writer, and a state item; the machine that wraps them."""

    size_bytes: int = SIZE_BYTES
    writes: bool = True
    fail: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.size_bytes)
        self.map = mmap.mmap(self.fd, self.size_bytes)
        self.memory = Memory([Region.of_buffer(self.map, fd=self.fd, shared=True)])
        self.tracker: DirtyTracker | None = None
        self.kind = TrackerKind.AUTO
        self.steps = 0
        self.running = False
        self.runs = 0
        self.before_runs = 0
        self.closed = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.machine = CallableMachine(
            self.memory,
            pause=self._pause,
            resume=self._resume,
            save_state=self._save,
            load_state=self._load,
            tracker=self._make_tracker,
            description={"kind": "test", "machine": {"size_bytes": self.size_bytes}},
            before_run=self._before_run,
            close=self._close,
        )

    def fill(self) -> Guest:
        """Content in the upper half, holes left in a part of it."""
        for offset in range(self.size_bytes // 2, 3 * self.size_bytes // 4, 4096):
            self.map[offset : offset + 4096] = os.urandom(4096)
        return self

    def start(self) -> Guest:
        self.machine.resume()
        return self

    # ---- hooks ---------------------------------------------------------

    def _raise(self, name: str) -> None:
        if name in self.fail:
            raise RuntimeError(self.fail[name])

    def _pause(self) -> None:
        self._raise("pause")
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.running = False

    def _resume(self) -> None:
        self._raise("resume")
        self.running = True
        self.runs += 1
        if self.writes:
            self._stop.clear()
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()

    def _save(self) -> bytes:
        self._raise("save_state")
        with StateList() as state:
            state.add(StateItem("test/steps", COUNTER.pack(self.steps)))
            return state.encode()

    def _load(self, data: bytes) -> None:
        self._raise("load_state")
        with StateList.decode(data) as state:
            item = state.find("test/steps")
            assert item is not None
            (self.steps,) = COUNTER.unpack(item.data)

    def _before_run(self) -> None:
        self._raise("before_run")
        self.before_runs += 1

    def _make_tracker(self, kind: TrackerKind) -> DirtyTracker:
        self.tracker = DirtyTracker(self.memory, kind)
        self.kind = self.tracker.kind
        return self.tracker

    def _close(self) -> None:
        self._pause()
        self.closed = True
        self.map.close()
        os.close(self.fd)

    # ---- the guest -----------------------------------------------------

    def _write(self) -> None:
        while not self._stop.wait(0.0002):
            offset = 4096 * (self.steps % WORKING_SET_PAGES)
            (count,) = COUNTER.unpack_from(self.map, offset)
            COUNTER.pack_into(self.map, offset, count + 1)
            self.steps += 1
            self._mark(offset)

    def _mark(self, offset: int) -> None:
        tracker = self.tracker
        if tracker is not None and self.kind is TrackerKind.MARKED:
            tracker.mark(offset, 8)

    def check_oracle(self) -> None:
        """All counters are what the number of steps says."""
        whole, rest = divmod(self.steps, WORKING_SET_PAGES)
        for page in range(WORKING_SET_PAGES):
            (count,) = COUNTER.unpack_from(self.map, 4096 * page)
            assert count == whole + (page < rest), f"page {page} of step {self.steps}"

    def content(self) -> bytes:
        return bytes(self.map[WORKING_SET_PAGES * 4096 :])


class Wires:
    """Connects to an address, and can cut what it connected."""

    def __init__(self, address: Any) -> None:
        self.address = parse_address(address)
        self.is_down = False
        self._copies: list[socket.socket] = []

    def __call__(self) -> socket.socket:
        if self.is_down:
            raise ConnectionRefusedError(111, "the wires are cut")
        sock = connect(self.address, 2000, 2000)
        self._copies.append(sock.dup())
        return sock

    def cut(self, down: bool = False) -> None:
        self.is_down = self.is_down or down
        for sock in list(self._copies):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for sock in self._copies:
            sock.close()


class Swamp:
    """A relay that can swallow everything without closing anything."""

    def __init__(self, target: Any) -> None:
        self.target = parse_address(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        self.frozen = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = connect(self.target, 2000, 60_000)
            self._sockets += [near, far]
            for pair in ((near, far), (far, near)):
                thread = threading.Thread(target=self._relay, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _relay(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                if not self.frozen.is_set():
                    there.sendall(data)
            if not self.frozen.is_set():
                there.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for sock in [self._listener, *self._sockets]:
            sock.close()


class Receiving:
    """A destination that serves on a thread of its own."""

    def __init__(
        self,
        address: str = "tcp:127.0.0.1:0",
        options: Options = FAST,
        factory: Callable[[dict[str, Any]], Any] | None = None,
        fail: dict[str, str] | None = None,
    ) -> None:
        self.guests: list[Guest] = []
        self.fail = fail or {}
        self.reports: list[Report] = []
        self.destination = Destination(address, factory or self._build, options)
        self.address = self.destination.address
        self._thread: threading.Thread | None = None

    def _build(self, description: dict[str, Any]) -> CallableMachine:
        guest = Guest(description["machine"]["size_bytes"], writes=False, fail=dict(self.fail))
        self.guests.append(guest)
        return guest.machine

    @property
    def guest(self) -> Guest:
        return self.guests[-1]

    def serve(self) -> Receiving:
        """Serve one more migration."""

        def run() -> None:
            with contextlib.suppress(Exception):
                self.reports.append(self.destination.serve_one())

        self._thread = threading.Thread(target=run)
        self._thread.start()
        return self

    def join(self) -> Report:
        assert self._thread is not None
        self._thread.join(20)
        assert not self._thread.is_alive(), "the destination hangs"
        return self.reports[-1]

    def close(self) -> None:
        self.destination.close()
        if self._thread is not None:
            self._thread.join(20)
            assert not self._thread.is_alive(), "the destination hangs"


@contextlib.contextmanager
def receiving(*args: Any, **more: Any) -> Iterator[Receiving]:
    """A destination that already serves its first migration."""
    side = Receiving(*args, **more)
    try:
        yield side.serve()
    finally:
        side.close()


@contextlib.contextmanager
def running_guest(**more: Any) -> Iterator[Guest]:
    guest = Guest(**more).fill().start()
    try:
        yield guest
    finally:
        guest.fail.clear()
        guest.machine.close()


def migrate(guest: Guest, target: Any, options: Options = FAST, **more: Any) -> Report:
    with Source(guest.machine, target, replace(options, **more)) as source:
        return source.migrate()


def patient(options: Options = FAST, **more: Any) -> Options:
    """Options with other limits for the policy."""
    return replace(options, policy=PolicyOptions(**more))

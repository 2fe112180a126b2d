# SPDX-License-Identifier: Apache-2.0
"""One control connection: messages, heartbeat, deadlines.

Theory of operation. A reader thread owns the receiving half. It answers
PING, sends PING when this side has been silent, and notices when the peer
has been: so a process that is stopped, a host that vanished and a link that
swallows packets all end in PeerLostError within peer_timeout_ms. Everything
else goes into the inbox, which receive() empties. The first failure wins,
wakes whoever waits, and is what every later call raises.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pymigrate import _frames, protocol
from pymigrate.errors import (
    MigrateError,
    PeerFailedError,
    PeerLostError,
    ProtocolError,
    StepTimeoutError,
)
from pymigrate.protocol import Message

__all__ = ["Link", "read_hello"]

# A peer that sends more unasked messages than this is broken.
MAX_INBOX = 64
MAX_INBOX_BYTES = _frames.MAX_BODY_BYTES

M = TypeVar("M", bound=Message)


class Link:
    """A control or query connection, once HELLO has been exchanged.

    :param sock: owned by the link from here on.
    :param peer: for messages, "the destination tcp:host:port".
    :param on_failure: called once, on the thread that noticed.
    :param sent: frames this side already sent on sock (its HELLO).
    :param received: frames already read from it.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        peer_timeout_ms: int,
        *,
        sent: int = 0,
        received: int = 0,
        on_failure: Callable[[MigrateError], object] | None = None,
    ) -> None:
        self.peer = peer
        self._sock = sock
        self._sock.setblocking(False)
        self._timeout_s = peer_timeout_ms / 1000
        self._on_failure = on_failure
        self._condition = threading.Condition()
        self._inbox: deque[Message] = deque()
        self._expected: list[tuple[type[Any], ...]] = []
        self._failure: MigrateError | None = None
        self._interruption: MigrateError | None = None
        self._closing = False
        self._send_lock = threading.Lock()
        self._send_sequence, self._receive_sequence = sent, received
        self._last_sent = self._last_heard = time.monotonic()
        self._step = "the handshake"
        self._ping_number = 0
        self._ping_sent = 0.0
        self.round_trip_ms: float | None = None
        self._reader = threading.Thread(target=self._read_loop, name="pmig-control", daemon=True)
        self._reader.start()

    # ---- sending -------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send a message; blocks until the kernel has all of it.

        :raises PeerLostError: the connection ended or takes no bytes.
        """
        with self._send_lock:
            self._raise_failure()
            self._send_locked(message)

    def _send_locked(self, message: Message) -> None:
        head = protocol.encode(message)
        frame = _frames.pack(message.TYPE, head, len(message.body), self._send_sequence)
        self._send_sequence += 1
        try:
            self._write(memoryview(frame))
            self._write(memoryview(message.body))
        except (OSError, ValueError) as error:
            lost = PeerLostError(f"cannot send {_name(message)} to {self.peer}: {_why(error)}")
            self.fail(lost)
            raise lost from error
        self._last_sent = time.monotonic()

    def _write(self, data: memoryview) -> None:
        deadline = time.monotonic() + self._timeout_s
        while data:
            try:
                data = data[self._sock.send(data) :]
                deadline = time.monotonic() + self._timeout_s
            except BlockingIOError:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not _ready(self._sock, select.POLLOUT, left_s):
                    raise TimeoutError(f"no byte taken for {self._timeout_s:g} s") from None

    # ---- receiving -----------------------------------------------------

    @contextlib.contextmanager
    def expecting(self, *kinds: type[Any]) -> Iterator[None]:
        """Several threads may wait for different answers: within this, the
        kinds are not out of place for the others.
        """
        with self._condition:
            self._expected.append(kinds)
        try:
            yield
        finally:
            with self._condition:
                self._expected.remove(kinds)

    def receive(self, step: str, timeout_ms: float | None, *kinds: type[M]) -> M:
        """The next message of one of the kinds.

        :param step: what is being waited for, for messages.
        :param timeout_ms: None: as long as the peer is alive.
        :raises StepTimeoutError: nothing came in time.
        :raises PeerFailedError: the peer sent ERROR.
        :raises ProtocolError: something came that nobody expects.
        """
        limit_s = threading.TIMEOUT_MAX if timeout_ms is None else timeout_ms / 1000
        deadline = time.monotonic() + limit_s
        with self.expecting(*kinds), self._condition:
            self._step = step
            while True:
                if self._interruption is not None:
                    raise self._interruption
                message = self._take(step, kinds)
                if message is not None:
                    return message
                self._raise_failure()
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise StepTimeoutError(
                        f"{step}: no answer from {self.peer} within {limit_s:g} s"
                    )
                self._condition.wait(min(left_s, threading.TIMEOUT_MAX))

    def _take(self, step: str, kinds: tuple[type[M], ...]) -> M | None:
        for message in self._inbox:
            if isinstance(message, kinds):
                self._inbox.remove(message)
                return message
            if not any(isinstance(message, wanted) for wanted in self._expected):
                raise ProtocolError(f"{step}: {self.peer} sent {_name(message)} out of place")
        return None

    def post(self, event: Message) -> None:
        """Put a local event into the inbox, in order with the messages."""
        with self._condition:
            self._inbox.append(event)
            self._condition.notify_all()

    @property
    def failure(self) -> MigrateError | None:
        """Why the link does not work any more; None while it does."""
        return self._failure

    def fail(self, error: MigrateError) -> None:
        """Make every wait end with error, unless something failed before."""
        with self._condition:
            if self._failure is not None or self._closing:
                return
            self._failure = error
            self._condition.notify_all()
            on_failure = self._on_failure
        if on_failure is not None:
            on_failure(error)

    def watch(self, on_failure: Callable[[MigrateError], object]) -> None:
        """Who is told of the failure from now on; at once if it happened."""
        with self._condition:
            self._on_failure = on_failure
            failure = self._failure
        if failure is not None:
            on_failure(failure)

    def interrupt(self, error: MigrateError) -> None:
        """Make waits end with error; sending still works. Any thread."""
        with self._condition:
            # Its own failure ends waits anyway, but after what was received.
            if error is not self._failure:
                self._interruption = self._interruption or error
            self._condition.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ---- the reader thread ---------------------------------------------

    def _read_loop(self) -> None:
        try:
            while True:
                self._dispatch(self._read_message())
        except MigrateError as error:
            self.fail(error)
        except OSError as error:
            self.fail(PeerLostError(f"{self._step}: lost {self.peer}: {_why(error)}"))

    def _dispatch(self, message: Message) -> None:
        if isinstance(message, protocol.Ping):
            self.send(protocol.Pong(message.number))
        elif isinstance(message, protocol.Pong):
            self._take_round_trip(message.number)
        elif isinstance(message, protocol.Error):
            raise PeerFailedError(f"{self.peer} failed at {message.step}: {message.message}")
        else:
            with self._condition:
                unread = sum(len(waiting.body) for waiting in self._inbox)
                too_large = unread + len(message.body) > MAX_INBOX_BYTES
                if len(self._inbox) >= MAX_INBOX or too_large:
                    raise ProtocolError(f"{self.peer} sends faster than the protocol allows")
                self._inbox.append(message)
                self._condition.notify_all()

    def _read_message(self) -> Message:
        header = _frames.parse(self._read_exact(_frames.HEADER_BYTES))
        head = self._read_exact(header.head_bytes)
        _frames.check_head(header, head, self._receive_sequence)
        self._receive_sequence += 1
        body = self._read_exact(header.body_bytes)
        return protocol.decode(header.type, head, body)

    def _read_exact(self, size_bytes: int) -> bytes:
        data = bytearray()
        while len(data) < size_bytes:
            if not _ready(self._sock, select.POLLIN, self._timeout_s / 5):
                self._check_alive()
                continue
            try:
                piece = self._sock.recv(min(size_bytes - len(data), 1 << 20))
            except BlockingIOError:
                continue
            if not piece:
                raise PeerLostError(f"{self._step}: {self.peer} closed the connection")
            data += piece
            self._last_heard = time.monotonic()
            self._keep_alive()
        return bytes(data)

    def _check_alive(self) -> None:
        silent_s = time.monotonic() - self._last_heard
        if silent_s > self._timeout_s:
            raise PeerLostError(f"{self._step}: nothing came from {self.peer} for {silent_s:.1f} s")
        self._keep_alive()

    def _keep_alive(self) -> None:
        """PING when this side was silent; a send under way is no silence."""
        if time.monotonic() - self._last_sent < self._timeout_s / 5:
            return
        if self._send_lock.acquire(blocking=False):
            try:
                self._ping_locked()
            finally:
                self._send_lock.release()

    def ping(self) -> None:
        """Measure the round trip; the answer updates round_trip_ms."""
        with self._send_lock:
            self._raise_failure()
            self._ping_locked()

    def _ping_locked(self) -> None:
        self._ping_number += 1
        self._ping_sent = time.monotonic()
        self._send_locked(protocol.Ping(self._ping_number))

    def _take_round_trip(self, number: int) -> None:
        if number > self._ping_number:
            raise ProtocolError(f"{self.peer} answered a PING that was not sent")
        if number < self._ping_number:
            return
        measured_ms = 1000 * (time.monotonic() - self._ping_sent)
        known_ms = self.round_trip_ms
        self.round_trip_ms = measured_ms if known_ms is None else min(known_ms, measured_ms)

    # ---- the end -------------------------------------------------------

    def cut(self) -> None:
        """End the connection at once; any thread."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self, drain_ms: int = 0) -> None:
        """End the connection; idempotent.

        :param drain_ms: let the peer read what was sent, and wait so long
            for its end. Closing with unread input would make the kernel
            throw away output that is still on its way.
        """
        with self._condition:
            self._closing = True
        if drain_ms and self._failure is None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            if self._reader is not threading.current_thread():
                self._reader.join(drain_ms / 1000)
        self.cut()
        if self._reader is not threading.current_thread():
            self._reader.join()
        self._sock.close()


def read_hello(sock: socket.socket, timeout_ms: int) -> protocol.Hello:
    """Read the first frame of a connection, and not a byte more.

    :raises ProtocolError: it is not a HELLO.
    :raises OSError: the connection ended, or nothing came in time.
    """
    deadline = time.monotonic() + timeout_ms / 1000
    header = _frames.parse(_read_by(sock, _frames.HEADER_BYTES, deadline))
    if header.type != protocol.Hello.TYPE:
        raise ProtocolError(f"the connection begins with frame type {header.type}, not HELLO")
    if header.head_bytes > protocol.MAX_HELLO_BYTES or header.body_bytes:
        raise ProtocolError(f"HELLO of {header.head_bytes} + {header.body_bytes} bytes")
    head = _read_by(sock, header.head_bytes, deadline)
    _frames.check_head(header, head, 0)
    hello = protocol.decode(header.type, head)
    assert isinstance(hello, protocol.Hello)
    return hello


def _read_by(sock: socket.socket, size_bytes: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size_bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no complete HELLO came in time")
        sock.settimeout(left_s)
        piece = sock.recv(size_bytes - len(data))
        if not piece:
            raise ConnectionResetError("the connection ended within HELLO")
        data += piece
    return bytes(data)


def _ready(sock: socket.socket, events: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(max(0, timeout_s) * 1000))


def _name(message: Any) -> str:
    return type(message).__name__.upper()


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

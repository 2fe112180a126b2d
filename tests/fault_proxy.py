# SPDX-License-Identifier: Apache-2.0
"""A proxy between source and destination that breaks on command.

It reads the HELLO of each connection, so a fault can name the connection it
is for: control, one data channel, a query. Two threads carry each connection,
one for each direction.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from fault_stream import Editor

from pymigrate import _frames, protocol
from pymigrate.addresses import parse_address

PIECE_BYTES = 64 << 10


@dataclass(frozen=True, order=True)
class Way:
    """One direction of one connection.

    :ivar up: from the source to the destination.
    """

    role: str
    channel: int = 0
    up: bool = True

    def __str__(self) -> str:
        name = f"{self.role}{self.channel}" if self.role == "data" else self.role
        return f"{name}-{'up' if self.up else 'down'}"


@dataclass
class Connection:
    """A connection that is carried, until it is cut or both ends are done."""

    hello: protocol.Hello
    client: socket.socket
    server: socket.socket
    cut: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        self.cut.set()
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Carries connections to target.

    :param rate_bytes_per_s: of all bytes to the destination together.
    :ivar carried: bytes, by their way.
    """

    def __init__(self, target: str, rate_bytes_per_s: int | None = None) -> None:
        self._target = parse_address(target)
        self._rate_bytes_per_s = rate_bytes_per_s
        self._due = 0.0
        self._up_bytes = 0
        self._condition = threading.Condition()
        self._holed = self._gone = self._closed = False
        self._editors: dict[Way, Editor] = {}
        self._budgets: dict[Way, tuple[int, Callable[[], None]]] = {}
        self._connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self.carried: Counter[Way] = Counter()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"tcp:127.0.0.1:{self._socket.getsockname()[1]}"
        self._spawn(self._accept)

    # ---- faults --------------------------------------------------------

    def cut(self, role: str | None = None, channel: int = 0) -> None:
        """End the connections of a role, or all; new ones are carried."""
        for connection in self._matching(role, channel):
            connection.end()
        self._wake()

    def vanish(self) -> None:
        """End all connections, and new ones at once."""
        self._gone = True
        self.cut()

    def swallow(self) -> None:
        """Carry nothing any more and end nothing: the cable is pulled."""
        self._holed = True

    def heal(self) -> None:
        """New connections are carried; what was held up is lost."""
        held = list(self._connections) if self._holed else []
        self._holed = self._gone = False
        for connection in held:
            connection.end()
        self._wake()

    def after(self, way: Way, size_bytes: int, fault: Callable[[], None]) -> None:
        """Carry so many more bytes of a way, then call fault, once."""
        self._budgets[way] = (size_bytes, fault)

    def edit(self, way: Way, editor: Editor) -> None:
        """Let an editor change what the way carries, from its beginning."""
        self._editors[way] = editor

    def cut_any(self, dice: random.Random) -> Way | None:
        """End one connection, whichever; the way from its source, if there was one."""
        live = [c for c in list(self._connections) if not c.cut.is_set()]
        if not live:
            return None
        victim = dice.choice(live)
        victim.end()
        self._wake()
        return Way(victim.hello.role, victim.hello.channel)

    def wait_carried(self, size_bytes: int, timeout_s: float) -> bool:
        """Until so many more bytes went to the destination."""
        with self._condition:
            until = self._up_bytes + size_bytes
            return self._condition.wait_for(lambda: self._up_bytes >= until, timeout_s)

    def _matching(self, role: str | None, channel: int) -> list[Connection]:
        found = list(self._connections)
        return [
            c
            for c in found
            if role is None or (c.hello.role == role and c.hello.channel == channel)
        ]

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    # ---- carrying ------------------------------------------------------

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="test-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            if self._gone or self._closed:
                client.close()
            else:
                self._spawn(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        try:
            client.settimeout(10)
            first, hello = _read_hello(client)
            server = self._dial()
        except (OSError, EOFError):
            client.close()
            return
        client.settimeout(None)
        connection = Connection(hello, client, server)
        self._connections.append(connection)
        down = threading.Thread(target=self._pump, args=(connection, False, b""), daemon=True)
        down.start()
        self._pump(connection, True, first)
        down.join()
        self._connections.remove(connection)
        client.close()
        server.close()

    def _dial(self) -> socket.socket:
        if self._target.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(self._target.path)
            return sock
        sock = socket.create_connection((self._target.host, self._target.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _pump(self, connection: Connection, up: bool, data: bytes) -> None:
        way = Way(connection.hello.role, connection.hello.channel, up)
        ends = (connection.client, connection.server)
        come, go = ends if up else ends[::-1]
        editor = self._editors.get(way)
        try:
            while True:
                self._forward(connection, way, go, editor.feed(data) if editor else data)
                data = come.recv(PIECE_BYTES)
                if not data:
                    go.shutdown(socket.SHUT_WR)
                    return
        except OSError:
            connection.end()

    def _forward(self, connection: Connection, way: Way, go: socket.socket, data: bytes) -> None:
        self._hold(connection)
        left_bytes, fault = self._budgets.get(way, (len(data) + 1, None))
        if fault is not None and left_bytes <= len(data):
            del self._budgets[way]
            data = data[:left_bytes]
        elif fault is not None:
            self._budgets[way] = (left_bytes - len(data), fault)
            fault = None
        self.carried[way] += len(data)
        if way.up:
            self._pace(connection, len(data))
            with self._condition:
                self._up_bytes += len(data)
                self._condition.notify_all()
        go.sendall(data)
        if fault is not None:
            fault()
            self._hold(connection)

    def _hold(self, connection: Connection) -> None:
        with self._condition:
            self._condition.wait_for(
                lambda: not self._holed or connection.cut.is_set() or self._closed
            )
        if connection.cut.is_set():
            raise ConnectionAbortedError

    def _pace(self, connection: Connection, size_bytes: int) -> None:
        if self._rate_bytes_per_s is None:
            return
        now = time.monotonic()
        with self._condition:
            self._due = max(self._due, now) + size_bytes / self._rate_bytes_per_s
            left_s = self._due - now
        connection.cut.wait(left_s)

    def close(self) -> None:
        """End everything; idempotent."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._socket.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _read_hello(client: socket.socket) -> tuple[bytes, protocol.Hello]:
    """The first frame, as bytes and read."""
    raw = _exactly(client, _frames.HEADER_BYTES)
    header = _frames.parse(raw)
    head = _exactly(client, header.head_bytes)
    hello = protocol.decode(header.type, head)
    assert isinstance(hello, protocol.Hello)
    return raw + head, hello


def _exactly(sock: socket.socket, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        piece = sock.recv(size_bytes - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data

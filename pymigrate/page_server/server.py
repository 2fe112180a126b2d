# SPDX-License-Identifier: Apache-2.0
"""The listening side of a page server: any number of clients at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from pymigrate._listener import Listener
from pymigrate._memory_file import MemoryFile
from pymigrate.addresses import Address, parse_address
from pymigrate.errors import AddressError, CancelledError
from pymigrate.options import Options
from pymigrate.page_server.session import Session, SessionReport
from pymigrate.protocol import Hello

__all__ = ["PageServer"]

OnEnd = Callable[[SessionReport], None]


class PageServer:
    """Gives pages of a file to whoever asks, until it is closed.

    Nobody is authenticated: listen where only those can connect that may read
    the guest's memory.

    :param on_end: is told of each client that was served, on its thread.
    :raises AddressError: not an address to listen on.
    :raises OSError: nor a file to serve, or as the system reports it.
    :ivar address: with the port that the system chose.
    """

    def __init__(
        self,
        file_path: str,
        address: str | Address,
        options: Options | None = None,
        *,
        working_set_path: str | None = None,
        on_end: OnEnd = lambda _report: None,
    ) -> None:
        parsed = parse_address(address)
        if not parsed.is_socket:
            raise AddressError(f"{parsed}: a page server listens on tcp: or unix:")
        # That it can be opened is better known now than by the first client.
        MemoryFile(file_path).close()
        self._file_path, self._working_set_path = file_path, working_set_path
        self._options, self._on_end = options or Options(), on_end
        self._lock = threading.Lock()
        self._closed = False
        self._sessions: dict[Session, threading.Thread] = {}
        self._listener = Listener(parsed, self._options, self._on_hello)

    @property
    def address(self) -> Address:
        return self._listener.address

    def _on_hello(self, sock: socket.socket, hello: Hello) -> None:
        if hello.role == "fetch":
            self._open(sock, hello)
        elif hello.role != "data" or not self._join(sock, hello):
            sock.close()

    def _open(self, sock: socket.socket, hello: Hello) -> None:
        session = Session(sock, hello, self._options, self._file_path, self._working_set_path)
        thread = threading.Thread(
            target=self._serve, args=(session,), name="pmig-pages", daemon=True
        )
        with self._lock:
            if self._closed:
                sock.close()
                return
            self._sessions[session] = thread
            thread.start()

    def _serve(self, session: Session) -> None:
        try:
            report = session.run()
        finally:
            with self._lock:
                self._sessions.pop(session, None)
        if report is not None:
            self._on_end(report)

    def _join(self, sock: socket.socket, hello: Hello) -> bool:
        """A data connection of a session whose token it has; False: of none."""
        with self._lock:
            found = [session for session in self._sessions if session.id == hello.session]
        return any(
            session.token == hello.token and session.sockets.add(hello.channel, sock)
            for session in found
        )

    def close(self) -> None:
        """End all sessions; idempotent."""
        with self._lock:
            self._closed = True
            sessions = dict(self._sessions)
        self._listener.close()
        for session, thread in sessions.items():
            session.cancel(CancelledError("the page server was stopped"))
            thread.join()

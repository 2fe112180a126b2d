# SPDX-License-Identifier: Apache-2.0
"""Requests to a ``send`` that runs, over a unix socket that only its owner may open.

A connection carries one request and its answer. The request is one line::

    {"request": "recover", "target": "tcp:192.0.2.7:4444" or null}

What follows are lines, each with the name of an ``event``: ``note``, ``state``
and ``late`` while it goes on, as :class:`~pymigrate.cli.views.EventView` has
them, and last either ``report``, with ``report`` and ``exit_code``, or ``refused``,
with ``message``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import socket
import stat
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from pymigrate.addresses import Address, parse_address
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.errors import AddressError

__all__ = ["Control", "Request", "ask"]

# How long a peer may take to say its line, or to read what it is told.
_PATIENCE_S = 5.0
_MAX_LINE_BYTES = 4096
_RETRY_S = 0.05


class Request:
    """Somebody wants the missing pages recovered, and waits for what comes of it.

    A peer that is gone, or does not read, is told nothing more.

    :ivar target: where the destination is to be looked for; None: where it was.
    """

    def __init__(self, sock: socket.socket, target: Address | None) -> None:
        self.target = target
        self._sock = sock
        self._gone = False

    def tell(self, event: str, **fields: Any) -> None:
        """One line."""
        try:
            if not self._gone:
                _say(self._sock, event, **fields)
        except OSError:
            self._gone = True

    def answer(self, report: dict[str, Any], code: int) -> None:
        """The last line."""
        self.tell("report", report=report, exit_code=code)
        self._sock.close()

    def refuse(self, message: str) -> None:
        """The last line: why nothing is done."""
        self.tell("refused", message=message)
        self._sock.close()


class Control:
    """Takes requests on a thread of its own; who owns it carries them out.

    :raises CommandError: the socket cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = _listen(path)
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="pmig-control", daemon=True)
        self._thread.start()

    def taken(self) -> list[Request]:
        """Requests that have come since the last call."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._requests.get_nowait())
        return found

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = self._socket.accept()
            except OSError:
                # Out of files, or a peer that was gone again: go on later.
                self._closed.wait(_RETRY_S)
                continue
            sock.settimeout(_PATIENCE_S)
            try:
                self._requests.put(Request(sock, _target(_line(sock))))
            except (OSError, ValueError, RecursionError) as error:
                Request(sock, None).refuse(f"not a request: {error}")

    def close(self) -> None:
        """Take no more, and refuse what nobody took; idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        for request in self.taken():
            request.refuse("the migration is over")

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ask(path: str, target: Address | None) -> Iterator[dict[str, Any]]:
    """Make the request, and give the events of its answer.

    :raises CommandError: nobody takes requests there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except OSError as error:
            raise CommandError(_nobody(path, error), Exit.USAGE) from error
        request = {"request": "recover", "target": str(target) if target else None}
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile(encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    return
                yield json.loads(line)


# ---- the socket -------------------------------------------------------------


def _listen(path: str) -> socket.socket:
    """A listening socket; one that nobody listens on any more makes room for it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # What bind() makes has these permissions from the first moment on.
        os.fchmod(sock.fileno(), 0o600)
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            os.unlink(path)
            sock.bind(path)
        sock.listen()
    except OSError as error:
        sock.close()
        words = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            words = "it exists; is another `pymigrate send` using it? Name another path"
        raise CommandError(f"--control {path}: {words}", Exit.USAGE) from error
    return sock


def _is_stale(path: str) -> bool:
    """Is it a socket that no process listens on any more?"""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def _nobody(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: give the path that `pymigrate send --control` has"
    if isinstance(error, ConnectionRefusedError):
        return f"{path}: nobody listens there; the `pymigrate send` that made it has ended"
    return f"{path}: {error.strerror or error}"


# ---- lines ------------------------------------------------------------------


def _line(sock: socket.socket) -> str:
    """:raises OSError: it does not come, or not all of it."""
    data = b""
    while not data.endswith(b"\n"):
        piece = sock.recv(_MAX_LINE_BYTES)
        data += piece
        if not piece or len(data) > _MAX_LINE_BYTES:
            raise OSError(f"expected one line of at most {_MAX_LINE_BYTES} bytes")
    return data.decode("utf-8", "replace")


def _target(line: str) -> Address | None:
    """:raises ValueError: it is no request."""
    asked = json.loads(line)
    if not isinstance(asked, dict) or asked.get("request") != "recover":
        raise ValueError('expected {"request": "recover", "target": ADDRESS or null}')
    target = asked.get("target")
    if target is None:
        return None
    address = parse_address(str(target))
    if not address.is_socket:
        raise AddressError(f"{address}: expected tcp:HOST:PORT or unix:PATH")
    return address


def _say(sock: socket.socket, event: str, **fields: Any) -> None:
    sock.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")

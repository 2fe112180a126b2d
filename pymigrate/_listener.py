# SPDX-License-Identifier: Apache-2.0
"""The listening side: accepts connections and reads their HELLO.

Every connection is greeted on a thread of its own, so one that says nothing
holds up nobody; there is a bound on how many may say nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable

from pymigrate._link import read_hello
from pymigrate.addresses import Address, Scheme, listen, tune
from pymigrate.errors import ProtocolError
from pymigrate.options import Options
from pymigrate.protocol import Hello

__all__ = ["Listener"]

# 64 data channels, a control connection, and some that ask.
MAX_GREETERS = 80
RETRY_S = 0.05

# Takes the connection over; runs on the greeter's thread.
OnHello = Callable[[socket.socket, Hello], None]


class Listener:
    """Accepts connections until closed.

    :param on_hello: takes over each connection that began with a HELLO.
    """

    def __init__(self, address: Address, options: Options, on_hello: OnHello) -> None:
        self._options, self._on_hello = options, on_hello
        self._socket, self.address = listen(address)
        self._lock = threading.Lock()
        self._closed = False
        self._stopped = threading.Event()
        self._greeting: dict[threading.Thread, socket.socket] = {}
        self._slots = threading.Semaphore(MAX_GREETERS)
        self._thread = threading.Thread(target=self._loop, name="pmig-accept", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while True:
            self._slots.acquire()
            try:
                sock, _ = self._socket.accept()
            except OSError:
                self._slots.release()
                # Out of files, or a peer that was gone again: go on later.
                if self._stopped.wait(RETRY_S):
                    return
                continue
            self._greet(sock)

    def _greet(self, sock: socket.socket) -> None:
        thread = threading.Thread(target=self._hello, args=(sock,), name="pmig-hello", daemon=True)
        with self._lock:
            if self._closed:
                sock.close()
                return
            self._greeting[thread] = sock
            thread.start()

    def _hello(self, sock: socket.socket) -> None:
        try:
            tune(sock, self._options.peer_timeout_ms)
            hello = read_hello(sock, self._options.connect_timeout_ms)
            sock.settimeout(None)
            self._on_hello(sock, hello)
        except (OSError, ProtocolError):
            # Not one of ours: nothing to answer, nobody to tell.
            sock.close()
        finally:
            with self._lock:
                self._greeting.pop(threading.current_thread(), None)
            self._slots.release()

    def close(self) -> None:
        """Stop accepting, end what is being greeted; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            greeting = list(self._greeting.items())
        self._stopped.set()
        self._slots.release()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        for thread, sock in greeting:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()
        if self.address.scheme is Scheme.UNIX:
            with contextlib.suppress(OSError):
                os.unlink(self.address.path)

# SPDX-License-Identifier: Apache-2.0
"""The connecting side: opens control, data and query connections."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from pymigrate import _frames, protocol
from pymigrate._link import Link
from pymigrate._trouble import Trouble
from pymigrate.addresses import Address, connect
from pymigrate.errors import MigrateError, PeerLostError, ProtocolError
from pymigrate.options import Options

__all__ = ["Connector", "Dialer"]

# Makes one connected stream socket to the destination.
Connector = Callable[[], socket.socket]


@dataclass
class Dialer:
    """Opens the connections of one session.

    :ivar session: 32 hexadecimal digits.
    :ivar trouble: trouble ends an attempt to connect.
    :ivar token: what ACCEPT gave; the proof that a connection is ours.
    """

    target: Address | Connector
    options: Options
    session: str
    trouble: Trouble
    token: str = ""

    @property
    def peer(self) -> str:
        """The destination, for messages."""
        if isinstance(self.target, Address):
            return f"the destination {self.target}"
        return "the destination"

    def link(self, role: str) -> Link:
        """A control or query connection that was welcomed.

        Trouble interrupts it, and its failure is trouble.

        :raises MigrateError: with step, peer and time.
        """
        sock = self._connect(role)
        link = Link(
            sock,
            self.peer,
            self.options.peer_timeout_ms,
            sent=1,
            on_failure=self.trouble.report,
        )
        self.trouble.on_trouble(link.interrupt)
        try:
            welcome = link.receive(
                f"waiting to be served ({role} connection)",
                self.options.handshake_timeout_ms,
                protocol.Welcome,
            )
            if not protocol.OLDEST <= welcome.version <= protocol.NEWEST:
                raise ProtocolError(f"{self.peer} chose protocol version {welcome.version}")
        except BaseException:
            link.close()
            raise
        return link

    def data(self, channel: int, attempt: int = 0) -> socket.socket:
        """A data connection, to be handed to the C core.

        :param attempt: of a recovery, as the destination numbers them.
        """
        return self._connect("data", channel, attempt)

    def __post_init__(self) -> None:
        self._attempt: socket.socket | None = None
        self.renew(self.trouble)

    def renew(self, trouble: Trouble) -> None:
        """Connect again after trouble: only new trouble counts."""
        self.trouble = trouble
        trouble.on_trouble(self._end_attempt)

    def hurried(self, limit_ms: int) -> Dialer:
        """The same session, for a last word that nobody waits for long."""
        options = replace(
            self.options,
            connect_timeout_ms=limit_ms,
            handshake_timeout_ms=limit_ms,
            commit_timeout_ms=limit_ms,
            resolve_timeout_ms=1,
        )
        return replace(self, options=options, trouble=Trouble())

    def _begin_attempt(self, sock: socket.socket) -> None:
        self._attempt = sock
        self.trouble.check()

    def _end_attempt(self, _error: MigrateError) -> None:
        # Of a socket that connects, shutdown ends the wait.
        if self._attempt is not None:
            with contextlib.suppress(OSError):
                self._attempt.shutdown(socket.SHUT_RDWR)

    def _connect(self, role: str, channel: int = 0, attempt: int = 0) -> socket.socket:
        hello = protocol.Hello(
            oldest=protocol.OLDEST,
            newest=protocol.NEWEST,
            role=role,
            session=self.session,
            token="" if role == "control" else self.token,
            channel=channel,
            attempt=attempt,
        )
        frame = _frames.pack(hello.TYPE, protocol.encode(hello), 0, 0)
        limit_ms = self.options.connect_timeout_ms
        try:
            if isinstance(self.target, Address):
                user_timeout_ms = self.options.peer_timeout_ms
                sock = connect(self.target, limit_ms, user_timeout_ms, self._begin_attempt)
            else:
                sock = self.target()
        except OSError as error:
            self.trouble.check()
            why = error.strerror or str(error)
            raise PeerLostError(
                f"connecting ({role} connection) to {self.peer} within {limit_ms / 1000:g} s: {why}"
            ) from error
        finally:
            self._attempt = None
        try:
            sock.settimeout(limit_ms / 1000)
            sock.sendall(frame)
        except OSError as error:
            sock.close()
            self.trouble.check()
            raise PeerLostError(
                f"greeting {self.peer} ({role} connection): {error.strerror or error}"
            ) from error
        return sock

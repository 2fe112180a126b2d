# SPDX-License-Identifier: Apache-2.0
"""What a destination answers to sources that come back.

A source whose connection was lost asks what became of its session, or wants
to go on sending. Whatever was decided is remembered for some time after the
session is over; what is not known any more is said to be unknown.
"""

from __future__ import annotations

import hmac
import socket
from collections import OrderedDict

from pymigrate._engine import pack_bitmap
from pymigrate._handover import Fate, Handover
from pymigrate._link import Link
from pymigrate.errors import MigrateError
from pymigrate.options import Options
from pymigrate.protocol import (
    Abort,
    Aborted,
    Commit,
    Done,
    Hello,
    Message,
    Missing,
    Query,
    Running,
    Status,
    Welcome,
    negotiate,
)

__all__ = ["Reception", "answer_decision"]

# Sessions whose fate is remembered.
MAX_REMEMBERED = 256


class Reception:
    """Receives sources that belong to a session; any thread."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._fates: OrderedDict[str, Handover] = OrderedDict()

    def remember(self, handover: Handover) -> None:
        """Know a session from now on."""
        self._fates[handover.session] = handover
        while len(self._fates) > MAX_REMEMBERED:
            self._fates.popitem(last=False)

    def find(self, hello: Hello) -> Handover | None:
        """The session that the connection belongs to; its token proves it."""
        handover = self._fates.get(hello.session)
        if handover is None:
            return None
        same = hmac.compare_digest(hello.token.encode(), handover.token.encode())
        return handover if same else None

    # ---- a source that asks --------------------------------------------

    def answer(self, sock: socket.socket, hello: Hello) -> None:
        """What became of its session?"""
        link = self._link(sock)
        try:
            link.send(Welcome(version=negotiate(hello)))
            link.receive("waiting for the question", self._limit_ms, Query)
            handover = self.find(hello)
            link.send(_status(handover))
            if handover is None:
                return
            if handover.settled() in (Fate.PREPARING, Fate.PREPARED):
                answer_decision(
                    link,
                    handover,
                    link.receive("waiting for the decision", self._limit_ms, Commit, Abort),
                )
            link.receive("waiting for the farewell", self._limit_ms, Done)
            handover.source_knows.set()
        except MigrateError:
            # It will ask again.
            pass
        finally:
            link.close(self._limit_ms)

    # ---- a source that wants to go on ----------------------------------

    def rejoin(self, sock: socket.socket, hello: Hello) -> None:
        """It may have pages that are missing."""
        handover = self.find(hello)
        arrival = handover.arrival if handover is not None else None
        if arrival is None or not arrival.take(sock, hello):
            self._decline(sock, hello, handover)

    def _decline(self, sock: socket.socket, hello: Hello, handover: Handover | None) -> None:
        """There is nothing to be sent, or nobody to send it to."""
        link = self._link(sock)
        try:
            link.send(Welcome(version=negotiate(hello)))
            if handover is None or handover.settled() is not Fate.RUNNING:
                link.send(_status(handover))
                return
            if not handover.has_everything:
                link.send(Status(state="preparing", reason="the guest is being resumed"))
                return
            link.send(Missing(attempt=0, pages=0, body=pack_bitmap(b"")))
            link.receive("waiting for the farewell", self._limit_ms, Done)
            handover.source_knows.set()
        except MigrateError:
            # It will ask again.
            pass
        finally:
            link.close(self._limit_ms)

    def _link(self, sock: socket.socket) -> Link:
        return Link(sock, "the source that asks", self._options.peer_timeout_ms, received=1)

    @property
    def _limit_ms(self) -> int:
        return self._options.connect_timeout_ms


def _status(handover: Handover | None) -> Status:
    if handover is None:
        return Status(state="unknown")
    return Status(state=handover.settled().value, reason=handover.reason)


def answer_decision(link: Link, handover: Handover, event: Message) -> None:
    """Carry out COMMIT or ABORT, or say why it is too late for it."""
    if isinstance(event, Commit):
        fate = handover.commit()
    else:
        assert isinstance(event, Abort)
        fate = handover.abort(event.reason)
    if fate is Fate.RUNNING and isinstance(event, Commit):
        link.send(Running(resume_ms=handover.resume_ms))
    elif fate is Fate.ABORTED:
        link.send(Aborted(reason=handover.reason))
    else:
        link.send(Status(state=handover.settled().value, reason=handover.reason))

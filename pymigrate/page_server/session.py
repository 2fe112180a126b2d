# SPDX-License-Identifier: Apache-2.0
"""One client of a page server, from HELLO to the last page."""

from __future__ import annotations

import contextlib
import secrets
import socket
from dataclasses import dataclass, replace

from pymigrate._clock import Stopwatch
from pymigrate._engine import (
    ENCODINGS_ALL,
    Channel,
    DirtyTracker,
    LateStats,
    Memory,
    Push,
    RoundStats,
    Sender,
    SenderOptions,
    TrackerKind,
    View,
    lib,
    pack_bitmap,
    unpack_bitmap,
)
from pymigrate._intake import DataSockets
from pymigrate._late_sending import LateSending
from pymigrate._link import Link
from pymigrate._memory_file import MemoryFile, count_pages
from pymigrate._trouble import Trouble
from pymigrate.errors import EngineError, HandshakeError, MigrateError, ProtocolError
from pymigrate.options import Options
from pymigrate.page_server.described import FileMemory, MemoryDescription
from pymigrate.protocol import (
    Accept,
    Arrived,
    Describe,
    First,
    Held,
    Hello,
    Missing,
    Offer,
    Refuse,
    Welcome,
    negotiate,
)
from pymigrate.tuning import Choice
from pymigrate.working_set import load_working_set, working_set_path

__all__ = ["Session", "SessionReport"]

# For the client's last word, which nothing depends on.
FAREWELL_MS = 2000
# These rest on what a client had before, and it has nothing.
DEPENDENT = 1 << lib.PMIG_ENCODING_UNCHANGED | 1 << lib.PMIG_ENCODING_DELTA
PUSHES = {push.name.lower(): push for push in Push}


@dataclass(frozen=True)
class SessionReport:
    """What one client was sent.

    :ivar missing_pages: that it had when it connected.
    :ivar sent_pages: zeros included.
    :ivar answered_pages: of them, those that it asked for.
    :ivar neighbour_pages: and those that were sent with one.
    :ivar first_pages: of the working set, which were to be sent first.
    :ivar error: why it ended before all was sent; None: it did not.
    """

    session: str
    missing_pages: int = 0
    sent_pages: int = 0
    answered_pages: int = 0
    neighbour_pages: int = 0
    first_pages: int = 0
    wire_bytes: int = 0
    duration_ms: float = 0.0
    error: str | None = None


class Session:
    """Serves one client; run() on a thread of its own, cancel() on any.

    :param file_path: opened for this session alone.
    :param own_working_set: where the file's working set would lie, unless
        beside it.
    """

    def __init__(
        self,
        sock: socket.socket,
        hello: Hello,
        options: Options,
        file_path: str,
        own_working_set: str | None = None,
    ) -> None:
        self.id, self.token = hello.session, secrets.token_hex(16)
        self.sockets = DataSockets()
        self._sock, self._hello, self._options = sock, hello, options
        self._file_path, self._own_working_set = file_path, own_working_set
        self._trouble = Trouble()
        self._time = Stopwatch()
        self._report: SessionReport | None = None
        self._trouble.on_trouble(self.sockets.fail)

    def cancel(self, error: MigrateError) -> None:
        """End it. Any thread."""
        self._trouble.report(error)

    def run(self) -> SessionReport | None:
        """Serve it to its end; None: it only asked what is served."""
        link = Link(
            self._sock,
            "the client",
            self._options.peer_timeout_ms,
            received=1,
            on_failure=self._trouble.report,
        )
        self._trouble.on_trouble(link.interrupt)
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(self.sockets.close)
                self._serve(link, stack)
        except (MigrateError, OSError) as error:
            self._fail(self._trouble.error or error)
        finally:
            link.close(FAREWELL_MS if link.failure is None else 0)
        return self._report

    def _fail(self, error: Exception) -> None:
        if self._report is not None:
            self._report = replace(
                self._report, error=str(error), duration_ms=self._time.elapsed_ms()
            )

    @property
    def _limit_ms(self) -> int:
        return self._options.handshake_timeout_ms

    def _serve(self, link: Link, stack: contextlib.ExitStack) -> None:
        link.send(Welcome(version=negotiate(self._hello)))
        file = stack.enter_context(contextlib.closing(MemoryFile(self._file_path)))
        link.send(Offer(contents=file.contents, size_bytes=file.size_bytes))
        describe = link.receive("waiting for the description", self._limit_ms, Describe)
        self._report = SessionReport(session=self.id)
        try:
            described = MemoryDescription.of(describe)
            file.check(described.extents)
            mapped = FileMemory(file, described.extents)
        except (HandshakeError, EngineError, OSError) as error:
            link.send(Refuse(differences=[str(error)]))
            raise
        stack.callback(mapped.close)
        held = file.held(described.extents)
        link.send(Accept(token=self.token, host={}, encodings=ENCODINGS_ALL, late=True))
        link.send(Held(pages=count_pages(held), body=pack_bitmap(held)))
        first, push = self._first(link.receive("waiting", self._limit_ms, First), described)
        missing = self._missing(link, held)
        self._report = replace(
            self._report, missing_pages=count_pages(missing), first_pages=len(first)
        )
        sender = self._sender(mapped.memory, described, stack)
        sender.owe(missing)
        sender.first(first, push)
        self._send(link, sender)

    def _first(self, asked: First, described: MemoryDescription) -> tuple[list[int], Push]:
        """What to send before all else, and what after it."""
        push = PUSHES[asked.push]
        if push is Push.NONE:
            return [], push
        if not asked.pages:
            return self._own_first(described), push
        try:
            words = unpack_bitmap(asked.body, asked.pages)
        except (ValueError, MemoryError, OverflowError) as error:
            raise ProtocolError(f"the client sent {error}") from None
        return list(memoryview(words).cast("Q")), push

    def _own_first(self, described: MemoryDescription) -> list[int]:
        path = self._own_working_set or working_set_path(self._file_path)
        try:
            return load_working_set(path, list(described.memory))
        except (MigrateError, OSError):
            return []  # there is none, or it is another memory's

    def _missing(self, link: Link, held: bytes) -> bytes:
        message = link.receive("waiting", self._limit_ms, Missing)
        try:
            missing = unpack_bitmap(message.body, len(held) // 8)
        except ValueError as error:
            raise ProtocolError(f"the client sent {error}") from None
        if int.from_bytes(missing, "little") & ~int.from_bytes(held, "little"):
            raise ProtocolError("the client misses pages that the file does not hold")
        return missing

    def _sender(
        self, memory: Memory, described: MemoryDescription, stack: contextlib.ExitStack
    ) -> Sender:
        socks = self.sockets.wait(described.channels, self._limit_ms)
        tracker = stack.enter_context(DirtyTracker(memory, TrackerKind.MARKED))
        tracker.start()
        stack.callback(tracker.stop)
        view = stack.enter_context(View(tracker))
        channels = [stack.enter_context(Channel.from_socket(sock)) for sock in socks]
        options = SenderOptions(
            stall_timeout_ms=self._options.stall_timeout_ms,
            encodings=described.encodings & ~DEPENDENT,
            late=True,
            cpus=self._options.cpus,
            tuning=replace(self._options.tuning, delta=Choice.OFF, active_channels=None),
        )
        return stack.enter_context(Sender(memory, view, channels, bytes.fromhex(self.id), options))

    def _send(self, link: Link, sender: Sender) -> None:
        """Until the client has everything, or is lost."""
        sending = LateSending(sender, self._trouble)
        self._trouble.on_trouble(lambda _error: sending.cancel())
        sending.wait()
        self._count(sending.figures)
        if sending.error is not None:
            raise sending.error
        sender.end()
        with contextlib.suppress(MigrateError):
            link.receive("waiting for the last word", FAREWELL_MS, Arrived)

    def _count(self, figures: tuple[RoundStats, LateStats] | None) -> None:
        if figures is None or self._report is None:
            return
        stats, late = figures
        self._report = replace(
            self._report,
            sent_pages=stats.sent_pages,
            wire_bytes=stats.wire_bytes,
            answered_pages=late.answered_pages,
            neighbour_pages=late.neighbour_pages,
            duration_ms=self._time.elapsed_ms(),
        )

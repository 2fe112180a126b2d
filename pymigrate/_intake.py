# SPDX-License-Identifier: Apache-2.0
"""The destination's data path: data sockets, receiver, and its events."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pymigrate._engine import (
    BlobEvent,
    Channel,
    EndEvent,
    EpochEvent,
    EpochKind,
    Faults,
    FrameType,
    Memory,
    PopulatedEvent,
    Receiver,
)
from pymigrate.errors import EngineError, MigrateError, ProtocolError, StepTimeoutError
from pymigrate.options import Options

__all__ = ["DataSockets", "Epoch", "Intake"]


@dataclass(frozen=True)
class Epoch:
    """An epoch that has come completely.

    :ivar stale: blocks and masks of the pages to be asked for.
    :ivar state: of the machine, in a sealed epoch.
    """

    event: EpochEvent
    stale: tuple[tuple[int, int], ...]
    state: bytes = b""


class DataSockets:
    """The data connections of one session, as they come in."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._sockets: dict[int, socket.socket] = {}
        self._error: MigrateError | None = None
        self._open = True

    def add(self, index: int, sock: socket.socket) -> bool:
        """Take over a connection; False: not wanted, still the caller's."""
        with self._condition:
            if not self._open or index in self._sockets:
                return False
            self._sockets[index] = sock
            self._condition.notify_all()
            return True

    def fail(self, error: MigrateError) -> None:
        """End the wait."""
        with self._condition:
            self._error = self._error or error
            self._condition.notify_all()

    def wait(self, count: int, timeout_ms: int) -> list[socket.socket]:
        """All connections, in the order of their channels."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._error or len(self._sockets) >= count, timeout_ms / 1000
            )
            if self._error is not None:
                raise self._error
            if len(self._sockets) < count:
                raise StepTimeoutError(
                    f"opening the data channels: {len(self._sockets)} of {count} came "
                    f"within {timeout_ms / 1000:g} s"
                )
            if sorted(self._sockets) != list(range(count)):
                raise ProtocolError(f"the data channels are not numbered 0 to {count - 1}")
            self._open = False
            return [self._sockets[index] for index in range(count)]

    def close(self) -> None:
        with self._condition:
            self._open = False
            for sock in self._sockets.values():
                sock.close()
            self._sockets.clear()


class Intake:
    """Writes what arrives into memory, and tells of it, on one thread.

    :param on_populated: the announced memory is allocated.
    :param on_epoch: a fuzzy epoch is complete.
    :param on_sealed: a sealed epoch is complete; nothing follows but pages
        that come late, unless it left stale pages.
    :param on_error: nothing more will come, and something is missing.
    :param faults: for pages that come late; the last socket is then the
        urgent one.
    """

    def __init__(
        self,
        memory: Memory,
        sockets: list[socket.socket],
        session: bytes,
        options: Options,
        *,
        on_error: Callable[[MigrateError], None],
        on_populated: Callable[[], None] = lambda: None,
        on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
        on_sealed: Callable[[Epoch], None] = lambda _epoch: None,
        faults: Faults | None = None,
    ) -> None:
        self._faults = faults
        self._on_populated = on_populated
        self._on_epoch, self._on_sealed, self._on_error = on_epoch, on_sealed, on_error
        self._state: bytes | None = None
        self._kind = EpochKind.FUZZY
        self._complete = False
        self._stack = contextlib.ExitStack()
        self.wire_bytes = 0
        try:
            channels = [self._stack.enter_context(Channel.from_socket(s)) for s in sockets]
            self.urgent = channels[-1]
            self._receiver = self._stack.enter_context(
                Receiver(
                    memory,
                    channels,
                    session,
                    options.stall_timeout_ms,
                    cpus=options.cpus,
                    faults=faults,
                )
            )
        except BaseException:
            self._stack.close()
            raise
        self._thread = threading.Thread(target=self._pump, name="pmig-intake", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _pump(self) -> None:
        try:
            while self._take_event():
                pass
        except MigrateError as error:
            # Once everything has arrived nobody cares.
            if not self._has_everything():
                self._on_error(error)

    def _has_everything(self) -> bool:
        return self._complete and not self._missing_pages()

    def _missing_pages(self) -> int:
        return self._faults.missing_pages() if self._faults is not None else 0

    def _take_event(self) -> bool:
        event = self._receiver.wait()
        if isinstance(event, BlobEvent):
            if event.frame is FrameType.STATE:
                self._state = event.data
        elif isinstance(event, PopulatedEvent):
            self._on_populated()
        elif isinstance(event, EpochEvent):
            self.wire_bytes = event.wire_bytes
            self._take_epoch(event)
        elif isinstance(event, EndEvent):
            self._check_end()
            return False
        return True

    def _check_end(self) -> None:
        if not self._complete:
            raise ProtocolError("the stream ended without a sealed epoch that is complete")
        missing_pages = self._missing_pages()
        if missing_pages:
            raise ProtocolError(f"the stream ended, and {missing_pages} pages are missing")

    def _take_epoch(self, event: EpochEvent) -> None:
        if event.kind is EpochKind.LATE:
            # The engine has placed its pages already.
            self._complete = True
            return
        if self._complete:
            raise ProtocolError("an epoch follows the sealed one")
        if self._kind is EpochKind.SEALED and event.kind is EpochKind.FUZZY:
            raise ProtocolError("a fuzzy epoch follows the sealed one")
        self._kind = event.kind
        stale = tuple(self._receiver.stale(event)) if event.stale_pages else ()
        if event.kind is EpochKind.FUZZY:
            self._on_epoch(Epoch(event, stale))
            return
        if self._state is None:
            raise ProtocolError("the sealed epoch came without state")
        self._complete = not event.stale_pages
        self._on_sealed(Epoch(event, stale, self._state))

    def cancel(self) -> None:
        """End the thread; any thread."""
        self._receiver.cancel()

    def finish(self, timeout_s: float) -> None:
        """Wait for the orderly end, for a while."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def close(self) -> None:
        """Stop receiving; idempotent."""
        self.cancel()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(EngineError):
            self._stack.close()

# SPDX-License-Identifier: Apache-2.0
"""The destination: receives machines and runs them.

::

    with Destination("tcp:[::]:4444", build_machine) as destination:
        report = destination.serve_one()
        machine = destination.take_machine()

While it is open, also between migrations, it answers sources that ask what
became of theirs. A file address loads that file instead.
"""

from __future__ import annotations

import contextlib
import hmac
import select
import socket
import threading
from collections import OrderedDict, deque
from dataclasses import asdict
from types import TracebackType

from pymigrate._clock import Stopwatch
from pymigrate._guest import hook
from pymigrate._handover import Fate, Handover
from pymigrate._link import Link
from pymigrate._listener import Listener
from pymigrate._load_file import FileLoader
from pymigrate._session import MachineFactory, Session, answer_decision
from pymigrate.addresses import Address, Scheme, parse_address
from pymigrate.errors import CancelledError, MigrateError, RefusedError, StepTimeoutError
from pymigrate.host import host_facts
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.protocol import Abort, Commit, Done, Hello, Query, Status, Welcome, negotiate
from pymigrate.report import Guest, Outcome, Report
from pymigrate.states import DestinationState

__all__ = ["Destination", "MachineFactory"]

# Sources that wait to be served, and sessions whose fate is remembered.
MAX_WAITING = 16
MAX_REMEMBERED = 256


class Destination:
    """Receives migrations, one at a time.

    :param listen: where; port 0 lets the system choose, see ``address``.
    :param factory: builds an empty machine from a description. What it
        raises, and what the machine's check() says, is the refusal.
    """

    def __init__(
        self, listen: str | Address, factory: MachineFactory, options: Options | None = None
    ) -> None:
        self._factory = factory
        self._options = options or Options()
        self._condition = threading.Condition()
        self._waiting: deque[tuple[socket.socket, Hello]] = deque()
        self._fates: OrderedDict[str, Handover] = OrderedDict()
        self._session: Session | None = None
        self._machine: Machine | None = None
        self._cancelled: CancelledError | None = None
        self._listener: Listener | None = None
        self.address = parse_address(listen)
        if self.address.scheme is not Scheme.FILE:
            self._listener = Listener(self.address, self._options, self._on_hello)
            self.address = self._listener.address

    @property
    def state(self) -> DestinationState:
        """Of the migration being served, or the last one."""
        session = self._session
        return session.track.state if session is not None else DestinationState.LISTENING

    @property
    def machine(self) -> Machine | None:
        """The machine that runs here since the last serve_one()."""
        return self._machine

    def take_machine(self) -> Machine:
        """The machine that runs here; the caller closes it from now on.

        :raises RuntimeError: there is none.
        """
        machine, self._machine = self._machine, None
        if machine is None:
            raise RuntimeError("no machine runs here")
        return machine

    # ---- serving -------------------------------------------------------

    def serve_one(self, timeout_ms: int | None = None) -> Report:
        """Wait for one migration and follow it to its end.

        :param timeout_ms: for a source to come; None: no limit.
        :raises StepTimeoutError: no source came.
        :raises CancelledError: close() or cancel() ended the wait.
        """
        if self._machine is not None:
            raise RuntimeError("a machine runs here already: take_machine() comes first")
        if self._listener is None:
            return self._load()
        sock, hello = self._next_source(timeout_ms)
        session = Session(sock, hello, self._options)
        with self._condition:
            self._session = session
            self._remember(session.handover)
            cancelled = self._cancelled
        if cancelled is not None:
            session.cancel(cancelled)
        try:
            session.serve(self._factory)
        except Exception as error:
            return self._failed(session, error)
        finally:
            self._machine, session.machine = session.machine, None
        return self._served(session)

    def _served(self, session: Session) -> Report:
        if session.handover.fate is Fate.RUNNING:
            return self._report(session, Outcome.COMPLETED, Guest.DESTINATION, None)
        return self._report(session, Outcome.IN_DOUBT, Guest.UNKNOWN, session.handover.reason)

    def _failed(self, session: Session, error: Exception) -> Report:
        outcome = Outcome.CANCELLED if isinstance(error, CancelledError) else Outcome.FAILED
        words = str(error) or type(error).__name__
        differences = error.differences if isinstance(error, RefusedError) else ()
        return self._report(session, outcome, Guest.SOURCE, words, differences)

    def _report(
        self,
        session: Session,
        outcome: Outcome,
        guest: Guest,
        error: str | None,
        differences: tuple[str, ...] = (),
    ) -> Report:
        return Report(
            outcome=outcome,
            role="destination",
            guest=guest,
            session=session.handover.session,
            peer="the source",
            host=asdict(host_facts()),
            config=self._options.describe(),
            total_ms=session.clock.elapsed_ms(),
            wire_bytes=session.wire_bytes,
            error=error,
            differences=differences,
        )

    def _next_source(self, timeout_ms: int | None) -> tuple[socket.socket, Hello]:
        limit_s = None if timeout_ms is None else timeout_ms / 1000
        with self._condition:
            while True:
                self._condition.wait_for(lambda: self._waiting or self._cancelled, limit_s)
                if self._cancelled is not None:
                    raise self._cancelled
                if not self._waiting:
                    raise StepTimeoutError(f"{self.address}: no source came within {limit_s:g} s")
                sock, hello = self._waiting.popleft()
                if not _is_gone(sock):
                    return sock, hello
                sock.close()

    def _load(self) -> Report:
        """serve_one() of a file: load it, run it."""
        clock = Stopwatch()
        loader = FileLoader(self.address.path, self._factory, self._options)
        outcome, guest, words = Outcome.COMPLETED, Guest.DESTINATION, None
        differences: tuple[str, ...] = ()
        try:
            machine = loader.load()
            try:
                hook("preparing to run", machine.before_run)
                hook("resuming the guest", machine.resume)
            except MigrateError:
                machine.close()
                raise
            self._machine = machine
        except MigrateError as error:
            outcome, guest, words = Outcome.FAILED, Guest.FILE, str(error)
            differences = error.differences if isinstance(error, RefusedError) else ()
        return Report(
            outcome=outcome,
            role="destination",
            guest=guest,
            session="",
            peer=str(self.address),
            host=asdict(host_facts()),
            config=self._options.describe(),
            total_ms=clock.elapsed_ms(),
            wire_bytes=loader.wire_bytes,
            error=words,
            differences=differences,
        )

    # ---- connections ---------------------------------------------------

    def _on_hello(self, sock: socket.socket, hello: Hello) -> None:
        """Hand a new connection to whom it concerns."""
        if hello.role == "query":
            self._answer(sock, hello)
        elif hello.role == "data":
            self._take_data(sock, hello)
        else:
            self._queue(sock, hello)

    def _queue(self, sock: socket.socket, hello: Hello) -> None:
        with self._condition:
            if len(self._waiting) < MAX_WAITING and self._cancelled is None:
                self._waiting.append((sock, hello))
                self._condition.notify_all()
                return
        sock.close()

    def _take_data(self, sock: socket.socket, hello: Hello) -> None:
        session = self._session
        mine = session is not None and _is_genuine(session.handover, hello)
        if session is None or not mine or not session.sockets.add(hello.channel, sock):
            sock.close()

    def _answer(self, sock: socket.socket, hello: Hello) -> None:
        """A source asks what became of its session."""
        limit_ms = self._options.connect_timeout_ms
        link = Link(sock, "the source that asks", self._options.peer_timeout_ms, received=1)
        try:
            link.send(Welcome(version=negotiate(hello)))
            link.receive("waiting for the question", limit_ms, Query)
            handover = self._fates.get(hello.session)
            if handover is None or not _is_genuine(handover, hello):
                link.send(Status(state="unknown"))
                return
            fate = handover.settled()
            link.send(Status(state=fate.value, reason=handover.reason))
            if fate in (Fate.PREPARING, Fate.PREPARED):
                answer_decision(
                    link,
                    handover,
                    link.receive("waiting for the decision", limit_ms, Commit, Abort),
                )
            link.receive("waiting for the farewell", limit_ms, Done)
            handover.source_knows.set()
        except MigrateError:
            # It will ask again.
            pass
        finally:
            link.close(limit_ms)

    def _remember(self, handover: Handover) -> None:
        self._fates[handover.session] = handover
        while len(self._fates) > MAX_REMEMBERED:
            self._fates.popitem(last=False)

    # ---- the end -------------------------------------------------------

    def cancel(self) -> None:
        """End serve_one(), unless the guest runs here already. Any thread."""
        error = CancelledError("the destination was cancelled")
        with self._condition:
            self._cancelled = self._cancelled or error
            session = self._session
            self._condition.notify_all()
        if session is not None:
            session.cancel(error)

    def close(self) -> None:
        """Stop listening and answering; idempotent. A machine that runs here
        and was not taken is closed.
        """
        self.cancel()
        if self._listener is not None:
            self._listener.close()
        with self._condition:
            waiting, self._waiting = list(self._waiting), deque()
        for sock, _ in waiting:
            sock.close()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.close()

    def __enter__(self) -> Destination:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_genuine(handover: Handover, hello: Hello) -> bool:
    """Does the connection belong to the session? Its token proves it."""
    same = hello.session == handover.session
    return same and hmac.compare_digest(hello.token.encode(), handover.token.encode())


def _is_gone(sock: socket.socket) -> bool:
    """Did a source that had to wait give up meanwhile?"""
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLRDHUP)
    if not poller.poll(0):
        return False
    with contextlib.suppress(OSError):
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return True

# SPDX-License-Identifier: Apache-2.0
"""The destination: receives machines and runs them.

::

    with Destination("tcp:[::]:4444", build_machine) as destination:
        report = destination.serve_one()
        machine = destination.take_machine()

While it is open, also between migrations, it answers sources that ask what
became of theirs. A file address loads that file instead, with the option lazy
while the guest runs: see Destination.restoring.

A guest may run here before all of its pages have come; serve_one() returns
when they have. Where the source is lost meanwhile, the report says so, and
recover() waits for it again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections import deque
from dataclasses import asdict
from types import TracebackType

from pymigrate._building import MachineFactory
from pymigrate._clock import Stopwatch
from pymigrate._guest import hook
from pymigrate._handover import Fate
from pymigrate._lazy_load import LazyLoader
from pymigrate._listener import Listener
from pymigrate._load_file import FileLoader
from pymigrate._patient import PatientPause
from pymigrate._reception import Reception
from pymigrate._session import Session
from pymigrate.addresses import Address, Scheme, parse_address
from pymigrate.errors import (
    CancelledError,
    IncompleteError,
    MigrateError,
    PeerFailedError,
    RefusedError,
    StepTimeoutError,
)
from pymigrate.host import host_facts
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.protocol import (
    Hello,
)
from pymigrate.report import Guest, Outcome, Report
from pymigrate.restoring import Restoring
from pymigrate.states import DestinationState

__all__ = ["Destination", "MachineFactory"]

# Sources that wait to be served.
MAX_WAITING = 16
CLOSE_PATIENCE_S = 0.5


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
        self._reception = Reception(self._options)
        self._session: Session | None = None
        self._machine: Machine | None = None
        self._busy = threading.Lock()
        self._restoring: Restoring | None = None
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

    @property
    def restoring(self) -> Restoring | None:
        """What brings the memory of a guest that was loaded lazily; it goes
        on when the machine is taken, until memory is complete, or closed.
        """
        return self._restoring

    def take_machine(self) -> Machine:
        """The machine that runs here; the caller closes it from now on.

        :raises RuntimeError: there is none, or pages of it are missing.
        """
        if self.missing_pages:
            raise RuntimeError(
                f"{self.missing_pages} pages of the machine are missing: recover() comes first"
            )
        machine, self._machine = self._machine, None
        if machine is None:
            raise RuntimeError("no machine runs here")
        return machine

    @property
    def missing_pages(self) -> int:
        """Of a guest that runs here already, or may soon. Any thread."""
        session = self._session
        return session.missing_pages if session is not None else 0

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
            self._reception.remember(session.handover)
            cancelled = self._cancelled
        if cancelled is not None:
            session.cancel(cancelled)
        try:
            with self._busy:
                session.serve(self._factory)
        except IncompleteError as error:
            return self._incomplete(session, error)
        except Exception as error:
            return self._failed(session, error)
        finally:
            self._machine, session.machine = session.machine, None
        return self._served(session)

    def recover(self, timeout_ms: int | None = None) -> Report:
        """Wait for the source again, after an outcome of incomplete.

        :param timeout_ms: for how long; None: no limit.
        :raises RuntimeError: nothing is incomplete.
        """
        session = self._session
        if session is None or not session.is_lost:
            raise RuntimeError(f"nothing to recover in state {self.state.value}")
        try:
            with self._busy:
                session.recover(timeout_ms)
        except IncompleteError as error:
            return self._incomplete(session, error)
        except PeerFailedError as error:
            machine, self._machine = self._machine, None
            if machine is not None:
                machine.close()
            return self._failed(session, error)
        return self._served(session)

    def _incomplete(self, session: Session, error: IncompleteError) -> Report:
        return self._report(session, Outcome.INCOMPLETE, Guest.DESTINATION, str(error))

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
            faults=session.faults,
            missing_pages=session.missing_pages,
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
        make = LazyLoader if self._options.lazy else FileLoader
        loader = make(self.address.path, self._factory, self._options)
        outcome, guest, words = Outcome.COMPLETED, Guest.DESTINATION, None
        differences: tuple[str, ...] = ()
        try:
            machine = loader.load()
            try:
                hook("preparing to run", machine.before_run)
                if loader.restoring is not None:
                    loader.restoring.allow_run()
                hook("resuming the guest", machine.resume)
            except MigrateError:
                machine.close()
                raise
            self._machine, self._restoring = machine, loader.restoring
        except MigrateError as error:
            outcome, guest, words = Outcome.FAILED, Guest.FILE, str(error)
            differences = error.differences if isinstance(error, RefusedError) else ()
        restoring = self._restoring if outcome is Outcome.COMPLETED else None
        if restoring is not None:
            restoring.runs()
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
            missing_pages=restoring.missing_pages if restoring is not None else 0,
            restore=restoring.report() if restoring is not None else None,
            error=words,
            differences=differences,
        )

    # ---- connections ---------------------------------------------------

    def _on_hello(self, sock: socket.socket, hello: Hello) -> None:
        """Hand a new connection to whom it concerns."""
        if hello.role == "query":
            self._reception.answer(sock, hello)
        elif hello.role == "recover":
            self._reception.rejoin(sock, hello)
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
        if session is None or self._reception.find(hello) is not session.handover:
            sock.close()
            return
        arrival = session.handover.arrival
        if hello.attempt == 0:
            taken = session.sockets.add(hello.channel, sock)
        else:
            taken = arrival is not None and arrival.take_data(sock, hello)
        if not taken:
            sock.close()

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
        if self._session is not None:
            runs = self._session.forbid() is Fate.RUNNING
            if machine is not None and runs and self._session.missing_pages:
                # Those of its vCPUs that wait for a page fail after this.
                PatientPause(machine, CLOSE_PATIENCE_S)
            self._session.close()
        if machine is not None:
            if self._restoring is not None:
                self._restoring.close()
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


def _is_gone(sock: socket.socket) -> bool:
    """Did a source that had to wait give up meanwhile?"""
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLRDHUP)
    if not poller.poll(0):
        return False
    with contextlib.suppress(OSError):
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return True

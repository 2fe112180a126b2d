# SPDX-License-Identifier: Apache-2.0
"""The destination's guest runs, or is about to, and pages of it are missing.

Theory of operation. The engine asks for pages and places them by itself, on
threads that need nothing from here; follow() watches it. Whatever breaks, a
data channel or the control connection, the whole set of connections is
dropped: the source, which notices the same, or is told by nobody and notices
nothing, makes another set. Its first connection is handed to take(), also
while the old set seems to work, for it is the source that knows. It is told
which pages are missing, and sends those. That is repeated until none is, for
as long as the options allow, and again whenever somebody asks.

The hooks that let the guest run may wait for a page, too: all this goes on
beside them, from the decision on.

Each set has a number, the attempt, so that what belongs to one that was given
up is recognised. Locks: one condition, never held while anything blocks.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable

from pymigrate._connection import Connection
from pymigrate._engine import Faults, pack_bitmap
from pymigrate._fault_figures import fault_report
from pymigrate._intake import DataSockets, Intake
from pymigrate._late_states import LateStates
from pymigrate._link import Link
from pymigrate._patient import PatientPause
from pymigrate.errors import EngineError, IncompleteError, MigrateError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.protocol import Arrived, Hello, Missing, Ready, Welcome, negotiate
from pymigrate.report import FaultReport
from pymigrate.states import DestinationState, StateTrack

__all__ = ["Arrival"]

# close() is noticed within this.
NOTICE_MS = 200


class Arrival:
    """Late pages of one machine.

    :param session: 32 hexadecimal digits.
    :param channels: data connections of a set.
    :raises EngineError: this host cannot have pages come late; with why.
    :ivar begun: faults are handled: the guest may run.
    :ivar on_cut_off: called, on any thread, once is_cut_off has become true.
    :ivar lost: follow() ended for want of the source.
    """

    def __init__(
        self,
        machine: Machine,
        session: str,
        channels: int,
        options: Options,
        track: StateTrack[DestinationState],
    ) -> None:
        self.faults = Faults(machine.memory())
        self.begun = self.lost = False
        self.recoveries = 0
        self.on_cut_off: Callable[[], None] | None = None
        self._machine: Machine | None = machine
        self._options, self._states = options, LateStates(track)
        self._session, self._channels = session, channels
        self._condition = threading.Condition()
        self._connection: Connection | None = None
        self._attempt = 0
        self._sockets = DataSockets()
        self._newcomer: tuple[socket.socket, Hello] | None = None
        self._loss: MigrateError | None = None
        self._failure: EngineError | None = None
        self._complete = self._stopped = self._closed = False
        self._follows = self._never_ran = False
        self._pause: PatientPause | None = None
        self._figures: FaultReport | None = None
        self._watcher = threading.Thread(target=self._watch, name="pmig-arrival", daemon=True)

    @property
    def complete(self) -> bool:
        """Nothing is missing any more. Any thread."""
        return self._complete

    @property
    def missing_pages(self) -> int:
        """Any thread."""
        return self.faults.missing_pages()

    @property
    def connection(self) -> Connection | None:
        """While the source is in reach."""
        return self._connection

    def report(self) -> FaultReport | None:
        """What waiting has cost so far; None where there was no need to."""
        if self._figures is not None:
            return self._figures
        return fault_report(self.faults) if self.begun else None

    def begin(self, intake: Intake) -> None:
        """The sealed epoch is complete: handle faults from now on.

        :raises EngineError: the kernel does not let us.
        """
        self.faults.start()
        self.begun = True
        self.faults.attach(intake.urgent)
        self._watcher.start()

    def _watch(self) -> None:
        """The thread that waits for the last page."""
        failure: EngineError | None = None
        try:
            while not self.faults.wait(NOTICE_MS):
                if self._closed:
                    return
        except EngineError as error:
            failure = error
        with self._condition:
            self._complete, self._failure = failure is None, failure
            self._condition.notify_all()

    # ---- what happens, on any thread -----------------------------------

    @property
    def is_cut_off(self) -> bool:
        """No page comes before the source makes new connections."""
        return self._loss is not None or (self._follows and self._connection is None)

    def lose(self, attempt: int, error: MigrateError) -> None:
        """The connections of that attempt do not work any more."""
        with self._condition:
            news = attempt == self._attempt and self._loss is None
            if news:
                self._loss = error
                self._condition.notify_all()
        if news and self.on_cut_off is not None:
            self.on_cut_off()

    def runs(self) -> None:
        """The guest runs."""
        self._states.runs()

    def never_ran(self) -> None:
        """The guest was to run, and does not: there is nothing to follow."""
        with self._condition:
            self._never_ran = True
            self._condition.notify_all()

    def take(self, sock: socket.socket, hello: Hello) -> bool:
        """The source wants to go on, on this connection; False: no need."""
        with self._condition:
            if self._closed or self._complete or not self.begun:
                return False
            before, self._newcomer = self._newcomer, (sock, hello)
            self._condition.notify_all()
        if before is not None:
            before[0].close()
        return True

    def take_data(self, sock: socket.socket, hello: Hello) -> bool:
        """A data connection of a later attempt; False: not wanted."""
        with self._condition:
            sockets, current = self._sockets, hello.attempt == self._attempt
        return current and hello.attempt > 0 and sockets.add(hello.channel, sock)

    def stop(self) -> None:
        """Do not wait for a source that is out of reach."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    # ---- until the last page -------------------------------------------

    def follow(self, connection: Connection | None, timeout_ms: int | None) -> None:
        """Return when the last page has arrived, or never_ran() was called.

        :param connection: the first set; taken over. None: there is none.
        :param timeout_ms: for the source to come back, each time it is lost;
            None: no limit.
        :raises IncompleteError: it did not.
        """
        self.lost = False
        if connection is not None:
            self._connection = connection
            connection.link.watch(lambda error: self.lose(0, error))
        self._follows = True
        while not self._await_end():
            self._recover(timeout_ms)
        if self._never_ran:
            return
        self._states.to(DestinationState.RUNNING)
        if self._connection is not None:
            self._say_arrived(self._connection.link)

    def _await_end(self) -> bool:
        """Wait until there is something to do; False: a new set is needed.

        :raises IncompleteError: faults cannot be handled any more.
        """
        with self._condition:
            if self._connection is None:
                return self._is_over
            self._condition.wait_for(
                lambda: self._is_over or self._failure or self._loss or self._newcomer
            )
            if self._failure is not None:
                raise IncompleteError(
                    f"{self.missing_pages} pages of the guest are missing, and cannot be "
                    f"placed any more: {self._failure}"
                ) from self._failure
            return self._is_over

    @property
    def _is_over(self) -> bool:
        return self._complete or self._never_ran

    def _say_arrived(self, link: Link) -> None:
        """Nothing depends on it: the engine has told the source already."""
        try:
            link.send(Arrived(figures=fault_report(self.faults).to_dict()))
        except MigrateError as error:
            self.lose(self._attempt, error)

    # ---- recovery ------------------------------------------------------

    def _recover(self, timeout_ms: int | None) -> None:
        """Wait for the source, and let it go on; or for the last page."""
        reason = self._drop()
        if self._states.latest is not DestinationState.RECOVERING:
            self._states.to(DestinationState.RECOVERING)
        limit_s = threading.TIMEOUT_MAX if timeout_ms is None else timeout_ms / 1000
        deadline = time.monotonic() + limit_s
        while (newcomer := self._next_newcomer(deadline)) is not None:
            try:
                self._connection = self._join(*newcomer)
            except MigrateError as error:
                reason = str(error)
                continue
            self._go_on()
            return
        if not self._is_over:
            raise self._lost(reason, limit_s)

    def _next_newcomer(self, deadline: float) -> tuple[socket.socket, Hello] | None:
        """None: there will be none, or there is no need."""

        def is_over() -> object:
            return self._is_over or self._failure or self._newcomer or self._stopped

        with self._condition:
            left_s = max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX))
            self._condition.wait_for(is_over, left_s)
            if self._is_over or self._stopped:
                return None
            newcomer, self._newcomer = self._newcomer, None
            return newcomer

    def _join(self, sock: socket.socket, hello: Hello) -> Connection:
        """A new set of connections, of which this is the first."""
        with self._condition:
            self._attempt += 1
            attempt, self._loss = self._attempt, None
            sockets = self._sockets = DataSockets()

        def on_failure(error: MigrateError) -> None:
            sockets.fail(error)
            self.lose(attempt, error)

        link = Link(
            sock, "the source", self._options.peer_timeout_ms, received=1, on_failure=on_failure
        )
        try:
            return Connection(link, sockets, self._resume(link, sockets, attempt, hello))
        except BaseException:
            self.faults.attach(None)
            sockets.close()
            link.close()
            raise

    def _resume(self, link: Link, sockets: DataSockets, attempt: int, hello: Hello) -> Intake:
        link.send(Welcome(version=negotiate(hello)))
        words = self.faults.missing()
        pages = int.from_bytes(words, "little").bit_count()
        link.send(Missing(attempt=attempt, pages=pages, body=pack_bitmap(words)))
        assert self._machine is not None
        intake = Intake(
            self._machine.memory(),
            sockets.wait(self._channels, self._options.handshake_timeout_ms),
            bytes.fromhex(self._session),
            self._options,
            faults=self.faults,
            on_error=lambda error: self.lose(attempt, error),
        )
        try:
            intake.start()
            self.faults.attach(intake.urgent)
            link.send(Ready())
        except BaseException:
            intake.close()
            raise
        return intake

    def _go_on(self) -> None:
        self.recoveries += 1
        self._states.to(DestinationState.POSTCOPY)
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.undo()

    def _lost(self, reason: str, limit_s: float) -> IncompleteError:
        """Nobody came: say so, and do as the options say."""
        how = "waiting was ended" if self._stopped else f"waited for {limit_s:g} s"
        words = (
            f"the source is out of reach, and {self.missing_pages} pages of the guest are "
            f"missing; whoever needs one of them waits ({how}; {reason})"
        )
        # One that does not run yet stands still anyway.
        if self._options.pause_when_lost and self._pause is None and self._states.running:
            assert self._machine is not None
            self._pause = PatientPause(self._machine)
            words += f"; {self._pause.words}"
        self._states.to(DestinationState.LOST)
        with self._condition:
            self._stopped, self.lost = False, True
        return IncompleteError(words)

    def _drop(self) -> str:
        """Give up the connections; returns why."""
        with self._condition:
            connection, self._connection = self._connection, None
            loss, self._loss = self._loss, None
        if connection is not None:
            self.faults.attach(None)
            connection.close()
        if loss is None:
            return "it made new connections" if self._newcomer else "it has not come back"
        return str(loss)

    # ---- the end -------------------------------------------------------

    def abandon(self) -> None:
        """The guest has not run here and never will. Any thread."""
        self.faults.abandon()

    def close(self) -> None:
        """Handle no faults any more; idempotent. The guest must not run if
        pages are missing, and memory must be there still.
        """
        with self._condition:
            self._closed = self._stopped = True
            newcomer, self._newcomer = self._newcomer, None
            self._failure = self._failure or EngineError(-errno.ECANCELED, "closed")
            self._condition.notify_all()
        if newcomer is not None:
            newcomer[0].close()
        self._drop()
        if self._watcher.ident is not None:
            self._watcher.join()
        self._figures = self.report()
        self.faults.close()
        # What became of a session is remembered for long; machines are not.
        self._machine = self._pause = None

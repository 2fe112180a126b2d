# SPDX-License-Identifier: Apache-2.0
"""One incoming migration, from HELLO to the running guest.

Theory of operation. serve() runs on the caller's thread and follows the
control connection; the intake's thread follows the data. What the intake
finds is put into the control connection's inbox, so that there is one order
of events. From PREPARED on the handover decides, whoever asks it. Where
pages come late, the arrival sees to them once the guest runs.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import asdict, dataclass, field

from pymigrate._arrival import Arrival
from pymigrate._building import MachineFactory, build_machine
from pymigrate._clock import Stopwatch
from pymigrate._connection import Connection
from pymigrate._engine import ENCODINGS_ALL
from pymigrate._guest import hook
from pymigrate._handover import Fate, Handover
from pymigrate._intake import DataSockets, Epoch, Intake
from pymigrate._link import Link
from pymigrate._reception import answer_decision
from pymigrate._stale import pack_stale
from pymigrate._trouble import Trouble
from pymigrate._verify import answer_verify
from pymigrate.errors import (
    CancelledError,
    EngineError,
    MachineError,
    MigrateError,
    PeerFailedError,
    PeerLostError,
    ProtocolError,
    RefusedError,
    StepTimeoutError,
)
from pymigrate.host import host_facts
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.protocol import (
    Abort,
    Accept,
    Commit,
    Describe,
    Done,
    EpochAck,
    Error,
    Hello,
    Message,
    Populated,
    Prepare,
    Prepared,
    Ready,
    Refuse,
    Rehearse,
    Rehearsed,
    VerifyPages,
    Welcome,
    negotiate,
)
from pymigrate.report import FaultReport
from pymigrate.states import DESTINATION_TRANSITIONS, DestinationState, StateTrack

__all__ = ["Session"]

# How long a failed destination waits for the source to read why.
FAREWELL_MS = 1000


@dataclass(frozen=True)
class SealedMessage(Message):
    """Local: the intake has a sealed epoch. Never on the wire."""

    epoch: Epoch | None = field(default=None)


class Session:
    """One incoming migration.

    :ivar machine: the machine, once it was built.
    """

    def __init__(self, sock: socket.socket, hello: Hello, options: Options) -> None:
        self._sock, self._hello, self._options = sock, hello, options
        self.track = StateTrack(
            DestinationState.LISTENING, DESTINATION_TRANSITIONS, options.on_state
        )
        self.handover = Handover(hello.session, self.track)
        self.sockets = DataSockets()
        self.trouble = Trouble()
        self.machine: Machine | None = None
        self.load_ms = 0.0
        self.clock = Stopwatch()
        self._link: Link | None = None
        self._intake: Intake | None = None
        # For late pages, where the source may send any.
        self._arrival: Arrival | None = None

    @property
    def link(self) -> Link:
        assert self._link is not None
        return self._link

    @property
    def wire_bytes(self) -> int:
        return self._intake.wire_bytes if self._intake is not None else 0

    def serve(self, factory: MachineFactory) -> None:
        """Follow the migration to its end.

        :raises IncompleteError: the guest runs here, or will, and lacks pages.
        :raises MigrateError: it failed, and the guest was never run here.
        """
        try:
            self._receive(factory)
            self._await_commit()
        except BaseException as error:
            self.handover.on_decided = None
            cause = self._cause(error)
            if self.handover.abort(str(cause) or type(cause).__name__) is Fate.ABORTED:
                self._discard(cause)
                if cause is error:
                    raise
                raise cause from error
            if not isinstance(error, Exception):
                raise
        self._follow_pages(self._initial, self._options.recover_timeout_ms)

    def recover(self, timeout_ms: int | None) -> None:
        """Wait for the source again, after an IncompleteError.

        :param timeout_ms: for how long; None: no limit.
        :raises IncompleteError: as before.
        :raises PeerFailedError: the guest was not run after all; its machine is
            the caller's to close.
        """
        self._follow_pages(None, timeout_ms)

    def _cause(self, error: BaseException) -> BaseException:
        """What an error of the engine, or an impossible step, really means."""
        if isinstance(error, (EngineError, RuntimeError)):
            return self.trouble.error or error
        return error

    @property
    def faults(self) -> FaultReport | None:
        """What waiting for pages has cost so far. Any thread."""
        return self._arrival.report() if self._arrival is not None else None

    @property
    def is_lost(self) -> bool:
        """Pages are missing, and the source was waited for in vain. Any thread."""
        return self._arrival is not None and self._arrival.lost

    @property
    def missing_pages(self) -> int:
        """Of a guest that runs, or may soon. Any thread."""
        return self._arrival.missing_pages if self._arrival is not None else 0

    def cancel(self, error: MigrateError) -> None:
        """Give up, unless it is decided that the guest runs here; in that case
        do not wait for a source that is out of reach. Any thread.
        """
        self.trouble.report(error)
        self.handover.abort(str(error))
        self.handover.source_knows.set()
        if self._arrival is not None:
            self._arrival.stop()

    # ---- until prepared ------------------------------------------------

    def _receive(self, factory: MachineFactory) -> None:
        self._link = Link(
            self._sock,
            "the source",
            self._options.peer_timeout_ms,
            received=1,
            on_failure=self.trouble.report,
        )
        decided = PeerLostError("it was decided on another connection")
        self.handover.on_decided = lambda: self.link.interrupt(decided)
        self.trouble.on_trouble(self._link.interrupt)
        self.trouble.on_trouble(self.sockets.fail)
        self.link.send(Welcome(version=negotiate(self._hello)))
        self.track.to(DestinationState.HANDSHAKE)
        limit_ms = self._options.handshake_timeout_ms
        describe = self.link.receive("waiting for the description", limit_ms, Describe)
        self.machine = self._build(describe, factory)
        self.track.to(DestinationState.CHANNELS)
        self._accept(self.machine, describe)
        self._start_intake(self.machine, self.sockets.wait(describe.channels, limit_ms))
        self.track.to(DestinationState.RECEIVING)
        self.link.send(Ready())
        self._follow(self.machine)

    def _accept(self, machine: Machine, describe: Describe) -> None:
        """The source may open its channels as soon as it reads this."""
        late_reason = self._expect_late_pages(machine, describe) if describe.late else ""
        self.link.send(
            Accept(
                token=self.handover.token,
                host=asdict(host_facts()),
                encodings=ENCODINGS_ALL,
                late=self._arrival is not None,
                late_reason=late_reason,
            )
        )

    def _expect_late_pages(self, machine: Machine, describe: Describe) -> str:
        """:returns: why that is not possible here; empty: it is."""
        try:
            arrival = Arrival(
                machine, self.handover.session, describe.channels, self._options, self.track
            )
        except EngineError as error:
            return str(error)
        self._arrival = arrival
        self.handover.expect(arrival)
        self.trouble.on_trouble(self._release_waits)
        return ""

    def _release_waits(self, error: MigrateError) -> None:
        """Loading the state, or letting the guest run, may wait for a page that
        will not come.
        """
        assert self._arrival is not None
        if self.handover.abort_unprepared(str(error)):
            self._arrival.abandon()
        self._arrival.lose(0, error)

    def _build(self, describe: Describe, factory: MachineFactory) -> Machine:
        """The machine that can run the described one, or a refusal."""
        try:
            return build_machine(describe, factory, self._options)
        except RefusedError as error:
            self.link.send(Refuse(differences=list(error.differences)))
            raise

    def _start_intake(self, machine: Machine, sockets: list[socket.socket]) -> None:
        self._intake = Intake(
            machine.memory(),
            sockets,
            bytes.fromhex(self.handover.session),
            self._options,
            on_populated=lambda: self.link.send(Populated()),
            on_epoch=self._acknowledge,
            on_sealed=lambda epoch: self.link.post(SealedMessage(epoch=epoch)),
            on_error=self._on_intake_error,
            faults=self._arrival.faults if self._arrival is not None else None,
        )
        intake = self._intake
        self.trouble.on_trouble(lambda error: self._end_intake(intake, error))
        intake.start()

    def _end_intake(self, intake: Intake, _error: MigrateError) -> None:
        # A guest that runs needs what still comes.
        if not self.handover.runs_or_will:
            intake.cancel()

    def _acknowledge(self, epoch: Epoch) -> None:
        event = epoch.event
        self.link.send(
            EpochAck(
                epoch=event.epoch,
                kind=event.kind.name.lower(),
                pages=event.pages,
                suspect_pages=event.suspect_pages,
                stale_pages=event.stale_pages,
                digest=f"{event.digest:016x}",
                body=pack_stale(epoch.stale),
            )
        )

    def _on_intake_error(self, error: MigrateError) -> None:
        if self._arrival is not None:
            self._arrival.lose(0, error)
        if self.handover.runs_or_will:
            return
        # The source learns at once, not when it next waits for us.
        with contextlib.suppress(MigrateError):
            self.link.send(Error(step=self.track.state.value, message=str(error)))
        self.trouble.report(error)

    def _follow(self, machine: Machine) -> None:
        """Handle events until the machine is complete, loaded and announced.

        A sealed epoch that leaves stale pages is answered with them, and
        followed by another one.
        """
        while (sealed := self._next_sealed(machine)).event.stale_pages:
            self._acknowledge(sealed)

    def _next_sealed(self, machine: Machine) -> Epoch:
        """A sealed epoch and its PREPARE; they come on different connections."""
        sealed: Epoch | None = None
        prepare: Prepare | None = None
        while sealed is None or prepare is None:
            # Stalls are noticed by the receiver, a lost peer by the heartbeat.
            event = self.link.receive("receiving", None, Rehearse, SealedMessage, Prepare, Abort)
            if isinstance(event, Abort):
                raise PeerFailedError(f"the source gave up: {event.reason}")
            if isinstance(event, Rehearse):
                self._rehearse(machine, event.body)
            elif isinstance(event, SealedMessage):
                sealed = self._take_sealed(machine, event.epoch, sealed)
            elif isinstance(event, Prepare):
                prepare = event
        self._check_late(prepare)
        digest = f"{sealed.event.digest:016x}"
        if (prepare.epoch, prepare.digest) != (sealed.event.epoch, digest):
            raise ProtocolError("preparing: the sealed epoch is not the one that the source sent")
        return sealed

    def _take_sealed(self, machine: Machine, epoch: Epoch | None, before: Epoch | None) -> Epoch:
        """Load the state, unless there are pages to be asked for first."""
        assert epoch is not None
        if before is not None:
            raise ProtocolError("preparing: two sealed epochs came before PREPARE")
        if self._arrival is not None and self._arrival.missing_pages:
            self._begin_late(self._arrival)
        if not epoch.event.stale_pages:
            self._load(machine, epoch.state)
        return epoch

    def _check_late(self, prepare: Prepare) -> None:
        """Both sides must agree on whether pages come late."""
        arrival = self._arrival
        if arrival is not None and prepare.late and not arrival.begun:
            # All that was left behind came before, or was zero here.
            self._begin_late(arrival)
        if prepare.late != (arrival is not None and arrival.begun):
            raise ProtocolError("preparing: pages are missing, and the source does not say so")

    def _begin_late(self, arrival: Arrival) -> None:
        assert self._intake is not None
        arrival.begin(self._intake)

    def _rehearse(self, machine: Machine, state: bytes) -> None:
        self.track.to(DestinationState.REHEARSING)
        watch, words = Stopwatch(), ""
        try:
            hook("loading the state", lambda: machine.load_state(state))
        except MachineError as error:
            words = str(error)
        self.link.send(Rehearsed(load_ms=watch.elapsed_ms(), error=words))
        self.track.to(DestinationState.RECEIVING)

    def _load(self, machine: Machine, state: bytes) -> None:
        self.track.to(DestinationState.LOADING)
        watch = Stopwatch()
        hook("loading the state", lambda: machine.load_state(state))
        self.load_ms = watch.elapsed_ms()

    # ---- prepared ------------------------------------------------------

    def _await_commit(self) -> None:
        """Answer the source until it is decided who runs the guest."""
        assert self.machine is not None
        self.handover.prepare(self.machine)
        limit_ms = self._options.prepared_timeout_ms
        try:
            self.link.send(Prepared(load_ms=self.load_ms))
            while True:
                event = self.link.receive("prepared", limit_ms, VerifyPages, Commit, Abort)
                if isinstance(event, VerifyPages):
                    answer_verify(self.machine.memory(), self.link, event)
                    continue
                self.handover.on_decided = None
                answer_decision(self.link, self.handover, event)
                break
        except (CancelledError, PeerFailedError, StepTimeoutError):
            raise
        except MigrateError as error:
            # Perhaps only the connection is lost: wait for a question.
            if self.handover.wait_for_word(limit_ms) is Fate.PREPARED:
                raise error

    # ---- the end -------------------------------------------------------

    @property
    def _initial(self) -> Connection:
        """The connections that the migration began with."""
        assert self._intake is not None
        return Connection(self.link, self.sockets, self._intake)

    def _follow_pages(self, connection: Connection | None, timeout_ms: int | None) -> None:
        """It is decided; the guest may be about to run."""
        arrival = self._arrival
        if arrival is not None and arrival.begun and self.handover.runs_or_will:
            arrival.follow(connection, timeout_ms)
            connection = arrival.connection
        if self.handover.ended() is Fate.ABORTED:
            error = PeerFailedError(f"the guest was not run: {self.handover.reason}")
            self._discard(error)
            raise error
        self._conclude(connection)

    def _conclude(self, connection: Connection | None) -> None:
        """Let the source know, and part from it."""
        limit_ms = self._options.linger_timeout_ms
        try:
            if connection is None:
                raise PeerLostError("the source is out of reach")
            connection.link.receive("waiting for the source's farewell", limit_ms, Done)
            self.handover.source_knows.set()
        except MigrateError:
            self.handover.source_knows.wait(limit_ms / 1000)
        if connection is not None:
            connection.intake.finish(1.0)
            connection.close(FAREWELL_MS)
        self.close()

    def close(self) -> None:
        """Give up what is still missing; idempotent. The guest must not run
        then; forbid() keeps it from that.
        """
        if self._arrival is not None:
            self._arrival.close()
            # A hook that waited for a page goes on.
            self.handover.ended()

    def forbid(self) -> Fate:
        """Never run the guest if it does not yet; whether it does."""
        self.handover.forbid("what it lacks was given up")
        return self.handover.settled()

    def _discard(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):
            self.track.notify(DestinationState.DISCARDING)
        told = isinstance(error, (RefusedError, PeerFailedError))
        if self._link is not None and not told:
            with contextlib.suppress(MigrateError):
                self._link.send(Error(step=self.track.state.value, message=str(error)))
        self._disconnect()
        if self._arrival is not None:
            self._arrival.abandon()
        self.close()
        if self.machine is not None:
            self.machine.close()
            self.machine = None
        self.track.to(DestinationState.FAILED)

    def _disconnect(self) -> None:
        if self._intake is not None:
            self._intake.close()
        self.sockets.close()
        if self._link is not None:
            self._link.close(FAREWELL_MS)
        else:
            self._sock.close()

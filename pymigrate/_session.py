# SPDX-License-Identifier: Apache-2.0
"""One incoming migration, from HELLO to the running guest.

Theory of operation. serve() runs on the caller's thread and follows the
control connection; the intake's thread follows the data. What the intake
finds is put into the control connection's inbox, so that there is one order
of events. From PREPARED on the handover decides, whoever asks it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pymigrate._clock import Stopwatch
from pymigrate._engine import ENCODINGS_ALL, lib
from pymigrate._guest import hook
from pymigrate._handover import Fate, Handover
from pymigrate._intake import DataSockets, Epoch, Intake
from pymigrate._link import Link
from pymigrate._stale import pack_stale
from pymigrate._trouble import Trouble
from pymigrate._verify import MAX_VERIFY_BLOCKS, hashes_of
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
    Aborted,
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
    Running,
    Status,
    VerifyHashes,
    VerifyPages,
    Welcome,
    negotiate,
)
from pymigrate.states import DESTINATION_TRANSITIONS, DestinationState, StateTrack

__all__ = ["MachineFactory", "Session", "answer_decision"]

MachineFactory = Callable[[dict[str, Any]], Machine]

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

    @property
    def link(self) -> Link:
        assert self._link is not None
        return self._link

    @property
    def wire_bytes(self) -> int:
        return self._intake.wire_bytes if self._intake is not None else 0

    def serve(self, factory: MachineFactory) -> None:
        """Follow the migration to its end.

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
        self._conclude()

    def _cause(self, error: BaseException) -> BaseException:
        """What an error of the engine, or an impossible step, really means."""
        if isinstance(error, (EngineError, RuntimeError)):
            return self.trouble.error or error
        return error

    def cancel(self, error: MigrateError) -> None:
        """Give up, unless it is decided that the guest runs here. Any thread."""
        self.trouble.report(error)
        self.handover.abort(str(error))
        self.handover.source_knows.set()

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
        # The source may open its channels as soon as it reads this.
        self.link.send(
            Accept(token=self.handover.token, host=asdict(host_facts()), encodings=ENCODINGS_ALL)
        )
        self._start_intake(self.machine, self.sockets.wait(describe.channels, limit_ms))
        self.track.to(DestinationState.RECEIVING)
        self.link.send(Ready())
        self._follow(self.machine)

    def _build(self, describe: Describe, factory: MachineFactory) -> Machine:
        """The machine that can run the described one, or a refusal."""
        differences = self._stream_differences(describe)
        machine = None
        if not differences:
            try:
                machine = hook("building the machine", lambda: factory(describe.description))
                found = machine
                differences = hook(
                    "checking the machine", lambda: found.check(describe.description)
                )
            except MachineError as error:
                differences = [str(error)]
        if differences or machine is None:
            if machine is not None:
                machine.close()
            self.link.send(Refuse(differences=differences))
            raise RefusedError(differences)
        return machine

    def _stream_differences(self, describe: Describe) -> list[str]:
        found = []
        ours = lib.PMIG_STREAM_VERSION_MAJOR
        if describe.stream_major != ours:
            found.append(
                f"stream version: the source sends {describe.stream_major}, "
                f"the destination reads {ours}"
            )
        if not 1 <= describe.channels <= self._options.max_channels:
            found.append(
                f"channels: the source wants {describe.channels}, "
                f"the destination takes 1 to {self._options.max_channels}"
            )
        return found

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
        )
        intake = self._intake
        self.trouble.on_trouble(lambda _error: intake.cancel())
        intake.start()

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
        digest = f"{sealed.event.digest:016x}"
        if (prepare.epoch, prepare.digest) != (sealed.event.epoch, digest):
            raise ProtocolError("preparing: the sealed epoch is not the one that the source sent")
        return sealed

    def _take_sealed(self, machine: Machine, epoch: Epoch | None, before: Epoch | None) -> Epoch:
        """Load the state, unless there are pages to be asked for first."""
        assert epoch is not None
        if before is not None:
            raise ProtocolError("preparing: two sealed epochs came before PREPARE")
        if not epoch.event.stale_pages:
            self._load(machine, epoch.state)
        return epoch

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
                    self._hash(self.machine, event)
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
        if self.handover.settled() is Fate.ABORTED:
            raise PeerFailedError(f"the guest was not run: {self.handover.reason}")

    def _hash(self, machine: Machine, asked: VerifyPages) -> None:
        memory = machine.memory()
        last = asked.first_block + asked.n_blocks
        if not 1 <= asked.n_blocks <= MAX_VERIFY_BLOCKS or last > memory.blocks:
            raise ProtocolError("verifying: the source asks for blocks that do not exist")
        hashes = hashes_of(memory, asked.first_block, asked.n_blocks)
        self.link.send(
            VerifyHashes(first_block=asked.first_block, n_blocks=asked.n_blocks, body=hashes)
        )

    # ---- the end -------------------------------------------------------

    def _conclude(self) -> None:
        """The guest runs here, or is broken here: let the source know."""
        limit_ms = self._options.linger_timeout_ms
        try:
            self.link.receive("waiting for the source's farewell", limit_ms, Done)
            self.handover.source_knows.set()
        except MigrateError:
            self.handover.source_knows.wait(limit_ms / 1000)
        if self._intake is not None:
            self._intake.finish(1.0)
        self._close()

    def _discard(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):
            self.track.notify(DestinationState.DISCARDING)
        told = isinstance(error, (RefusedError, PeerFailedError))
        if self._link is not None and not told:
            with contextlib.suppress(MigrateError):
                self._link.send(Error(step=self.track.state.value, message=str(error)))
        self._close()
        if self.machine is not None:
            self.machine.close()
            self.machine = None
        self.track.to(DestinationState.FAILED)

    def _close(self) -> None:
        if self._intake is not None:
            self._intake.close()
        self.sockets.close()
        if self._link is not None:
            self._link.close(FAREWELL_MS)
        else:
            self._sock.close()


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

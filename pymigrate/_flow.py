# SPDX-License-Identifier: Apache-2.0
"""What every way of sending a machine has in common: how it ends."""

from __future__ import annotations

import contextlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict

from pymigrate._clock import Stopwatch
from pymigrate._engine import ENCODINGS_ALL, SenderOptions
from pymigrate._guest import SourceGuest
from pymigrate._outgoing import Outgoing
from pymigrate._rounds import Rounds
from pymigrate._trouble import Trouble
from pymigrate._tuner import Tuner
from pymigrate.errors import (
    CancelledError,
    ChannelError,
    EngineCancelled,
    MachineError,
    NotConvergedError,
    PeerLostError,
    RefusedError,
)
from pymigrate.host import host_facts
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.policy import Action, Decision
from pymigrate.report import (
    Downtime,
    FaultReport,
    Guest,
    LateReport,
    Outcome,
    Rehearsal,
    Report,
    Total,
    Verify,
)
from pymigrate.states import SourceState, StateTrack

__all__ = ["Flow"]


class Flow(ABC):
    """One migration, seen from the source.

    :param n_channels: data connections that it has.
    :ivar may_resume: whether the source may run the guest; cleared at the
        point of no return.
    """

    def __init__(
        self,
        machine: Machine,
        peer: str,
        options: Options,
        table: Mapping[SourceState, frozenset[SourceState]],
        n_channels: int,
    ) -> None:
        self.machine, self.peer, self.options = machine, peer, options
        self.trouble = Trouble()
        self.track = StateTrack(SourceState.NEW, table, options.on_state)
        self.guest = SourceGuest(machine)
        self.tuner = Tuner(options, n_channels)
        self.clock = Stopwatch()
        self.session = secrets.token_hex(16)
        self.may_resume = True
        self.out: Outgoing | None = None
        self.rounds: Rounds | None = None
        self.rehearsal: Rehearsal | None = None
        self.downtime: Downtime | None = None
        self.predicted_downtime_ms: float | None = None
        self.verified: Verify | None = None

    # ---- for subclasses ------------------------------------------------

    @abstractmethod
    def _go(self) -> None:
        """Do it all; return once the guest was handed over."""

    @abstractmethod
    def _abandon(self, error: BaseException) -> None:
        """Tell the other side that it failed; must not raise or block long."""

    @abstractmethod
    def _close(self) -> None:
        """Release what the subclass holds; idempotent."""

    def _owner(self) -> Guest:
        """Who has the guest once completed."""
        return Guest.DESTINATION

    def sender_options(
        self, encodings: int = ENCODINGS_ALL, one_way: bool = False, late: bool = False
    ) -> SenderOptions:
        """How the sender is made.

        :param encodings: what the receiver reads, bit e: encoding e.
        :param one_way: nobody answers.
        :param late: the last channel is the urgent one.
        """
        return SenderOptions(
            stall_timeout_ms=self.options.stall_timeout_ms,
            encodings=encodings,
            one_way=one_way,
            late=late,
            cpus=self.options.cpus,
            delta_memory_bytes=self.options.delta_memory_bytes or 0,
            tuning=self.tuner.current,
        )

    def check_throttle(self) -> None:
        """Refuse at the start what could not be done later.

        :raises MachineError: throttling is allowed, and not possible.
        """
        if self.options.policy.throttle_percent:
            self.guest.throttle(0)

    def obey(self, decision: Decision, rounds: Rounds) -> None:
        """Throttle where the policy says so.

        :raises NotConvergedError: it gives up.
        """
        self.predicted_downtime_ms = decision.predicted_downtime_ms
        if decision.action is Action.GIVE_UP:
            raise NotConvergedError(f"not converged: {decision.reason}")
        if decision.action is Action.THROTTLE:
            self.guest.throttle(decision.throttle_percent)
            rounds.throttle_percent = decision.throttle_percent

    def enter(self, state: SourceState) -> None:
        """The next step, unless there is trouble."""
        self.trouble.check()
        self.track.to(state)

    # ---- the end -------------------------------------------------------

    def run(self) -> Report:
        """Migrate; a failure is a report, an interruption is raised."""
        self.clock = Stopwatch()
        self.tuner.begin()
        try:
            self._go()
        except Exception as error:
            return self._end_badly(error)
        except BaseException as error:
            self._end_badly(error)
            raise
        finally:
            self.release()
        return self.report(Outcome.COMPLETED, self._owner())

    def release(self) -> None:
        """Give everything back, unless somebody may still ask for it; idempotent."""
        if self._is_owed():
            return
        self.tuner.end()
        self._close()
        if self.out is not None:
            self.out.close()

    def _is_owed(self) -> bool:
        """Does the destination run the guest, or may it, without pages that are here?"""
        return False

    def _end_badly(self, error: BaseException) -> Report:
        # Who is woken for trouble sees its connection end, or its call fail.
        woken = isinstance(error, (ChannelError, EngineCancelled, PeerLostError))
        if woken and self.trouble.error is not None:
            error = self.trouble.error
        if self.track.state is SourceState.COMPLETED:
            return self.report(Outcome.COMPLETED, self._owner(), _words(error))
        if not self.may_resume:
            return self._unsettled(error)
        return self.roll_back(error)

    def roll_back(self, error: BaseException) -> Report:
        """The guest goes on at the source, and the other side is told.

        In this order, because the destination never runs without COMMIT.
        """
        self.track.advance(SourceState.ROLLING_BACK)
        with contextlib.suppress(Exception):
            self.track.notify(SourceState.ROLLING_BACK)
        guest, words = Guest.SOURCE, _words(error)
        try:
            self.guest.release()
        except MachineError as failure:
            words = f"{words}; and {failure}"
        try:
            self.guest.resume()
        except MachineError as failure:
            guest, words = Guest.UNKNOWN, f"{words}; and {failure}"
        self._abandon(error)
        outcome, state = _outcome(error)
        self.track.to(state)
        differences = error.differences if isinstance(error, RefusedError) else ()
        return self.report(outcome, guest, words, differences)

    def _unsettled(self, error: BaseException) -> Report:
        if self.track.state is SourceState.POSTCOPY:
            self.track.advance(SourceState.RECOVERING)
        if self.track.state is SourceState.RECOVERING:
            self.track.to(SourceState.INCOMPLETE)
            return self.report(Outcome.INCOMPLETE, Guest.DESTINATION, _words(error))
        if self.track.state is SourceState.COMMITTING:
            self.track.to(SourceState.RESOLVING)
        if self.track.state is SourceState.RESOLVING:
            self.track.to(SourceState.IN_DOUBT)
        return self.report(Outcome.IN_DOUBT, Guest.UNKNOWN, _words(error))

    @property
    def late(self) -> LateReport | None:
        """Of pages that followed the guest."""
        return None

    @property
    def faults(self) -> FaultReport | None:
        """What the destination says that it cost to wait for them."""
        return None

    def report(
        self,
        outcome: Outcome,
        guest: Guest,
        error: str | None = None,
        differences: tuple[str, ...] = (),
    ) -> Report:
        """Everything known so far."""
        rounds = tuple(self.rounds.reports) if self.rounds is not None else ()
        return Report(
            outcome=outcome,
            role="source",
            guest=guest,
            session=self.session,
            peer=self.peer,
            host=asdict(host_facts()),
            config={**self.options.describe(), "tuning": self.tuner.current.to_json()},
            tracker=self.out.facts if self.out is not None else None,
            rounds=rounds,
            rehearsal=self.rehearsal,
            downtime=self.downtime,
            predicted_downtime_ms=self.predicted_downtime_ms,
            total_ms=self.clock.elapsed_ms(),
            wire_bytes=sum(r.wire_bytes for r in rounds),
            total=Total.of(rounds),
            late=self.late,
            faults=self.faults,
            missing_pages=self.late.missing_pages if self.late is not None else 0,
            verify=self.verified,
            verify_ms=self.verified.duration_ms if self.verified is not None else 0.0,
            error=error,
            differences=differences,
        )


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _outcome(error: BaseException) -> tuple[Outcome, SourceState]:
    if isinstance(error, NotConvergedError):
        return Outcome.NOT_CONVERGED, SourceState.NOT_CONVERGED
    if isinstance(error, (CancelledError, KeyboardInterrupt)):
        return Outcome.CANCELLED, SourceState.CANCELLED
    return Outcome.FAILED, SourceState.FAILED

# SPDX-License-Identifier: Apache-2.0
"""The source's side of a live migration; docs/protocol.md draws it."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pymigrate._blackout import Blackout, Captured, limit_blackout
from pymigrate._clock import Stopwatch
from pymigrate._dial import Connector, Dialer
from pymigrate._engine import Push, RoundStats, SenderOptions
from pymigrate._flow import Flow
from pymigrate._following import Following, NeverRanError
from pymigrate._late_sending import LateSending
from pymigrate._link import Link
from pymigrate._outgoing import Outgoing
from pymigrate._preparation import Preparation, resend_stale
from pymigrate._rehearsal import RehearsalThread, costs_of, shortest
from pymigrate._resolve import Resolver, Verdict, VerdictKind, verdict_of
from pymigrate._rounds import Rounds
from pymigrate._verify import verify_pages
from pymigrate._wiring import Wiring
from pymigrate.addresses import Address
from pymigrate.errors import (
    InDoubtError,
    MigrateError,
    NotConvergedError,
    PeerFailedError,
    StepTimeoutError,
    StreamError,
)
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.policy import Action, Decision, PostCopy, SwitchoverCosts
from pymigrate.protocol import (
    Abort,
    Aborted,
    Commit,
    Done,
    EpochAck,
    Populated,
    Running,
    Status,
)
from pymigrate.report import Downtime, FaultReport, Guest, LateReport, Outcome, Report
from pymigrate.states import SOURCE_TRANSITIONS, SourceState

__all__ = ["Migration"]

# How long a failed source waits for the destination to read why.
FAREWELL_MS = 1000
# An epoch that was written may still fill buffers on the way: as long as
# they drain nobody has stalled, and the destination says when somebody has.
DRAIN_STALLS = 10
# 1 MiB: a round that hardly disturbs the rehearsal beside it.
QUIET_PAGES = 256
# The destination runs the guest, or is about to.
_GONE = (VerdictKind.RUNNING, VerdictKind.COMMITTED)


class Migration(Flow):
    """A live migration to a destination that answers."""

    def __init__(self, machine: Machine, target: Address | Connector, options: Options) -> None:
        super().__init__(machine, "", options, SOURCE_TRANSITIONS, options.n_channels)
        self._dialer = Dialer(target, options, self.session, self.trouble)
        self.peer = self._dialer.peer
        self._link: Link | None = None
        self._stop = threading.Event()
        self._closed = False
        self._may_be_prepared = False
        self._wiring = Wiring(self._dialer, options)
        self._following: Following | None = None

    @property
    def link(self) -> Link:
        assert self._link is not None
        return self._link

    def _go(self) -> None:
        self.check_throttle()
        self.out = Outgoing(self.machine, self.options.tracker, self.trouble)
        self.enter(SourceState.CONNECTING)
        self._link = self._dialer.link("control")
        self.enter(SourceState.HANDSHAKE)
        self._wiring.greet(self.link, self.machine)
        self.enter(SourceState.CHANNELS)
        with self._link.expecting(Populated):
            self._open_channels(self.out)
            self.enter(SourceState.PRECOPY)
            options = replace(self.options, policy=self._wiring.policy)
            self.rounds = Rounds(self.out, options, self.clock, self._acknowledge)
            self._hand_over(self.out, self.rounds)

    # ---- setting up ----------------------------------------------------

    def _how(self) -> SenderOptions:
        return self.sender_options(self._wiring.encodings, late=self.options.may_be_late)

    def _open_channels(self, out: Outgoing) -> None:
        channels = self._wiring.dial(self.link, out)
        out.start(channels, bytes.fromhex(self.session), self._how())
        self.tuner.attach(out.sender)
        out.sender.hint()
        # Later than this it may still come, and says nothing any more.
        with contextlib.suppress(StepTimeoutError):
            self.link.receive("allocating memory", self.options.head_start_ms, Populated)

    # ---- rounds --------------------------------------------------------

    def _acknowledge(self, stats: RoundStats) -> int:
        """:returns: pages that the destination asks for again."""
        step = f"waiting for epoch {stats.epoch} to arrive"
        limit_ms = DRAIN_STALLS * self.options.stall_timeout_ms
        ack = self.link.receive(step, limit_ms, EpochAck)
        assert self.out is not None
        return resend_stale(self.out, ack, stats, self.link)

    def _round(self, send: Callable[[], None]) -> None:
        """A round of which the destination says that it has it."""
        self.trouble.check()
        with self.link.expecting(EpochAck):
            send()
        self.link.ping()

    def _rehearsed_round(self, send: Callable[[], None]) -> SwitchoverCosts:
        """A round with a rehearsal beside it.

        :returns: the least that each part of a switchover has taken.
        """
        self.enter(SourceState.REHEARSING)
        limit_ms = self.options.rehearsal_timeout_ms
        thread = RehearsalThread(self.guest, self.link, self.trouble, limit_ms)
        try:
            self._round(send)
        except MigrateError as error:
            self.trouble.report(error)
            raise
        finally:
            rehearsal = thread.join()
        self.trouble.check()
        assert rehearsal is not None
        self.rehearsal = shortest(self.rehearsal, rehearsal)
        self.enter(SourceState.PRECOPY)
        return costs_of(self.rehearsal)

    def _hand_over(self, out: Outgoing, rounds: Rounds) -> None:
        blackout = Blackout(self.guest, out, rounds, self.track, self._wiring.policy)
        leaving = self._send_rounds(blackout, out, rounds)
        if leaving is not None:
            self._leave(leaving, blackout, out, rounds)

    def _send_rounds(self, blackout: Blackout, out: Outgoing, rounds: Rounds) -> Decision | None:
        """Until the guest was handed over, or is to go ahead of its pages.

        A rehearsal is repeated if pages flowed so much beside it that the
        times say more about them than about the blackout.
        """
        if self._wiring.policy.post_copy is PostCopy.NOW:
            return Decision(Action.POST_COPY, 0.0, 0.0, "as asked for, before any round")
        costs: SwitchoverCosts | None = None
        self._round(rounds.fuzzy)
        while True:
            decision = rounds.decide(costs)
            self._obey(decision, rounds)
            if decision.action is Action.POST_COPY:
                return decision
            if decision.action is Action.SWITCH and costs is not None:
                capture = partial(blackout.capture, costs)
                if self._switch(capture, out, rounds):
                    return None
            costs = self._next_round(rounds, costs)

    def _next_round(self, rounds: Rounds, costs: SwitchoverCosts | None) -> SwitchoverCosts | None:
        """:returns: what the switchover costs; None as long as that is not known."""
        if costs is None:
            costs = self._rehearsed_round(lambda: rounds.fuzzy(disturbed=True))
            quiet = rounds.history[-1].sent_pages <= QUIET_PAGES
            again = self.rehearsal is not None and self.rehearsal.repetitions > 1
            return costs if quiet or again else None
        if costs.fixed_ms > 0.5 * self.options.policy.downtime_limit_ms:
            # Sending pages does not help: perhaps the times were unlucky.
            return self._rehearsed_round(lambda: rounds.fuzzy(disturbed=True))
        self._round(rounds.fuzzy)
        return costs

    def _obey(self, decision: Decision, rounds: Rounds) -> None:
        """:raises NotConvergedError: the policy gives up."""
        try:
            self.obey(decision, rounds)
        except NotConvergedError as error:
            if not self._wiring.late_reason:
                raise
            words = f"{error}; and post-copy is not possible: {self._wiring.late_reason}"
            raise NotConvergedError(words) from None

    # ---- the switchover without the pages ------------------------------

    def _leave(self, decision: Decision, blackout: Blackout, out: Outgoing, rounds: Rounds) -> None:
        """The guest goes ahead, and the pages that are left follow it."""
        rounds.leave_because(decision)
        costs = self._rehearsed_round(rounds.name_outstanding)
        if rounds.outstanding_pages > QUIET_PAGES:
            # The destination took them all away meanwhile: the times say more about that.
            costs = self._rehearsed_round(rounds.name_outstanding)
        # What was written since, and how long naming it takes.
        self._round(rounds.name_outstanding)
        self.predicted_downtime_ms = rounds.leave_ms(costs)
        self._following = Following(
            self._dialer,
            out,
            rounds,
            self.track,
            self._reconnect,
            self._stop,
            decision.reason,
        )
        self._switch(blackout.leave, out, rounds)

    def _reconnect(self, link: Link, attempt: int, missing: bytes) -> LateSending:
        """Channels for another attempt to send these pages."""
        assert self.out is not None
        channels = self._wiring.dial(link, self.out, attempt)
        self.out.restart(channels, bytes.fromhex(self.session), self._how())
        self.tuner.attach(self.out.sender)
        self.out.sender.owe(missing)
        return LateSending(self.out.sender, self._dialer.trouble)

    def _follow(self) -> None:
        """Until the last page has arrived, if any was left behind."""
        following = self._following
        if following is None:
            return
        try:
            following.run()
        except NeverRanError:
            self.track.to(SourceState.RESOLVING)
            self.may_resume = True
            raise
        self._link = following.link
        self.track.to(SourceState.COMPLETED)

    def recover(self, target: Address | Connector | None) -> Report:
        """Try again, from the state INCOMPLETE."""
        assert self._following is not None
        if not self._closed:
            self._stop.clear()
        self._following.lose()
        self._following.retarget(target)
        return self._go_on(self._follow)

    @property
    def follows(self) -> bool:
        """Pages were left behind, or are about to be. Any thread."""
        return self._following is not None

    def retarget(self, target: Address | Connector) -> None:
        """Where the destination is to be looked for from now on. Any thread."""
        assert self._following is not None
        self._following.retarget(target)

    def owed_pages(self) -> int | None:
        """Outstanding pages that were not sent yet; any thread."""
        return self._following.progress() if self._following is not None else None

    def _is_owed(self) -> bool:
        unsettled = (SourceState.INCOMPLETE, SourceState.IN_DOUBT)
        left = self._following is not None and self.track.state in unsettled
        return left and not self._closed

    @property
    def late(self) -> LateReport | None:
        return self._following.report if self._following is not None else None

    @property
    def faults(self) -> FaultReport | None:
        return self._following.faults if self._following is not None else None

    # ---- the switchover ------------------------------------------------

    def _switch(
        self, capture: Callable[[], Captured | None], out: Outgoing, rounds: Rounds
    ) -> bool:
        """False when pausing was taken back."""
        self.trouble.check()
        limit_ms, late = self.options.prepare_timeout_ms, self._following is not None
        timer = limit_blackout(self.trouble, limit_ms)
        try:
            captured = capture()
            if captured is None:
                return False
            watch = Stopwatch()
            self._may_be_prepared = True
            begin_late = partial(self._begin_late, out, rounds, captured) if late else None
            preparation = Preparation(self.link, out, rounds, self.enter, limit_ms, begin_late)
            load_ms = preparation.run(captured.stats)
            prepare_ms = watch.elapsed_ms()
        finally:
            timer.cancel()
        self.enter(SourceState.PREPARED)
        if self.options.verify:
            self._verify()
        watch = Stopwatch()
        resume_ms = self._commit()
        commit_ms = watch.elapsed_ms()
        self.downtime = _downtime(captured, prepare_ms, load_ms, commit_ms, resume_ms)
        _record(rounds, captured, preparation, late)
        self._follow()
        self._farewell()
        return True

    def _begin_late(self, out: Outgoing, rounds: Rounds, captured: Captured) -> None:
        """Loading the state may need pages: they can be asked for from now on.

        The others wait until the guest runs: both ends need their processors
        for the switchover.
        """
        assert self._following is not None
        pages = rounds.outstanding_pages + captured.stats.outstanding_pages
        sending = LateSending(out.sender, self.trouble, Push.NONE)
        self._following.begin(self.link, sending, pages)

    def _verify(self) -> None:
        self.enter(SourceState.VERIFYING)
        self.verified, where = verify_pages(
            self.machine.memory(), self.link, self.options.verify_timeout_ms
        )
        if self.verified.mismatches:
            raise StreamError(
                -errno.EBADMSG,
                f"verifying: {self.verified.mismatches} of {self.verified.pages} pages differ, "
                f"the first in {where}",
            )

    def _commit(self) -> float:
        """Past this, only the destination's word lets the source resume.

        :returns: how long resuming took at the destination, ms.
        """
        self.trouble.seal()
        self.may_resume = False
        try:
            self.track.to(SourceState.COMMITTING)
            self.link.send(Commit())
            answer = self.link.receive(
                "committing", self.options.commit_timeout_ms, Running, Aborted, Status
            )
        except Exception as error:
            return self._resolve(str(error))
        if isinstance(answer, Running):
            late = self._following is not None
            self.track.to(SourceState.POSTCOPY if late else SourceState.COMPLETED)
            return answer.resume_ms
        self.track.to(SourceState.RESOLVING)
        if isinstance(answer, Aborted):
            return self._accept(Verdict(VerdictKind.ABORTED, answer.reason))
        assert isinstance(answer, Status)
        return self._accept(verdict_of(answer))

    def _farewell(self) -> None:
        # The guest runs elsewhere: nothing here can fail the migration now.
        assert self.out is not None
        if self._link is None:
            return
        with contextlib.suppress(MigrateError):
            self.out.sender.end()
        with contextlib.suppress(MigrateError):
            self._link.send(Done())
        self._link.close(FAREWELL_MS)

    # ---- in doubt ------------------------------------------------------

    def _resolve(self, reason: str, abort: bool = False) -> float:
        self.track.to(SourceState.RESOLVING)
        verdict = Resolver(self._dialer, self._stop).ask(abort)
        if verdict.kind is VerdictKind.UNKNOWN:
            reason = f"{reason}; then: {verdict.reason}"
            verdict = Verdict(VerdictKind.UNKNOWN, reason)
        return self._accept(verdict)

    def _accept(self, verdict: Verdict) -> float:
        if self._following is not None and verdict.kind in _GONE:
            self._following.lose()
            self.track.to(SourceState.RECOVERING)
            return verdict.resume_ms
        if verdict.kind is VerdictKind.RUNNING:
            self.track.to(SourceState.COMPLETED)
            return verdict.resume_ms
        if verdict.kind is VerdictKind.ABORTED:
            self.may_resume = True
            raise PeerFailedError(f"{self.peer} did not run the guest: {verdict.reason}")
        raise InDoubtError(
            f"in doubt: {self.peer} was told to run the guest, and whether it does is not "
            f"known; the guest stays paused here ({verdict.reason})"
        )

    def resolve(self, abort: bool) -> Report:
        """Ask again, from the state IN_DOUBT."""

        def ask() -> None:
            self._resolve("asked again", abort)
            self._follow()

        return self._go_on(ask)

    def _go_on(self, what: Callable[[], None]) -> Report:
        """Something that was left open is to be finished."""
        try:
            what()
            if self._following is not None:
                self._farewell()
        except Exception as error:
            return self._end_badly(error)
        finally:
            self.release()
        return self.report(Outcome.COMPLETED, Guest.DESTINATION)

    def stop(self) -> None:
        """End a resolve, or a recovery, that is under way, and allow no other."""
        self._closed = True
        self._stop.set()

    # ---- the end -------------------------------------------------------

    def _abandon(self, error: BaseException) -> None:
        if self.out is not None and self.rounds is not None:
            self.out.sender.cancel()
        if self._link is None:
            return
        try:
            self._link.send(Abort(reason=str(error) or type(error).__name__))
        except MigrateError:
            self._abort_anew()
        self._link.close(FAREWELL_MS)

    def _abort_anew(self) -> None:
        """The link is lost: a prepared destination would wait for a word."""
        if self._may_be_prepared and self.track.state is SourceState.ROLLING_BACK:
            Resolver(self._dialer.hurried(FAREWELL_MS), self._stop).ask(abort=True)

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()


def _record(rounds: Rounds, captured: Captured, preparation: Preparation, late: bool) -> None:
    """Add the sealed rounds to the reports."""
    if late:
        rounds.record_left(captured.stats, captured.round_ms)
        return
    sealed = [(captured.stats, captured.round_ms), *preparation.repairs]
    for (stats, round_ms), asked in zip(sealed, [*preparation.asked_pages, 0], strict=True):
        rounds.record_sealed(stats, round_ms, asked)


def _downtime(
    captured: Captured, prepare_ms: float, load_ms: float, commit_ms: float, resume_ms: float
) -> Downtime:
    """Split the blackout; loading and resuming were timed by the peer."""
    load_ms, resume_ms = min(load_ms, prepare_ms), min(resume_ms, commit_ms)
    quiesce_ms = captured.quiesce_ms
    round_ms = captured.round_ms + prepare_ms - load_ms
    state_ms = captured.capture_ms + load_ms
    commit_ms -= resume_ms
    return Downtime(
        total_ms=quiesce_ms + round_ms + state_ms + commit_ms + resume_ms,
        quiesce_ms=quiesce_ms,
        final_round_ms=round_ms,
        state_ms=state_ms,
        commit_ms=commit_ms,
        resume_ms=resume_ms,
    )

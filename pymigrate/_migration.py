# SPDX-License-Identifier: Apache-2.0
"""The source's side of a live migration; docs/protocol.md draws it."""

from __future__ import annotations

import contextlib
import errno
import threading

from pymigrate._blackout import Blackout, Captured
from pymigrate._clock import Stopwatch
from pymigrate._dial import Connector, Dialer
from pymigrate._engine import Channel, RoundStats, lib
from pymigrate._flow import Flow
from pymigrate._guest import hook
from pymigrate._link import Link
from pymigrate._outgoing import Outgoing
from pymigrate._preparation import Preparation, resend_stale
from pymigrate._rehearsal import RehearsalThread, costs_of, shortest
from pymigrate._resolve import Resolver, Verdict, VerdictKind
from pymigrate._rounds import Rounds
from pymigrate._verify import verify_pages
from pymigrate.addresses import Address
from pymigrate.errors import (
    InDoubtError,
    MigrateError,
    PeerFailedError,
    RefusedError,
    StepTimeoutError,
    StreamError,
)
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.policy import Action, SwitchoverCosts
from pymigrate.protocol import (
    Abort,
    Aborted,
    Accept,
    Commit,
    Describe,
    Done,
    EpochAck,
    Populated,
    Ready,
    Refuse,
    Running,
    Status,
)
from pymigrate.report import Downtime, Guest, Outcome, Report
from pymigrate.states import SOURCE_TRANSITIONS, SourceState

__all__ = ["Migration"]

# How long a failed source waits for the destination to read why.
FAREWELL_MS = 1000
# An epoch that was written may still fill buffers on the way: as long as
# they drain nobody has stalled, and the destination says when somebody has.
DRAIN_STALLS = 10
# 1 MiB: a round that hardly disturbs the rehearsal beside it.
QUIET_PAGES = 256


class Migration(Flow):
    """A live migration to a destination that answers."""

    def __init__(self, machine: Machine, target: Address | Connector, options: Options) -> None:
        super().__init__(machine, "", options, SOURCE_TRANSITIONS, options.n_channels)
        self._dialer = Dialer(target, options, self.session, self.trouble)
        self.peer = self._dialer.peer
        self._link: Link | None = None
        self._stop = threading.Event()
        self._may_be_prepared = False
        self._encodings = 0

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
        self._handshake()
        self.enter(SourceState.CHANNELS)
        with self._link.expecting(Populated):
            self._open_channels(self.out)
            self.enter(SourceState.PRECOPY)
            self.rounds = Rounds(self.out, self.options, self.clock, self._acknowledge)
            self._hand_over(self.out, self.rounds)

    # ---- setting up ----------------------------------------------------

    def _handshake(self) -> None:
        description = hook("describing the machine", self.machine.describe)
        self.link.send(
            Describe(
                description=description,
                channels=self.options.n_channels,
                stream_major=lib.PMIG_STREAM_VERSION_MAJOR,
                stream_minor=lib.PMIG_STREAM_VERSION_MINOR,
            )
        )
        answer = self.link.receive(
            "waiting to be accepted", self.options.handshake_timeout_ms, Accept, Refuse
        )
        if isinstance(answer, Refuse):
            raise RefusedError(answer.differences)
        assert isinstance(answer, Accept)
        self._dialer.token = answer.token
        # Raw is understood by everybody.
        self._encodings = answer.encodings | 1 << lib.PMIG_ENCODING_RAW
        self.link.ping()

    def _open_channels(self, out: Outgoing) -> None:
        channels = []
        for index in range(self.options.n_channels):
            sock = self._dialer.data(index)
            out.own(sock)
            channels.append(Channel.from_socket(sock))
        self.link.receive("opening the data channels", self.options.handshake_timeout_ms, Ready)
        out.start(channels, bytes.fromhex(self.session), self.sender_options(self._encodings))
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

    def _round(self, rounds: Rounds, disturbed: bool = False) -> None:
        self.trouble.check()
        with self.link.expecting(EpochAck):
            rounds.fuzzy(disturbed)
        self.link.ping()

    def _rehearsed_round(self, rounds: Rounds) -> None:
        """A round with a rehearsal beside it."""
        self.enter(SourceState.REHEARSING)
        limit_ms = self.options.rehearsal_timeout_ms
        thread = RehearsalThread(self.guest, self.link, self.trouble, limit_ms)
        try:
            self._round(rounds, disturbed=True)
        except MigrateError as error:
            self.trouble.report(error)
            raise
        finally:
            rehearsal = thread.join()
        self.trouble.check()
        assert rehearsal is not None
        self.rehearsal = shortest(self.rehearsal, rehearsal)
        self.enter(SourceState.PRECOPY)

    def _rehearse(self, rounds: Rounds) -> SwitchoverCosts:
        """Rehearse while pages flow; again if they flowed so much that the
        times say more about them than about the blackout.
        """
        self._rehearsed_round(rounds)
        if rounds.history[-1].sent_pages > QUIET_PAGES:
            self.obey(rounds.decide(None), rounds)
            self._rehearsed_round(rounds)
        assert self.rehearsal is not None
        return costs_of(self.rehearsal)

    def _hand_over(self, out: Outgoing, rounds: Rounds) -> None:
        self._round(rounds)
        self.obey(rounds.decide(None), rounds)
        costs = self._rehearse(rounds)
        blackout = Blackout(self.guest, out, rounds, self.track, self.trouble, self.options.policy)
        while True:
            decision = rounds.decide(costs)
            self.obey(decision, rounds)
            if decision.action is Action.SWITCH and self._switch(blackout, out, rounds, costs):
                return
            if costs.fixed_ms > 0.5 * self.options.policy.downtime_limit_ms:
                # Sending pages does not help: perhaps the times were unlucky.
                self._rehearsed_round(rounds)
                assert self.rehearsal is not None
                costs = costs_of(self.rehearsal)
            else:
                self._round(rounds)

    # ---- the switchover ------------------------------------------------

    def _switch(
        self, blackout: Blackout, out: Outgoing, rounds: Rounds, costs: SwitchoverCosts
    ) -> bool:
        """False when pausing was taken back."""
        self.trouble.check()
        timer = blackout.limit(self.options.prepare_timeout_ms)
        try:
            captured = blackout.capture(costs)
            if captured is None:
                return False
            watch = Stopwatch()
            self._may_be_prepared = True
            limit_ms = self.options.prepare_timeout_ms
            preparation = Preparation(self.link, out, rounds, self.enter, limit_ms)
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
        sealed = [(captured.stats, captured.round_ms), *preparation.repairs]
        for (stats, round_ms), asked in zip(sealed, [*preparation.asked_pages, 0], strict=True):
            rounds.record_sealed(stats, round_ms, asked)
        self._farewell()
        return True

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
            self.track.to(SourceState.COMPLETED)
            return answer.resume_ms
        self.track.to(SourceState.RESOLVING)
        if isinstance(answer, Aborted):
            return self._accept(Verdict(VerdictKind.ABORTED, answer.reason))
        assert isinstance(answer, Status)
        return self._accept(Verdict(VerdictKind.UNKNOWN, f"{answer.state}: {answer.reason}"))

    def _farewell(self) -> None:
        # The guest runs elsewhere: nothing here can fail the migration now.
        assert self.out is not None
        with contextlib.suppress(MigrateError):
            self.out.sender.end()
        with contextlib.suppress(MigrateError):
            self.link.send(Done())
        self.link.close(FAREWELL_MS)

    # ---- in doubt ------------------------------------------------------

    def _resolve(self, reason: str, abort: bool = False) -> float:
        self.track.to(SourceState.RESOLVING)
        verdict = Resolver(self._dialer, self._stop).ask(abort)
        if verdict.kind is VerdictKind.UNKNOWN:
            reason = f"{reason}; then: {verdict.reason}"
            verdict = Verdict(VerdictKind.UNKNOWN, reason)
        return self._accept(verdict)

    def _accept(self, verdict: Verdict) -> float:
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
        try:
            self._resolve("asked again", abort)
        except Exception as error:
            return self._end_badly(error)
        return self.report(Outcome.COMPLETED, Guest.DESTINATION)

    def stop(self) -> None:
        """End a resolve that is under way."""
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

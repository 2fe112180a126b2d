# SPDX-License-Identifier: Apache-2.0
"""Sending a machine to where nobody answers: a file, or the null sink.

A file holds the machine afterwards: it is complete and on stable storage
before the migration counts as done, and the guest stays paused here. What
goes to the null sink is gone, so the guest goes on at the source.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace

from pymigrate._blackout import Blackout
from pymigrate._clock import Stopwatch
from pymigrate._engine import Channel, FrameType
from pymigrate._flow import Flow
from pymigrate._guest import hook
from pymigrate._outgoing import Outgoing
from pymigrate._rounds import Rounds
from pymigrate.addresses import Address, Scheme
from pymigrate.errors import AddressError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.policy import Action, PostCopy, SwitchoverCosts
from pymigrate.report import Downtime, Guest
from pymigrate.states import FILE_TRANSITIONS, SourceState

__all__ = ["Recording"]


class Recording(Flow):
    """A machine sent to ``file:path`` or ``null:``."""

    def __init__(self, machine: Machine, target: Address, options: Options) -> None:
        super().__init__(machine, str(target), _without_post_copy(options), FILE_TRANSITIONS, 1)
        self._wanted = options.policy.post_copy
        self._target = target
        self._fd = -1
        self._complete = False

    def _owner(self) -> Guest:
        return Guest.FILE if self._target.scheme is Scheme.FILE else Guest.SOURCE

    def _go(self) -> None:
        self.check_throttle()
        if self._wanted not in (PostCopy.NEVER, PostCopy.AUTO):
            raise AddressError(
                f"{self._target}: post-copy takes a destination that runs the guest "
                "and asks for its pages"
            )
        self.out = Outgoing(self.machine, self.options.tracker, self.trouble)
        self.enter(SourceState.CONNECTING)
        channel = self._open()
        # What could not be built from it, nobody could ask for.
        how = self.sender_options(one_way=True)
        self.out.start([channel], bytes.fromhex(self.session), how)
        self.tuner.attach(self.out.sender)
        description = hook("describing the machine", self.machine.describe)
        self.out.sender.put(FrameType.CONFIG, json.dumps(description).encode())
        self.enter(SourceState.PRECOPY)
        self.rounds = Rounds(self.out, self.options, self.clock, None)
        self._record(self.out, self.rounds)

    def _open(self) -> Channel:
        if self._target.scheme is Scheme.NULL:
            return Channel.null()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._target.path, flags, 0o600)
        except OSError as error:
            raise AddressError(f"{self._target}: {error.strerror}") from error
        return Channel.from_file(self._fd)

    def _record(self, out: Outgoing, rounds: Rounds) -> None:
        # Nothing is loaded here, so there is nothing to rehearse.
        costs = SwitchoverCosts()
        blackout = Blackout(self.guest, out, rounds, self.track, self.options.policy)
        while True:
            self.trouble.check()
            rounds.fuzzy()
            decision = rounds.decide(costs)
            self.obey(decision, rounds)
            if decision.action is Action.SWITCH and self._seal(blackout, out, rounds, costs):
                return

    def _seal(
        self, blackout: Blackout, out: Outgoing, rounds: Rounds, costs: SwitchoverCosts
    ) -> bool:
        captured = blackout.capture(costs)
        if captured is None:
            return False
        watch = Stopwatch()
        out.sender.end()
        if self._fd >= 0:
            os.fsync(self._fd)
        end_ms = watch.elapsed_ms()
        self.trouble.seal()
        self._complete = True
        resume_ms = self.guest.resume() if self._target.scheme is Scheme.NULL else 0.0
        self.may_resume = False
        self.track.to(SourceState.COMPLETED)
        self.downtime = Downtime(
            total_ms=captured.quiesce_ms
            + captured.capture_ms
            + captured.round_ms
            + end_ms
            + resume_ms,
            quiesce_ms=captured.quiesce_ms,
            final_round_ms=captured.round_ms,
            state_ms=captured.capture_ms,
            commit_ms=end_ms,
            resume_ms=resume_ms,
        )
        rounds.record_sealed(captured.stats, captured.round_ms)
        return True

    def _abandon(self, error: BaseException) -> None:
        # Half a machine is of no use, and in the way of the next attempt.
        if self._fd >= 0 and not self._complete:
            with contextlib.suppress(OSError):
                os.unlink(self._target.path)

    def _close(self) -> None:
        if self.out is not None:
            self.out.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _without_post_copy(options: Options) -> Options:
    """A policy that may leave pages behind has no chance to, here."""
    return replace(options, policy=replace(options.policy, post_copy=PostCopy.NEVER))

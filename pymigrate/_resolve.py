# SPDX-License-Identifier: Apache-2.0
"""The in-doubt case: COMMIT may or may not have reached the destination.

The source may not run the guest, so it asks, on new connections, until it
has an answer that cannot change any more. A destination that is prepared has
not seen COMMIT: it is told again, or told to abort where the operator wants
that; either is decided at the destination, once.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import Enum

from pymigrate._dial import Dialer
from pymigrate._link import Link
from pymigrate._trouble import Trouble
from pymigrate.errors import MigrateError
from pymigrate.protocol import Abort, Aborted, Commit, Done, Query, Running, Status

__all__ = ["Resolver", "Verdict", "VerdictKind", "verdict_of"]

RETRY_S = 0.2


class VerdictKind(Enum):
    RUNNING = "running"  # at the destination
    COMMITTED = "committed"  # the destination is about to run it
    ABORTED = "aborted"  # the destination never ran it and never will
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """What could be found out."""

    kind: VerdictKind
    reason: str = ""
    resume_ms: float = 0.0


class Resolver:
    """Asks the destination of one session.

    :param stop: ends the asking early.
    """

    def __init__(self, dialer: Dialer, stop: threading.Event) -> None:
        self._dialer, self._options, self._stop = dialer, dialer.options, stop

    def ask(self, abort: bool = False) -> Verdict:
        """Ask until there is an answer, or resolve_timeout_ms have passed.

        :param abort: where nothing is decided yet, decide against running.
        """
        deadline = time.monotonic() + self._options.resolve_timeout_ms / 1000
        while True:
            try:
                return self._ask_once(abort)
            except MigrateError as error:
                reason = str(error)
            if time.monotonic() >= deadline or self._stop.wait(RETRY_S):
                return Verdict(VerdictKind.UNKNOWN, reason)

    def _ask_once(self, abort: bool) -> Verdict:
        # What went wrong before must not keep us from asking.
        self._dialer.renew(Trouble())
        link = self._dialer.link("query")
        try:
            link.send(Query())
            status = link.receive("asking about the commit", self._limit_ms, Status)
            undecided = ("prepared", "preparing") if abort else ("prepared",)
            if status.state in undecided:
                return self._decide(link, abort)
            return _verdict(link, status)
        finally:
            link.close()

    def _decide(self, link: Link, abort: bool) -> Verdict:
        link.send(Abort(reason="the source's operator asked for it") if abort else Commit())
        answer = link.receive("deciding", self._limit_ms, Running, Aborted, Status)
        if isinstance(answer, Running):
            link.send(Done())
            return Verdict(VerdictKind.RUNNING, resume_ms=answer.resume_ms)
        if isinstance(answer, Aborted):
            return Verdict(VerdictKind.ABORTED, answer.reason)
        assert isinstance(answer, Status)
        return _verdict(link, answer)

    @property
    def _limit_ms(self) -> int:
        return self._options.commit_timeout_ms


def _verdict(link: Link, status: Status) -> Verdict:
    verdict = verdict_of(status)
    if verdict.kind is VerdictKind.RUNNING:
        link.send(Done())
    return verdict


def verdict_of(status: Status) -> Verdict:
    """What an answer means."""
    if status.state == "running":
        return Verdict(VerdictKind.RUNNING)
    if status.state == "aborted":
        return Verdict(VerdictKind.ABORTED, status.reason)
    if status.state == "committed":
        return Verdict(VerdictKind.COMMITTED, "the destination says 'committed'")
    words = {
        "unknown": "the destination knows nothing of this session",
        "broken": "the destination could not resume the guest and cannot undo it",
    }
    reason = words.get(status.state, f"the destination says {status.state!r}")
    return Verdict(VerdictKind.UNKNOWN, f"{reason}: {status.reason}".rstrip(": "))

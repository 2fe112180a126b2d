# SPDX-License-Identifier: Apache-2.0
"""The source after a switchover that left pages behind.

Theory of operation. The engine pushes and answers by itself; here it is
watched. Whatever breaks, a data channel or the control connection, all of
them are given up and made anew: the destination alone knows which pages have
arrived, and says so with each new set. That is repeated until no page is
missing, for as long as the options allow, and again whenever somebody asks.
The guest's memory stays here, paused and whole, until then.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pymigrate._clock import Stopwatch
from pymigrate._dial import Connector, Dialer
from pymigrate._engine import unpack_bitmap
from pymigrate._late_sending import LateSending
from pymigrate._link import Link
from pymigrate._outgoing import Outgoing
from pymigrate._rounds import Rounds
from pymigrate._trouble import Trouble
from pymigrate.addresses import Address
from pymigrate.errors import (
    IncompleteError,
    MigrateError,
    PeerFailedError,
    ProtocolError,
)
from pymigrate.protocol import Arrived, Done, Missing, Status
from pymigrate.report import FaultReport, LateReport
from pymigrate.states import SourceState, StateTrack

__all__ = ["Following", "NeverRanError"]

RETRY_S = 0.2
# The last word of the destination, which nothing depends on.
FIGURES_MS = 2000


class NeverRanError(PeerFailedError):
    """The destination says that it did not run the guest after all."""


@dataclass(frozen=True)
class Connection:
    """One set of connections, and what is sent on them."""

    link: Link
    sending: LateSending


class Following:
    """Follows the guest with its pages.

    :param connect: opens the data channels of a new set, with the number of
        the attempt, and makes a sender that owes these pages.
    :param stop: ends the waiting for a destination that is out of reach.
    """

    def __init__(
        self,
        dialer: Dialer,
        out: Outgoing,
        rounds: Rounds,
        track: StateTrack[SourceState],
        connect: Callable[[Link, int, bytes], LateSending],
        stop: threading.Event,
        reason: str,
    ) -> None:
        self._dialer, self._out, self._rounds = dialer, out, rounds
        self._track, self._connect, self._stop = track, connect, stop
        self._connection: Connection | None = None
        self._watch = Stopwatch()
        self._trouble = Trouble()
        self._complete = False
        self.report = LateReport(reason=reason)
        self.faults: FaultReport | None = None

    @property
    def link(self) -> Link | None:
        """The control connection, while there is one."""
        return self._connection.link if self._connection is not None else None

    @property
    def missing_pages(self) -> int:
        """As far as is known here. Any thread."""
        return self.report.missing_pages

    def begin(self, link: Link, sending: LateSending, pages: int) -> None:
        """The guest may run there; so many pages are outstanding."""
        self._watch = Stopwatch()
        self.report = replace(self.report, outstanding_pages=pages, missing_pages=pages)
        self._hold(link, sending)

    def _hold(self, link: Link, sending: LateSending) -> None:
        self._connection = Connection(link, sending)
        link.watch(lambda _error: sending.cancel())

    def lose(self) -> None:
        """Give up the connections: they failed, or are not trusted."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.sending.cancel()
        connection.sending.wait()
        self._count(connection.sending)
        connection.link.close()
        self._out.drop_sender()

    def retarget(self, target: Address | Connector | None) -> None:
        """Where the destination is to be looked for from now on."""
        if target is not None:
            self._dialer.target = target

    # ---- until the last page -------------------------------------------

    def run(self) -> None:
        """The guest runs there; return when the last page has arrived.

        :raises IncompleteError: the destination is out of reach.
        :raises NeverRanError: the guest may go on here.
        """
        if self._connection is not None:
            self._connection.sending.push_all()
        while not self._complete and not self._sent():
            self._recover()
        self.report = replace(self.report, missing_pages=0, duration_ms=self._watch.elapsed_ms())

    def _sent(self) -> bool:
        """Wait until the sending is over; did it bring everything?"""
        connection = self._connection
        if connection is None:
            return False
        connection.sending.wait()
        if connection.sending.error is not None:
            self.lose()
            return False
        self._count(connection.sending)
        self._take_figures(connection.link)
        return True

    def _count(self, sending: LateSending) -> None:
        if sending.figures is None:
            return
        stats, late = sending.figures
        self._rounds.record_late(stats)
        before = self.report
        self.report = replace(
            before,
            sent_pages=before.sent_pages + stats.sent_pages,
            wire_bytes=before.wire_bytes + stats.wire_bytes,
            requests=before.requests + late.requests,
            answered_pages=before.answered_pages + late.answered_pages,
            neighbour_pages=before.neighbour_pages + late.neighbour_pages,
            refused_pages=before.refused_pages + late.refused_pages,
        )

    def _take_figures(self, link: Link) -> None:
        """What the waiting cost; nothing is lost if that cannot be had."""
        with contextlib.suppress(MigrateError, ValueError):
            arrived = link.receive("waiting for the last word", FIGURES_MS, Arrived)
            self.faults = FaultReport.of(arrived.figures)

    # ---- recovery ------------------------------------------------------

    def _recover(self) -> None:
        """New connections, or no need for them any more."""
        if self._track.state is not SourceState.RECOVERING:
            self._track.to(SourceState.RECOVERING, strict=False)
        watch = Stopwatch()
        limit_s = self._dialer.options.recover_timeout_ms / 1000
        deadline = time.monotonic() + limit_s
        try:
            while (reason := self._try()) is not None:
                stopped = self._stop.is_set()
                if stopped or time.monotonic() >= deadline or self._stop.wait(RETRY_S):
                    raise IncompleteError(self._words(reason, limit_s))
        finally:
            self.report = replace(
                self.report, recovering_ms=self.report.recovering_ms + watch.elapsed_ms()
            )
        self.report = replace(self.report, recoveries=self.report.recoveries + 1)
        if not self._complete:
            self._track.to(SourceState.POSTCOPY, strict=False)

    def _words(self, reason: str, limit_s: float) -> str:
        how = "waiting was ended" if self._stop.is_set() else f"tried for {limit_s:g} s"
        return (
            f"{self._dialer.peer} runs the guest, is out of reach, and had "
            f"{self.report.missing_pages} pages missing when last heard of; they are kept here, "
            f"and the guest stays paused here ({how}; {reason})"
        )

    def _try(self) -> str | None:
        """One attempt; why it failed, if it did."""
        self._trouble = Trouble()
        self._dialer.renew(self._trouble)
        link: Link | None = None
        try:
            link = self._dialer.link("recover")
            self._resume(link)
            return None
        except NeverRanError:
            raise
        except MigrateError as error:
            if link is not None:
                link.close()
            self._out.drop_sender()
            return str(self._trouble.error or error)

    def _resume(self, link: Link) -> None:
        limit_ms = self._dialer.options.handshake_timeout_ms
        answer = link.receive("recovering", limit_ms, Missing, Status)
        if isinstance(answer, Status):
            raise _refusal(link, answer)
        assert isinstance(answer, Missing)
        self.report = replace(self.report, missing_pages=answer.pages)
        if not answer.pages:
            # The last word was lost, not the pages.
            self._complete = True
            link.send(Done())
            link.close(FIGURES_MS)
            return
        try:
            words = unpack_bitmap(answer.body, self._out.memory.blocks)
        except ValueError as error:
            raise ProtocolError(f"recovering: {link.peer} sent {error}") from None
        self._hold(link, self._connect(link, answer.attempt, words))

    def progress(self) -> int | None:
        """Pages that are still to be sent; None while there is no connection."""
        connection = self._connection
        return None if connection is None else self._out.owed_pages()


def _refusal(link: Link, status: Status) -> MigrateError:
    if status.state == "aborted":
        return NeverRanError(f"{link.peer} did not run the guest: {status.reason}")
    return PeerFailedError(f"{link.peer} says {status.state!r} {status.reason}".rstrip())

# SPDX-License-Identifier: Apache-2.0
"""From the sealed epoch to PREPARED; sends pages again that came out wrong.

A page that was sent as what changed since, or as a copy of another, can turn
out not to match its hash at the destination: it is stale and has to be sent
again, by an encoding that rests on nothing. Between rounds that is a part of
the next one. Of the sealed epoch it takes a further one, while the guest
stays paused.
"""

from __future__ import annotations

from collections.abc import Callable

from pymigrate._clock import Stopwatch
from pymigrate._engine import EpochKind, RoundStats
from pymigrate._link import Link
from pymigrate._outgoing import Outgoing
from pymigrate._rounds import Rounds
from pymigrate._stale import unpack_stale
from pymigrate.errors import EngineError, ProtocolError
from pymigrate.protocol import EpochAck, Prepare, Prepared
from pymigrate.states import SourceState

__all__ = ["MAX_REPAIRS", "Preparation", "resend_stale"]

# What is sent again rests on nothing: once is enough, unless something is
# wrong that sending cannot cure.
MAX_REPAIRS = 3


def resend_stale(out: Outgoing, ack: EpochAck, stats: RoundStats, link: Link) -> int:
    """Check the answer to an epoch; its stale pages are pending afterwards.

    :returns: how many there are.
    :raises ProtocolError: the answer is of another epoch, or malformed.
    """
    expected = (stats.epoch, stats.kind.name.lower(), f"{stats.digest:016x}")
    if (ack.epoch, ack.kind, ack.digest) != expected:
        raise ProtocolError(
            f"waiting for epoch {stats.epoch} to arrive: {link.peer} has another epoch or digest"
        )
    stale = unpack_stale(ack.body, ack.stale_pages, out.memory.blocks)
    try:
        out.sender.resend(stale)
    except EngineError as error:
        raise ProtocolError(f"{link.peer} asks for what cannot be sent: {error}") from error
    return ack.stale_pages


class Preparation:
    """Makes the destination ready to run what was captured.

    :param enter: the next state of the source, unless there is trouble.
    :param limit_ms: for each answer.
    :param begin_late: begins to send the pages that were left behind; None:
        there are none. Called once PREPARE is on its way, which need not
        queue behind them then.
    :ivar repairs: further sealed rounds, each with how long it took, ms.
    :ivar asked_pages: how many were asked for before each of them.
    """

    def __init__(
        self,
        link: Link,
        out: Outgoing,
        rounds: Rounds,
        enter: Callable[[SourceState], None],
        limit_ms: int,
        begin_late: Callable[[], None] | None = None,
    ) -> None:
        self._link, self._out, self._rounds = link, out, rounds
        self._enter, self._limit_ms, self._begin_late = enter, limit_ms, begin_late
        self.repairs: list[tuple[RoundStats, float]] = []
        self.asked_pages: list[int] = []

    def run(self, stats: RoundStats) -> float:
        """PREPARE until PREPARED.

        :param stats: the sealed round.
        :returns: how long the destination took to load the state, ms.
        :raises ProtocolError: it asks again and again.
        """
        while True:
            answer = self._ask(stats)
            if isinstance(answer, Prepared):
                return answer.load_ms
            stats = self._repair(stats, answer)

    def _ask(self, stats: RoundStats) -> Prepared | EpochAck:
        self._enter(SourceState.PREPARING)
        digest, late = f"{stats.digest:016x}", self._begin_late is not None
        self._link.send(Prepare(epoch=stats.epoch, digest=digest, late=late))
        if self._begin_late is not None:
            self._begin_late()
        answer = self._link.receive("preparing", self._limit_ms, Prepared, EpochAck)
        assert isinstance(answer, (Prepared, EpochAck))
        return answer

    def _repair(self, stats: RoundStats, ack: EpochAck) -> RoundStats:
        """A further sealed round, with the pages that are asked for."""
        if self._begin_late is not None:
            # What was stale before is outstanding since.
            raise ProtocolError(f"preparing: {self._link.peer} has stale pages, and was sent none")
        stale_pages = resend_stale(self._out, ack, stats, self._link)
        if not stale_pages:
            raise ProtocolError(f"preparing: {self._link.peer} is not prepared, and lacks no page")
        if len(self.repairs) == MAX_REPAIRS:
            raise ProtocolError(
                f"preparing: {self._link.peer} still lacks {stale_pages} pages after they were "
                f"sent again {MAX_REPAIRS} times; try again without delta coding (delta=off)"
            )
        self.asked_pages.append(stale_pages)
        self._enter(SourceState.FINAL_ROUND)
        watch = Stopwatch()
        again = self._rounds.sealed()
        assert again.kind is EpochKind.SEALED
        self.repairs.append((again, watch.elapsed_ms()))
        return again

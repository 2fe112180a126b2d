# SPDX-License-Identifier: Apache-2.0
"""Rounds, what they measured, and what the policy made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pymigrate._clock import Stopwatch
from pymigrate._encodings import encoding_facts
from pymigrate._engine import EpochKind, RoundStats
from pymigrate._outgoing import Outgoing
from pymigrate.errors import EngineError
from pymigrate.options import Options
from pymigrate.policy import (
    Action,
    Decision,
    RoundMeasurement,
    SwitchoverCosts,
    decide,
    estimate,
    final_downtime_ms,
)
from pymigrate.report import RoundReport

__all__ = ["Rounds"]

# Returns once the destination has the whole epoch: how many of its pages it
# asks for again.
Acknowledge = Callable[[RoundStats], int]


class Rounds:
    """The rounds of one migration.

    :param acknowledge: waits for the peer; None where there is no peer.
    :ivar throttle_percent: in force; who throttles the guest sets it.
    :ivar outstanding_pages: named before the guest was paused.
    """

    def __init__(
        self,
        out: Outgoing,
        options: Options,
        clock: Stopwatch,
        acknowledge: Acknowledge | None,
    ) -> None:
        self._out, self._options, self._clock = out, options, clock
        self._acknowledge = acknowledge
        self.history: list[RoundMeasurement] = []
        self.reports: list[RoundReport] = []
        self.throttle_percent = 0
        self._stats: RoundStats | None = None
        self._stale_pages = 0
        self._watch = clock
        self._leaving = Decision(Action.POST_COPY, 0.0, 0.0, "")
        self._naming_ms = 0.0
        self.outstanding_pages = 0

    def fuzzy(self, disturbed: bool = False) -> None:
        """One round with the guest running; its pages have arrived after it.

        :param disturbed: a rehearsal runs beside it.
        """
        watch = Stopwatch()
        stats = self._send(EpochKind.FUZZY)
        if self._acknowledge is not None:
            self._stale_pages = self._acknowledge(stats)
        duration_ms = watch.elapsed_ms()
        self._out.view.commit()
        self._stats, self._watch = stats, watch
        self.history.append(
            RoundMeasurement(
                dirty_pages=stats.dirty_pages,
                sent_pages=stats.sent_pages,
                wire_bytes=stats.wire_bytes,
                duration_ms=duration_ms,
                harvest_ms=stats.harvest_ns / 1e6,
                pending_pages=0,
                window_ms=duration_ms,
                elapsed_ms=self._clock.elapsed_ms(),
                disturbed=disturbed,
                zero_pages=stats.zero_pages,
                link_bytes_per_s=stats.link_bytes_per_s,
                throttle_percent=self.throttle_percent,
                held_pages=stats.held_pages,
            )
        )

    def sealed(self) -> RoundStats:
        """The last round, with the guest paused and its state captured."""
        return self._send(EpochKind.SEALED)

    def name_outstanding(self) -> None:
        """Name what is pending, and let the guest run on; it is known at the
        destination after it.
        """
        watch = Stopwatch()
        stats = self._call(lambda: self._out.sender.defer(EpochKind.FUZZY))
        assert self._acknowledge is not None
        stale_pages = self._acknowledge(stats)
        duration_ms = watch.elapsed_ms()
        self._naming_ms = duration_ms
        self.outstanding_pages += stats.outstanding_pages
        self._add(stats, duration_ms, self._leaving, None, stale_pages)

    def leave(self) -> RoundStats:
        """Name what was written since, with the guest paused."""
        return self._call(lambda: self._out.sender.defer(EpochKind.SEALED))

    def leave_ms(self, costs: SwitchoverCosts) -> float:
        """Predicted downtime of leaving now; after name_outstanding()."""
        return costs.fixed_ms + self._naming_ms

    def leave_because(self, decision: Decision) -> None:
        """Why the guest goes ahead of its pages; for the reports."""
        self._leaving = decision

    def record_left(self, stats: RoundStats, duration_ms: float) -> None:
        """Add the sealed round that named pages."""
        self._add(stats, duration_ms, self._leaving, None)

    def record_late(self, stats: RoundStats) -> None:
        """Add what was sent after the switchover, on one set of connections."""
        late = Decision(self._leaving.action, 0.0, 0.0, "late pages")
        self._add(stats, stats.duration_ns / 1e6, late, None)

    def record_sealed(self, stats: RoundStats, duration_ms: float, stale_pages: int = 0) -> None:
        """Add a sealed round to the reports, once the blackout is over.

        :param stale_pages: asked for again after it.
        """
        sealed = Decision(Action.SWITCH, 0.0, 0.0, "sealed")
        self._add(stats, duration_ms, sealed, None, stale_pages)

    def pending_pages(self) -> int:
        """Gather writes, and count what the next round would look at."""
        self._out.view.harvest()
        return self._out.view.pending_pages()

    def decide(self, costs: SwitchoverCosts | None) -> Decision:
        """Count what is left, ask the policy, and report the last round."""
        self.history[-1] = replace(
            self.history[-1],
            pending_pages=self.pending_pages(),
            hot_pages=self._out.sender.hot_pages(),
            window_ms=self._watch.elapsed_ms(),
            elapsed_ms=self._clock.elapsed_ms(),
        )
        decision = decide(self.history, costs, self._options.policy)
        self._out.sender.hold(decision.hold)
        last, stats = self.history[-1], self._stats
        assert stats is not None
        self._add(stats, last.duration_ms, decision, last, self._stale_pages)
        return decision

    def downtime_ms(self, costs: SwitchoverCosts, pages: int) -> float:
        """Predicted downtime with so many pages left."""
        return final_downtime_ms(estimate(self.history, costs), pages)

    def _send(self, kind: EpochKind) -> RoundStats:
        return self._call(lambda: self._out.sender.round(kind))

    def _call(self, round_: Callable[[], RoundStats]) -> RoundStats:
        try:
            return round_()
        except EngineError as error:
            raise self._out.explain(error) from error

    def _add(
        self,
        stats: RoundStats,
        duration_ms: float,
        decision: Decision,
        measured: RoundMeasurement | None,
        stale_pages: int = 0,
    ) -> None:
        sending_s = max(duration_ms / 1e3 - stats.harvest_ns / 1e9, 1e-9)
        report = RoundReport(
            epoch=stats.epoch,
            kind=stats.kind.name.lower(),
            dirty_pages=stats.dirty_pages,
            sent_pages=stats.sent_pages,
            zero_pages=stats.zero_pages,
            raw_pages=stats.raw_pages,
            hole_pages=stats.hole_pages,
            wire_bytes=stats.wire_bytes,
            duration_ms=duration_ms,
            harvest_ms=stats.harvest_ns / 1e6,
            bandwidth_bytes_per_s=stats.wire_bytes / sending_s,
            pending_pages=measured.pending_pages if measured else 0,
            predicted_downtime_ms=decision.predicted_downtime_ms,
            decision=decision.action.value,
            reason=decision.reason,
            predicted_total_ms=decision.predicted_total_ms,
            reachable_downtime_ms=decision.reachable_downtime_ms,
            window_ms=measured.window_ms if measured else 0.0,
            elapsed_ms=measured.elapsed_ms if measured else self._clock.elapsed_ms(),
            disturbed=measured.disturbed if measured else False,
            throttle_percent=self.throttle_percent,
            hot_pages=measured.hot_pages if measured else 0,
            held_pages=stats.held_pages,
            stale_pages=stale_pages,
            outstanding_pages=stats.outstanding_pages,
            **encoding_facts(stats, self._out.sender.tuning),
        )
        self.reports.append(report)
        if self._options.on_round is not None:
            self._options.on_round(report)

# SPDX-License-Identifier: Apache-2.0
"""What would have happened: the guest and the link behind a trace.

As long as a replay goes the way of the recording, rounds are the recorded
ones, and what switching over after round k would have taken is told by round
k + 1, which sent those very pages. Past the recording, or with a throttled
guest, rounds are made from the measured U(t) and the time pages took. This
is on purpose not the policy's own model: no curve is fitted.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from pymigrate.policy import RoundMeasurement, SwitchoverCosts
from pymigrate.simulation.trace import Trace

__all__ = ["MeasuredGrowth", "World"]

# Rounds of fewer pages say nothing about the time that a page takes.
TYPICAL_PAGES = 64


class MeasuredGrowth:
    """U(t) through all samples: never falling, straight between them.

    :param samples: (window_ms, pages) in any order.
    """

    def __init__(self, samples: Sequence[tuple[float, float]]) -> None:
        self._points = _never_falling(sorted((t, u) for t, u in samples if t > 0))

    def pages(self, window_ms: float) -> float:
        """Pages dirtied within a window; past the longest one no more."""
        points = self._points
        index = bisect_right(points, (window_ms, float("inf")))
        if index == len(points):
            return points[-1][1] if points else 0.0
        (t_0, u_0), (t_1, u_1) = points[index - 1] if index else (0.0, 0.0), points[index]
        return u_0 + (u_1 - u_0) * max(0.0, window_ms - t_0) / (t_1 - t_0)


def _never_falling(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Isotonic regression: neighbours that fall are replaced by their mean."""
    pools: list[tuple[float, float, int]] = []
    for t, u in points:
        pools.append((t, u, 1))
        while len(pools) > 1 and (pools[-2][1] > pools[-1][1] or pools[-2][0] == pools[-1][0]):
            (t_0, u_0, n_0), (t_1, u_1, n_1) = pools[-2:]
            n = n_0 + n_1
            pools[-2:] = [((t_0 * n_0 + t_1 * n_1) / n, (u_0 * n_0 + u_1 * n_1) / n, n)]
    return [(t, u) for t, u, _ in pools]


class World:
    """The guest and the link of a trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        rounds = trace.rounds
        self.costs = trace.costs or SwitchoverCosts()
        samples = [
            (r.window_ms * (1 - r.throttle_percent / 100), float(r.pending_pages)) for r in rounds
        ]
        self._growth = MeasuredGrowth([*samples, *trace.growth])
        self._cold = MeasuredGrowth(
            [
                (ms, pages - r.hot_pages)
                for (ms, pages), r in zip(samples, rounds, strict=True)
                if r.hot_pages
            ]
        )
        self._harvest_ms = statistics.median(r.harvest_ms for r in rounds)
        again = [r for r in rounds[1:] if r.sent_pages >= TYPICAL_PAGES] or list(rounds)
        self._page_ms = statistics.median(_sending_ms(r) / max(1, r.sent_pages) for r in again)
        self._page_bytes = statistics.median(r.wire_bytes / max(1, r.sent_pages) for r in again)
        self._bytes_per_ms = max(r.wire_bytes / max(1e-6, _sending_ms(r)) for r in rounds)

    def next_round(
        self, history: Sequence[RoundMeasurement], throttle_percent: int = 0, hold: bool = False
    ) -> RoundMeasurement:
        """The round after those of history."""
        recorded, last = self._recorded(history), history[-1]
        held = last.hot_pages if hold else 0
        if recorded is not None and recorded.throttle_percent == throttle_percent and not held:
            return recorded
        pages = last.pending_pages - held
        duration_ms = self._harvest_ms + self.costs.round_trip_ms + pages * self._page_ms
        running_ms = duration_ms * (1 - throttle_percent / 100)
        return RoundMeasurement(
            dirty_pages=last.pending_pages,
            sent_pages=pages,
            wire_bytes=int(pages * self._page_bytes),
            duration_ms=duration_ms,
            harvest_ms=self._harvest_ms,
            pending_pages=held + int((self._cold if held else self._growth).pages(running_ms)),
            window_ms=duration_ms,
            elapsed_ms=last.elapsed_ms + duration_ms,
            throttle_percent=throttle_percent,
            hot_pages=last.hot_pages,
            held_pages=held,
        )

    def downtime_ms(self, history: Sequence[RoundMeasurement]) -> float:
        """What switching over after these rounds would have taken."""
        rounds, sealed = self._trace.rounds, self._trace.sealed
        if sealed is not None and tuple(history) == rounds:
            return sealed.downtime_ms
        last, following = history[-1], self._recorded(history)
        if following is None:
            pages_ms = self._harvest_ms + self.costs.round_trip_ms
            pages_ms += last.pending_pages * self._page_ms
        else:
            share = last.pending_pages / max(1, following.sent_pages)
            pages_ms = following.duration_ms - (1 - min(share, 1.0)) * _sending_ms(following)
        state_ms = self.costs.state_bytes / self._bytes_per_ms
        return self.costs.fixed_ms + self._harvest_ms + state_ms + pages_ms

    def leaving_ms(self) -> float:
        """What it would have taken to leave the pages behind: naming them is a
        message, and they are not sent.
        """
        return self.costs.fixed_ms + self._harvest_ms + self.costs.round_trip_ms

    def last_bytes(self, history: Sequence[RoundMeasurement]) -> float:
        """What the pages that are left would have been on the wire."""
        following = self._recorded(history)
        pages = history[-1].pending_pages
        if following is None or following.sent_pages < TYPICAL_PAGES:
            return pages * self._page_bytes
        return pages * following.wire_bytes / following.sent_pages

    def known_costs(self, history: Sequence[RoundMeasurement]) -> SwitchoverCosts | None:
        """None until the switchover was rehearsed."""
        return self.costs if len(history) >= self._trace.rehearsed_rounds else None

    def _recorded(self, history: Sequence[RoundMeasurement]) -> RoundMeasurement | None:
        """The recorded round after these, if they are the recorded ones."""
        rounds, done = self._trace.rounds, len(history)
        if done >= len(rounds) or tuple(history) != rounds[:done]:
            return None
        return replace(rounds[done])


def _sending_ms(measured: RoundMeasurement) -> float:
    return max(0.0, measured.duration_ms - measured.harvest_ms)

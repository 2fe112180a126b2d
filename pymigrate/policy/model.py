# SPDX-License-Identifier: Apache-2.0
"""The model of a migration: guest, link and switchover in one place.

From it follows what happens if pre-copy goes on: a round that sends V pages
takes T(V), and leaves U(T(V)). Repeated, that settles where V = U(T(V)); the
trajectory on the way there is what the policies choose from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymigrate.policy.growth import Growth, fit_growth
from pymigrate.policy.measurement import PAGE_BYTES, RoundMeasurement, SwitchoverCosts
from pymigrate.policy.speed import Speed, measure_speed

__all__ = ["Model", "Step", "estimate", "figures", "final_downtime_ms"]

# Further rounds looked at; the fixed point is reached long before.
HORIZON = 100
# Pages change by less than this share from round to round: settled.
SETTLED = 0.01


@dataclass(frozen=True)
class Step:
    """Switching over after so many further rounds.

    :ivar rounds: 0 is now.
    :ivar rounds_ms: duration of those rounds.
    :ivar pages: pending then.
    :ivar wire_bytes: of the rounds and of the pages that are left.
    :ivar hold: those rounds leave hot pages to the last one.
    """

    rounds: int
    rounds_ms: float
    pages: float
    wire_bytes: float
    downtime_ms: float
    hold: bool = False


@dataclass(frozen=True)
class Model:
    """What the history says about the link and the guest.

    :ivar growth: of all pages that the guest writes.
    :ivar cold: of those among them that are not hot.
    :ivar hot_pages: pending, and written in each of the last windows.
    """

    speed: Speed
    growth: Growth
    costs: SwitchoverCosts
    dirty_pages_per_s: float
    cold: Growth
    hot_pages: int

    def downtime_ms(self, pages: float) -> float:
        """Of a guest that is paused with so many pages left.

        The dirty bits are gathered twice while the guest is paused: to count
        what is left, and once more after the state was captured.
        """
        state_ms = self.speed.wire_ms(self.costs.state_bytes)
        waiting_ms = self.costs.fixed_ms + self.speed.harvest_ms + state_ms
        return waiting_ms + self.speed.round_ms(pages)

    def switch_ms(self, pages: float, window_ms: float) -> float:
        """Downtime of switching with so many pages dirtied in a window.

        Until it is quiesced the guest dirties more: those of the longer
        window that are not in the shorter one.
        """
        longer_ms = window_ms + self.costs.quiesce_ms
        more = self.growth.pages(longer_ms) - self.growth.pages(window_ms)
        return self.downtime_ms(pages + max(0.0, more))

    def ways(self, pages: float, window_ms: float, rounds: int) -> list[Step]:
        """All steps ahead: sending hot pages again, and holding them back."""
        steps = self.trajectory(pages, window_ms, rounds)
        if self.hot_pages:
            steps += self.trajectory(pages, window_ms, rounds, hold=True)[1:]
        return steps

    def trajectory(
        self, pages: float, window_ms: float, rounds: int, hold: bool = False
    ) -> list[Step]:
        """Switching now, after one more round, after two, ...

        :param pages: pending now.
        :param window_ms: in which they were dirtied.
        :param rounds: how many more are allowed.
        :param hold: leave hot pages to the last round.
        """
        held = float(min(self.hot_pages, pages)) if hold else 0.0
        growth = self.cold if hold else self.growth
        steps: list[Step] = []
        rounds_ms = wire_bytes = 0.0
        for number in range(min(rounds, HORIZON) + 1):
            left_bytes = wire_bytes + pages * self.speed.bytes_per_page
            downtime_ms = self.switch_ms(pages, window_ms)
            steps.append(Step(number, rounds_ms, pages, left_bytes, downtime_ms, hold))
            wire_bytes += (pages - held) * self.speed.bytes_per_page
            window_ms = self.speed.round_ms(pages - held)
            before, pages = pages, held + growth.pages(window_ms)
            rounds_ms += window_ms
            if number > 0 and abs(pages - before) <= SETTLED * before:
                break
        return steps


def estimate(history: Sequence[RoundMeasurement], costs: SwitchoverCosts) -> Model:
    """The model of a non-empty history.

    A throttled guest dirties what the others would in a shorter window: all
    samples are brought to the throttling of the last round. Pages that a
    round left to the last one were pending before it: of all the pages that
    the guest writes it is no sample.
    """
    last = history[-1]
    running = _running(last)
    samples = [(r.window_ms * _running(r) / running, r.pending_pages) for r in history]
    found = max(0, last.pending_pages - last.held_pages)
    rate = 1000.0 * found / last.window_ms if last.window_ms > 0 else 0.0
    return Model(
        speed=measure_speed(history, costs),
        growth=fit_growth(
            [sample for sample, r in zip(samples, history, strict=True) if not r.held_pages]
        ),
        cold=fit_growth(
            [
                (ms, pages - r.hot_pages)
                for (ms, pages), r in zip(samples, history, strict=True)
                if r.hot_pages
            ]
        ),
        hot_pages=last.hot_pages,
        costs=costs,
        dirty_pages_per_s=rate,
    )


def _running(measured: RoundMeasurement) -> float:
    """The share of its time that the guest may run."""
    return 1.0 - measured.throttle_percent / 100.0


def final_downtime_ms(model: Model, pages: float) -> float:
    """Downtime of a guest that is paused with so many pages left."""
    return model.downtime_ms(pages)


def figures(last: RoundMeasurement, model: Model) -> str:
    """Guest and link side by side, for a reason.

    A page that is written twice within a round is counted once, so the rate
    is a lower bound.
    """
    dirty_mb_per_s = model.dirty_pages_per_s * PAGE_BYTES / 1e6
    link_mb_per_s = model.speed.bandwidth_bytes_per_s / 1e6
    return (
        f"the guest dirties at least {model.dirty_pages_per_s:,.0f} pages/s "
        f"({dirty_mb_per_s:,.0f} MB/s; {last.pending_pages:,} different ones in the last "
        f"{last.window_ms:,.0f} ms), the link carries {link_mb_per_s:,.0f} MB/s"
    )

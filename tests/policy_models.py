# SPDX-License-Identifier: Apache-2.0
"""Guests and links as formulas, for tests of the policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pymigrate.policy import (
    RAW_PAGE_BYTES,
    Action,
    Decision,
    PolicyOptions,
    RoundMeasurement,
    SwitchoverCosts,
    decide,
)

__all__ = ["COSTS", "GBIT", "LOOPBACK", "Model", "hot_and_cold", "run", "scattered"]

COSTS = SwitchoverCosts(
    quiesce_ms=0.3,
    capture_ms=0.6,
    state_bytes=32_000,
    load_ms=0.5,
    resume_ms=0.2,
    round_trip_ms=0.3,
)
GBIT = 117e6
LOOPBACK = 2e9


@dataclass
class Model:
    """A guest that dirties at a rate up to its working set, and a link.

    :ivar page_bytes: on the wire, of pages that are sent again.
    :ivar page_cpu_ms: to encode one of those.
    :ivar growth: pages dirtied within so many ms; None: a sweep.
    :ivar hot_pages: of those, written in every window; seen after round 3.
    """

    memory_pages: int
    working_set_pages: int
    dirty_pages_per_s: float
    bandwidth_bytes_per_s: float
    harvest_ms: float = 0.1
    overhead_ms: float = 0.4
    page_bytes: float = RAW_PAGE_BYTES
    page_cpu_ms: float = 0.0
    growth: Callable[[float], float] | None = None
    hot_pages: int = 0

    def dirtied(self, ms: float, held: int = 0) -> int:
        if self.growth is not None:
            return max(held, int(self.growth(ms)))
        return int(min(self.working_set_pages, self.dirty_pages_per_s * ms / 1000))

    def sending_ms(self, wire_bytes: float, pages: int) -> float:
        """Link and processors work at the same time."""
        return max(1000 * wire_bytes / self.bandwidth_bytes_per_s, pages * self.page_cpu_ms)

    def round(
        self, history: list[RoundMeasurement], throttle_percent: int = 0, hold: bool = False
    ) -> RoundMeasurement:
        dirty = history[-1].pending_pages if history else self.memory_pages
        held = history[-1].hot_pages if history and hold else 0
        pages = dirty - held
        page_bytes = self.page_bytes if history else RAW_PAGE_BYTES
        wire_bytes = pages * page_bytes + 400
        sending_ms = self.sending_ms(wire_bytes, pages if history else 0)
        duration_ms = self.harvest_ms + self.overhead_ms + sending_ms
        before_ms = history[-1].elapsed_ms if history else 0.0
        return RoundMeasurement(
            dirty_pages=dirty,
            sent_pages=pages,
            wire_bytes=int(wire_bytes),
            duration_ms=duration_ms,
            harvest_ms=self.harvest_ms,
            pending_pages=self.dirtied(duration_ms * (1 - throttle_percent / 100), held),
            window_ms=duration_ms,
            elapsed_ms=before_ms + duration_ms,
            throttle_percent=throttle_percent,
            hot_pages=self.hot_pages if len(history) > 1 else 0,
            held_pages=held,
        )

    def downtime_ms(self, pages: int) -> float:
        """What switching over really takes in this model."""
        left = pages + self.dirtied(COSTS.quiesce_ms)
        if self.growth is None:
            left = min(self.working_set_pages, left)
        wire_bytes = left * self.page_bytes + COSTS.state_bytes
        sending_ms = self.sending_ms(wire_bytes, left)
        return COSTS.fixed_ms + 2 * self.harvest_ms + self.overhead_ms + sending_ms


def scattered(working_set_pages: int, writes_per_s: float) -> Callable[[float], float]:
    """U(t) of pages written at random times."""
    return lambda ms: working_set_pages * -math.expm1(-writes_per_s * ms / 1000 / working_set_pages)


def hot_and_cold(hot_pages: int, cold_pages: int, cold_per_s: float) -> Callable[[float], float]:
    """Hot pages are written all the time, the others now and then."""
    hot, cold = scattered(hot_pages, 1e6), scattered(cold_pages, cold_per_s)
    return lambda ms: hot(ms) + cold(ms)


def run(
    model: Model, options: PolicyOptions | None = None
) -> tuple[Decision, list[RoundMeasurement]]:
    """Migrate in the model until the policy stops."""
    options = options or PolicyOptions()
    history: list[RoundMeasurement] = []
    throttle, hold = 0, False
    while len(history) <= options.max_rounds:
        history.append(model.round(history, throttle, hold))
        costs = COSTS if len(history) > 1 else None
        decision = decide(history, costs, options)
        if decision.action in (Action.SWITCH, Action.GIVE_UP):
            return decision, history
        throttle, hold = decision.throttle_percent, decision.hold
    raise AssertionError("the policy never stops")

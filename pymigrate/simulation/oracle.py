# SPDX-License-Identifier: Apache-2.0
"""The best that any policy could have done on a trace: exhaustive search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymigrate.policy import PolicyKind, PolicyOptions, RoundMeasurement
from pymigrate.simulation.trace import Trace
from pymigrate.simulation.world import World

__all__ = ["Option", "best_option", "cost_of", "options_of"]


@dataclass(frozen=True)
class Option:
    """Switching over after so many rounds, and what came of it.

    :ivar total_ms: downtime included.
    """

    rounds: int
    total_ms: float
    downtime_ms: float
    wire_bytes: float


def options_of(trace: Trace, max_rounds: int) -> list[Option]:
    """Every point at which the guest could have been switched."""
    world = World(trace)
    history: list[RoundMeasurement] = [trace.rounds[0]]
    found = []
    while True:
        if world.known_costs(history) is not None:
            downtime_ms = world.downtime_ms(history)
            sent = sum(r.wire_bytes for r in history) + world.last_bytes(history)
            total_ms = history[-1].elapsed_ms + downtime_ms
            found.append(Option(len(history), total_ms, downtime_ms, sent))
        if len(history) >= max_rounds:
            return found
        history.append(world.next_round(history))


def cost_of(total_ms: float, downtime_ms: float, wire_bytes: float, limits: PolicyOptions) -> float:
    """What the policy of the options wants to be small."""
    if limits.policy is PolicyKind.MINIMAL_TRAFFIC:
        return wire_bytes
    if limits.policy is PolicyKind.TIME_BUDGET:
        return downtime_ms
    return total_ms - downtime_ms + limits.downtime_weight * downtime_ms


def best_option(options: Sequence[Option], limits: PolicyOptions) -> Option | None:
    """The best of those that keep the limits; None when none does."""
    good = [o for o in options if o.downtime_ms <= limits.downtime_limit_ms]
    if limits.policy is PolicyKind.TIME_BUDGET and limits.time_budget_ms is not None:
        good = [o for o in good if o.total_ms <= limits.time_budget_ms]
    return min(
        good,
        key=lambda o: cost_of(o.total_ms, o.downtime_ms, o.wire_bytes, limits),
        default=None,
    )

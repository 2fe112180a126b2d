# SPDX-License-Identifier: Apache-2.0
"""The built-in policies: which step of the trajectory is the best one.

Each is a pure function from the steps that are open (switching now, after
one more round, ...) to the best of those that keep the limits; None when
none does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pymigrate.policy.model import Step
from pymigrate.policy.options import PolicyKind, PolicyOptions

__all__ = ["CHOICES", "Choice"]

# Steps, ms since the migration began, options.
Choice = Callable[[Sequence[Step], float, PolicyOptions], "Step | None"]


def _within(steps: Sequence[Step], options: PolicyOptions) -> list[Step]:
    return [step for step in steps if step.downtime_ms <= options.downtime_limit_ms]


def _settled(best: Step, steps: Sequence[Step], options: PolicyOptions) -> Step:
    """The earliest step that is not clearly worse."""
    for step in steps:
        near = step.downtime_ms <= best.downtime_ms + options.settle_ms
        if near and step.rounds <= best.rounds:
            return step
    return best


def least_cost(steps: Sequence[Step], elapsed_ms: float, options: PolicyOptions) -> Step | None:
    """downtime: rounds cost time and win downtime, at a fixed rate."""
    good = _within(steps, options)
    if not good:
        return None
    weight = options.downtime_weight
    best = min(good, key=lambda step: step.rounds_ms + weight * step.downtime_ms)
    return _settled(best, good, options)


def least_downtime_in_time(
    steps: Sequence[Step], elapsed_ms: float, options: PolicyOptions
) -> Step | None:
    """time-budget: the least downtime that is over in time.

    Where the limit cannot be kept in time, the first that keeps it.
    """
    good = _within(steps, options)
    if not good:
        return None
    left_ms = (options.time_budget_ms or 0.0) - elapsed_ms
    in_time = [step for step in good if step.rounds_ms + step.downtime_ms <= left_ms]
    if not in_time:
        return good[0]
    return _settled(min(in_time, key=lambda step: step.downtime_ms), in_time, options)


def least_traffic(steps: Sequence[Step], elapsed_ms: float, options: PolicyOptions) -> Step | None:
    """minimal-traffic: what is pending has to be sent once more anyway, and
    every round before that sends pages which will be dirty again."""
    good = _within(steps, options)
    return min(good, key=lambda step: step.wire_bytes) if good else None


CHOICES: dict[PolicyKind, Choice] = {
    PolicyKind.DOWNTIME: least_cost,
    PolicyKind.TIME_BUDGET: least_downtime_in_time,
    PolicyKind.MINIMAL_TRAFFIC: least_traffic,
}

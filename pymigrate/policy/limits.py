# SPDX-License-Identifier: Apache-2.0
"""When to stop trying, and what to try last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pymigrate.policy.growth import Growth
from pymigrate.policy.measurement import RoundMeasurement, SwitchoverCosts
from pymigrate.policy.model import estimate
from pymigrate.policy.options import PolicyKind, PolicyOptions

__all__ = ["exhausted", "next_throttle", "out_of_reach", "reachable_ms", "stalled", "switch_now_ms"]


def switch_now_ms(history: Sequence[RoundMeasurement], costs: SwitchoverCosts) -> float:
    """Predicted downtime of switching after a non-empty history."""
    last = history[-1]
    return estimate(history, costs).switch_ms(last.pending_pages, last.window_ms)


def reachable_ms(
    history: Sequence[RoundMeasurement],
    costs: SwitchoverCosts,
    options: PolicyOptions,
    optimism: float = 1.0,
) -> float:
    """The least downtime on the way to the fixed point.

    :param optimism: of a guest that dirties at so much of the measured rate.
        Near the rate of the link a small error of it is a large one of where
        rounds settle.
    """
    last = history[-1]
    rounds = max(0, options.max_rounds - len(history))
    model = estimate(history, costs)
    slower = replace(
        model, growth=_slower(model.growth, optimism), cold=_slower(model.cold, optimism)
    )
    steps = slower.ways(last.pending_pages, last.window_ms, rounds)
    return min(step.downtime_ms for step in steps)


def _slower(growth: Growth, factor: float) -> Growth:
    return replace(growth, pages_per_s=factor * growth.pages_per_s)


def exhausted(history: Sequence[RoundMeasurement], options: PolicyOptions) -> str:
    """Which limit on rounds or time is reached, or nothing."""
    elapsed_ms = history[-1].elapsed_ms
    if len(history) >= options.max_rounds:
        return f"{len(history)} rounds were not enough"
    if options.max_total_ms is not None and elapsed_ms >= options.max_total_ms:
        return f"{options.max_total_ms:g} ms were not enough"
    budget_ms = options.time_budget_ms
    if (
        options.policy is PolicyKind.TIME_BUDGET
        and budget_ms is not None
        and elapsed_ms >= budget_ms
    ):
        return f"the time budget of {budget_ms:g} ms is used up"
    return ""


def out_of_reach(
    history: Sequence[RoundMeasurement], costs: SwitchoverCosts, options: PolicyOptions
) -> str:
    """Why no number of rounds helps, or nothing.

    Believed only when the round before said so as well: one may have met a
    burst, and the first says little of the pages to come. A guest that is
    throttled already is throttled more without that: it is given time again
    before it is given up.
    """
    throttled = history[-1].throttle_percent > 0
    if throttled and next_throttle(history, options):
        best_ms = reachable_ms(history, costs, options)
        far = best_ms > options.downtime_limit_ms
    else:
        best_ms = reachable_ms(history, costs, options, options.optimism)
        far = len(history) >= 3 and best_ms > options.downtime_limit_ms
        far = far and history[-2].throttle_percent == history[-1].throttle_percent
        far = far and (
            reachable_ms(history[:-1], costs, options, options.optimism) > options.downtime_limit_ms
        )
    if not far:
        return ""
    return f"further rounds would not bring the downtime below {best_ms:,.0f} ms"


def stalled(
    history: Sequence[RoundMeasurement], costs: SwitchoverCosts, options: PolicyOptions
) -> str:
    """Which rounds failed to improve on those before, or nothing."""
    count = options.stall_rounds
    if len(history) <= count:
        return ""
    if history[-1 - count].throttle_percent != history[-1].throttle_percent:
        return ""
    predicted = [switch_now_ms(history[:end], costs) for end in range(1, len(history) + 1)]
    before, recent = min(predicted[:-count]), min(predicted[-count:])
    if recent <= (1.0 - options.stall_gain) * before:
        return ""
    return f"no improvement in {count} rounds"


def next_throttle(history: Sequence[RoundMeasurement], options: PolicyOptions) -> int:
    """The next step of throttling, in percent; 0 when there is none left."""
    now = history[-1].throttle_percent
    step = min(options.throttle_percent, now + options.throttle_step)
    return step if step > now else 0

# SPDX-License-Identifier: Apache-2.0
"""The decision after a round; docs/policy.md has the arithmetic."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from pymigrate.errors import PolicyError
from pymigrate.policy.choose import CHOICES
from pymigrate.policy.decision import Action, Decision, PolicyFunction
from pymigrate.policy.limits import exhausted, next_throttle, out_of_reach, stalled, switch_now_ms
from pymigrate.policy.measurement import RoundMeasurement, SwitchoverCosts
from pymigrate.policy.model import Model, Step, estimate, figures
from pymigrate.policy.options import PolicyKind, PolicyOptions, PostCopy

__all__ = ["decide"]

History = Sequence[RoundMeasurement]

# Less than this share of the downtime to win is within what guests vary.
GAIN = 0.25
# A round that won less than this share of what it promised won nothing.
KEPT = 0.25


def decide(history: History, costs: SwitchoverCosts | None, options: PolicyOptions) -> Decision:
    """What to do after the rounds so far, by the policy of the options.

    :param costs: None as long as the switchover was not rehearsed.
    :raises PolicyError: a policy of the caller's own failed.
    """
    if isinstance(options.policy, PolicyKind):
        return decide_built_in(history, costs, options, options.policy)
    return _ask(options.policy, history, costs, options)


def _ask(
    policy: PolicyFunction, history: History, costs: SwitchoverCosts | None, options: PolicyOptions
) -> Decision:
    name = options.policy_name
    try:
        decision = policy(tuple(history), costs, options)
    except Exception as error:
        raise PolicyError(f"the policy {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(decision, Decision):
        raise PolicyError(f"the policy {name} returned {decision!r}, expected a Decision")
    if decision.action is Action.SWITCH and costs is None:
        raise PolicyError(f"the policy {name} wants to switch before the rehearsal is over")
    if decision.action is Action.POST_COPY and options.post_copy is PostCopy.NEVER:
        raise PolicyError(f"the policy {name} wants post-copy, which the options do not allow")
    if not 0 <= decision.throttle_percent <= 99:
        raise PolicyError(
            f"the policy {name} throttles to {decision.throttle_percent} %, expected 0 to 99"
        )
    return decision


def decide_built_in(
    history: History, costs: SwitchoverCosts | None, options: PolicyOptions, kind: PolicyKind
) -> Decision:
    """As decide(), by one of the built-in policies."""
    if not history:
        return Decision(Action.CONTINUE, 0.0, 0.0, "nothing was sent yet")
    last = history[-1]
    model = estimate(history, costs or SwitchoverCosts())
    rounds = 0 if exhausted(history, options) else options.max_rounds - len(history)
    steps = model.ways(last.pending_pages, last.window_ms, rounds)
    if options.post_copy in (PostCopy.AFTER_FIRST_ROUND, PostCopy.NOW):
        return _leave(history, model, "as asked for")
    if costs is None:
        return _continue(history, steps, _lowest(steps), "the switchover is not rehearsed yet")
    best = CHOICES[kind](steps, last.elapsed_ms, options)
    if steps[0].downtime_ms <= options.downtime_limit_ms:
        return _within_limit(history, costs, steps, best or steps[0], options)
    return _above_limit(history, model, steps, best, options)


def _within_limit(
    history: History,
    costs: SwitchoverCosts,
    steps: Sequence[Step],
    best: Step,
    options: PolicyOptions,
) -> Decision:
    now_ms = steps[0].downtime_ms
    clearly = best.downtime_ms <= (1 - GAIN) * now_ms
    # A throttled guest suffers from every round.
    free = history[-1].throttle_percent == 0
    if best.rounds and clearly and free and not _promises_broken(history, costs, options):
        words = f"{best.rounds} more rounds" if best.rounds > 1 else "another round"
        gain = f"{words} should bring {now_ms:.1f} ms of downtime to {best.downtime_ms:.1f} ms"
        return _continue(history, steps, best, gain)
    reason = f"{now_ms:.1f} ms is within the limit of {options.downtime_limit_ms:g} ms"
    return _decision(Action.SWITCH, history, steps, steps[0], reason)


def _above_limit(
    history: History,
    model: Model,
    steps: Sequence[Step],
    best: Step | None,
    options: PolicyOptions,
) -> Decision:
    now_ms, limit_ms = steps[0].downtime_ms, options.downtime_limit_ms
    end = exhausted(history, options)
    futile = end or out_of_reach(history, model.costs, options)
    futile = futile or stalled(history, model.costs, options)
    if not futile:
        words = f"{now_ms:.1f} ms is above the limit of {limit_ms:g} ms"
        return _continue(history, steps, best or _lowest(steps), words)
    reason = f"{futile}: {figures(history[-1], model)}, and switching now would take " + (
        f"{now_ms:.0f} ms ({model.costs.fixed_ms:.0f} ms of it whatever is sent) "
        f"where the limit is {limit_ms:g} ms"
    )
    if options.post_copy is PostCopy.AUTO:
        return _leave(history, model, reason)
    percent = 0 if end else next_throttle(history, options)
    if percent:
        return _decision(Action.THROTTLE, history, steps, _lowest(steps), reason, percent)
    return _decision(Action.GIVE_UP, history, steps, None, reason)


def _leave(history: History, model: Model, reason: str) -> Decision:
    """Switch without the pages: they cost the guest no time that it waits for
    all of them, and the last round is the list of what it wrote since.
    """
    now_ms = model.downtime_ms(0)
    ahead_ms = now_ms + model.speed.round_ms(history[-1].pending_pages)
    return Decision(
        action=Action.POST_COPY,
        predicted_downtime_ms=_finite(now_ms),
        predicted_total_ms=_finite(history[-1].elapsed_ms + ahead_ms),
        reason=reason,
    )


def _lowest(steps: Sequence[Step]) -> Step:
    """Where no step keeps the limit: the way that comes nearest."""
    return min(steps, key=lambda step: step.downtime_ms)


def _promises_broken(history: History, costs: SwitchoverCosts, options: PolicyOptions) -> bool:
    """Were rounds to win downtime within the limit, and did not?

    A model that was wrong twice in this way is so again: the guest's working
    set is as large as the shortest window shows it. Once may be a hiccup.
    """
    return _promise_broken(history, costs, options) and (
        _promise_broken(history[:-1], costs, options)
    )


def _promise_broken(history: History, costs: SwitchoverCosts, options: PolicyOptions) -> bool:
    if len(history) < 3:
        return False
    before = history[-2]
    model = estimate(history[:-1], costs)
    held = history[-1].held_pages > 0
    steps = model.trajectory(before.pending_pages, before.window_ms, 1, held)
    before_ms, promised_ms = steps[0].downtime_ms, steps[-1].downtime_ms
    if before_ms > options.downtime_limit_ms or promised_ms >= before_ms:
        return False
    return switch_now_ms(history, costs) > before_ms - KEPT * (before_ms - promised_ms)


def _continue(history: History, steps: Sequence[Step], aim: Step, reason: str) -> Decision:
    percent = history[-1].throttle_percent
    return _decision(Action.CONTINUE, history, steps, aim, reason, percent)


def _decision(
    action: Action,
    history: History,
    steps: Sequence[Step],
    aim: Step | None,
    reason: str,
    throttle_percent: int = 0,
) -> Decision:
    ahead_ms = aim.rounds_ms + aim.downtime_ms if aim is not None else 0.0
    return Decision(
        action=action,
        predicted_downtime_ms=_finite(steps[0].downtime_ms),
        predicted_total_ms=_finite(history[-1].elapsed_ms + ahead_ms),
        reason=reason,
        reachable_downtime_ms=_finite(min(step.downtime_ms for step in steps)),
        throttle_percent=throttle_percent,
        hold=aim is not None and aim.hold and action is not Action.SWITCH,
    )


def _finite(value: float) -> float:
    """JSON knows no infinity; what overflows is never within a limit."""
    return value if math.isfinite(value) else sys.float_info.max

# SPDX-License-Identifier: Apache-2.0
"""Whatever was measured: decisions are pure, finite, and keep the limits."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace

from hypothesis import given
from hypothesis import strategies as st
from policy_models import COSTS

from pymigrate.policy import (
    Action,
    PolicyKind,
    PolicyOptions,
    RoundMeasurement,
    SwitchoverCosts,
    decide,
)

HUGE = float(1 << 62)
times = st.one_of(st.just(0.0), st.floats(0, 1e4), st.floats(0, HUGE))
amounts = st.one_of(st.just(0), st.integers(0, 1 << 20), st.integers(0, 1 << 62))
rounds = st.builds(
    RoundMeasurement,
    dirty_pages=amounts,
    sent_pages=amounts,
    wire_bytes=amounts,
    duration_ms=times,
    harvest_ms=times,
    pending_pages=amounts,
    window_ms=times,
    elapsed_ms=times,
    disturbed=st.booleans(),
    zero_pages=amounts,
    link_bytes_per_s=times,
    throttle_percent=st.integers(0, 99),
    hot_pages=amounts,
    held_pages=amounts,
)
histories = st.lists(rounds, max_size=12)
all_costs = st.none() | st.builds(
    SwitchoverCosts,
    quiesce_ms=times,
    capture_ms=times,
    state_bytes=amounts,
    load_ms=times,
    resume_ms=times,
    round_trip_ms=times,
)
all_options = st.builds(
    PolicyOptions,
    policy=st.sampled_from(list(PolicyKind)),
    downtime_limit_ms=st.floats(0.001, 1e9),
    time_budget_ms=st.floats(0.001, 1e12),
    max_rounds=st.integers(1, 40),
    max_total_ms=st.none() | st.floats(0, 1e12),
    throttle_percent=st.integers(0, 99),
)


@given(histories, all_costs, all_options)
def test_decisions_are_pure_and_finite(
    history: list[RoundMeasurement], costs: SwitchoverCosts | None, options: PolicyOptions
) -> None:
    before = copy.deepcopy(history)
    decision = decide(history, costs, options)
    assert decide(history, costs, options) == decision
    assert history == before
    for name in ("predicted_downtime_ms", "predicted_total_ms", "reachable_downtime_ms"):
        value = getattr(decision, name)
        assert value is None or (math.isfinite(value) and value >= 0), name
    json.dumps(asdict(decision), allow_nan=False)
    assert decision.reason


@given(histories, all_costs, all_options)
def test_limits_are_kept(
    history: list[RoundMeasurement], costs: SwitchoverCosts | None, options: PolicyOptions
) -> None:
    decision = decide(history, costs, options)
    if decision.action is Action.SWITCH:
        assert costs is not None
        assert decision.predicted_downtime_ms <= options.downtime_limit_ms
    if decision.action is Action.THROTTLE:
        now = history[-1].throttle_percent
        assert now < decision.throttle_percent <= options.throttle_percent
    if decision.action is Action.CONTINUE and costs is not None:
        assert len(history) < options.max_rounds


@given(histories.filter(bool), all_options, st.floats(1, 1000))
def test_a_higher_limit_never_turns_a_switch_into_giving_up(
    history: list[RoundMeasurement], options: PolicyOptions, factor: float
) -> None:
    relaxed = replace(options, downtime_limit_ms=options.downtime_limit_ms * factor)
    if decide(history, COSTS, options).action is Action.SWITCH:
        assert decide(history, COSTS, relaxed).action in (Action.SWITCH, Action.CONTINUE)


@given(histories.filter(bool), all_options, st.floats(0, 1e6))
def test_dearer_state_never_predicts_less_downtime(
    history: list[RoundMeasurement], options: PolicyOptions, more_ms: float
) -> None:
    dear = replace(COSTS, load_ms=COSTS.load_ms + more_ms)
    cheap_ms = decide(history, COSTS, options).predicted_downtime_ms
    assert decide(history, dear, options).predicted_downtime_ms >= cheap_ms

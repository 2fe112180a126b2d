# SPDX-License-Identifier: Apache-2.0
"""The policy against models of guests and links; no clock, no I/O."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_models import COSTS, GBIT, LOOPBACK, Model, run

from pymigrate.policy import (
    RAW_PAGE_BYTES,
    Action,
    PolicyOptions,
    RoundMeasurement,
    decide,
    estimate,
    final_downtime_ms,
)

models = st.builds(
    Model,
    memory_pages=st.integers(1, 1 << 22),
    working_set_pages=st.integers(0, 1 << 20),
    dirty_pages_per_s=st.floats(0, 1e6),
    bandwidth_bytes_per_s=st.floats(1e6, 1e10),
    harvest_ms=st.floats(0, 10),
    overhead_ms=st.floats(0, 10),
)


@given(models, st.floats(1, 1000))
def test_never_switches_above_the_limit(model: Model, limit_ms: float) -> None:
    decision, _ = run(model, PolicyOptions(downtime_limit_ms=limit_ms))
    if decision.action is Action.SWITCH:
        assert decision.predicted_downtime_ms <= limit_ms


@given(models)
def test_gives_up_only_above_the_limit_and_says_the_figures(model: Model) -> None:
    decision, _ = run(model)
    if decision.action is Action.GIVE_UP:
        assert decision.predicted_downtime_ms > PolicyOptions().downtime_limit_ms
        assert "pages/s" in decision.reason and "the link carries" in decision.reason


@given(models, st.floats(1.0, 100.0))
def test_a_faster_link_never_predicts_more_downtime(model: Model, factor: float) -> None:
    _, history = run(model)
    slow = estimate(history, COSTS)
    speed = replace(
        slow.speed,
        bandwidth_bytes_per_s=slow.speed.bandwidth_bytes_per_s * factor,
        page_ms=slow.speed.page_ms / factor,
    )
    pages = history[-1].pending_pages
    fast = replace(slow, speed=speed)
    assert final_downtime_ms(fast, pages) <= final_downtime_ms(slow, pages)


@given(models, st.integers(0, 1 << 22), st.integers(0, 1 << 22))
def test_more_pages_never_predict_less_downtime(model: Model, a: int, b: int) -> None:
    known = estimate(run(model)[1], COSTS)
    assert final_downtime_ms(known, min(a, b)) <= final_downtime_ms(known, max(a, b))


@given(
    st.integers(1 << 12, 1 << 22), st.integers(1, 1 << 20), st.floats(0, 0.6), st.floats(1e7, 1e10)
)
def test_a_guest_below_the_link_rate_converges(
    memory_pages: int, working_set_pages: int, share: float, bandwidth: float
) -> None:
    rate = share * bandwidth / RAW_PAGE_BYTES
    model = Model(memory_pages, min(working_set_pages, memory_pages), rate, bandwidth)
    assert run(model)[0].action is Action.SWITCH


@given(models)
def test_prediction_matches_the_model(model: Model) -> None:
    """Within 5 ms or 20 %, once there is a round to learn bandwidth from."""
    model = replace(model, memory_pages=max(model.memory_pages, 1 << 14))
    decision, history = run(model)
    real_ms = model.downtime_ms(history[-1].pending_pages)
    error_ms = abs(decision.predicted_downtime_ms - real_ms)
    assert error_ms <= max(5.0 + 2 * model.overhead_ms, 0.2 * real_ms)


def test_idle_guest_switches_after_the_second_round() -> None:
    decision, history = run(Model(1 << 18, 0, 0, LOOPBACK))
    assert decision.action is Action.SWITCH
    assert [r.sent_pages for r in history] == [1 << 18, 0]


def test_moderate_guest_ends_with_little_downtime() -> None:
    decision, history = run(Model(1 << 18, 1 << 14, 20_000, LOOPBACK))
    assert decision.action is Action.SWITCH
    assert decision.predicted_downtime_ms < 5
    assert len(history) <= 5


def test_guest_that_saturates_its_working_set_wastes_no_rounds() -> None:
    """64 MiB rewritten all the time: rounds past the first few are waste."""
    decision, history = run(Model(1 << 18, 1 << 14, 600_000, LOOPBACK))
    assert decision.action is Action.SWITCH
    assert 30 < decision.predicted_downtime_ms < 60
    assert len(history) <= 3


def test_guest_above_the_link_rate_is_given_up_soon_with_reasons() -> None:
    decision, history = run(Model(1 << 18, 1 << 18, 61_000, GBIT))
    assert decision.action is Action.GIVE_UP
    assert len(history) <= 8
    assert "the guest dirties at least 28," in decision.reason
    assert "262,144 different ones in the last" in decision.reason
    assert "the link carries 117 MB/s" in decision.reason


def test_unrehearsed_switchover_is_never_decided() -> None:
    history: list[RoundMeasurement] = []
    for _ in range(5):
        history.append(Model(1000, 0, 0, LOOPBACK).round(history))
        assert decide(history, None, PolicyOptions()).action is Action.CONTINUE


def test_nothing_sent_yet() -> None:
    assert decide([], COSTS, PolicyOptions()).action is Action.CONTINUE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PolicyOptions(max_rounds=3, downtime_limit_ms=1), "3 rounds were not enough"),
        (PolicyOptions(max_total_ms=1, downtime_limit_ms=1), "1 ms were not enough"),
    ],
)
def test_limits_on_rounds_and_time(options: PolicyOptions, words: str) -> None:
    decision, history = run(Model(1 << 18, 1 << 14, 600_000, LOOPBACK), options)
    assert decision.action is Action.GIVE_UP
    assert words in decision.reason
    assert len(history) <= 3


def test_limit_on_time_does_not_forbid_a_switch_within_the_limit() -> None:
    options = PolicyOptions(max_total_ms=1)
    assert run(Model(1 << 18, 1 << 10, 1000, LOOPBACK), options)[0].action is Action.SWITCH


def test_pages_dirtied_while_pausing_are_counted() -> None:
    model = Model(1 << 18, 1 << 14, 100_000, LOOPBACK)
    _, history = run(model)
    slow = replace(COSTS, quiesce_ms=100.0)
    quick_ms = decide(history, COSTS, PolicyOptions()).predicted_downtime_ms
    slow_ms = decide(history, slow, PolicyOptions()).predicted_downtime_ms
    assert slow_ms - quick_ms > 100.0 - COSTS.quiesce_ms + 5

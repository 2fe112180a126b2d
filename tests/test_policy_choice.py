# SPDX-License-Identifier: Apache-2.0
"""What each policy aims at, throttling, and policies of the caller's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_models import COSTS, GBIT, LOOPBACK, Model, hot_and_cold, run, scattered

from pymigrate.errors import PolicyError
from pymigrate.policy import (
    RAW_PAGE_BYTES,
    Action,
    Decision,
    PolicyKind,
    PolicyOptions,
    RoundMeasurement,
    SwitchoverCosts,
    decide,
)

# 0.7 of the link: each round leaves 0.7 of the pages of the one before.
BUSY = Model(1 << 16, 1 << 16, 20_000, GBIT)
# More than the link carries, and its working set takes 2.3 s.
TOO_FAST = Model(1 << 17, 1 << 16, 61_000, GBIT)


def options(kind: PolicyKind = PolicyKind.DOWNTIME, **more: float | None) -> PolicyOptions:
    return replace(PolicyOptions(policy=kind, time_budget_ms=60_000), **more)


def sent_bytes(model: Model, history: Sequence[RoundMeasurement]) -> float:
    return sum(r.wire_bytes for r in history) + history[-1].pending_pages * model.page_bytes


def test_minimal_traffic_sends_least_and_downtime_has_less_downtime() -> None:
    thrifty, short = run(BUSY, options(PolicyKind.MINIMAL_TRAFFIC)), run(BUSY, options())
    assert thrifty[0].action is short[0].action is Action.SWITCH
    assert sent_bytes(BUSY, thrifty[1]) < sent_bytes(BUSY, short[1])
    assert short[0].predicted_downtime_ms < thrifty[0].predicted_downtime_ms <= 300


def test_a_longer_time_budget_buys_less_downtime() -> None:
    found = [
        run(BUSY, options(PolicyKind.TIME_BUDGET, time_budget_ms=budget))
        for budget in (7_500, 7_700, 60_000)
    ]
    assert [decision.action for decision, _ in found] == [Action.SWITCH] * 3
    downtimes = [decision.predicted_downtime_ms for decision, _ in found]
    assert downtimes == sorted(downtimes, reverse=True)
    assert downtimes[0] > 2 * downtimes[2]
    for (decision, history), budget in zip(found, (7_500, 7_700), strict=False):
        assert history[-1].elapsed_ms + decision.predicted_downtime_ms <= 1.02 * budget


def test_a_time_budget_does_not_overrule_the_limit() -> None:
    decision, _ = run(TOO_FAST, options(PolicyKind.TIME_BUDGET, time_budget_ms=4_000))
    assert decision.action is Action.GIVE_UP
    late = options(PolicyKind.TIME_BUDGET, time_budget_ms=100)
    assert run(BUSY, late)[0].action is Action.GIVE_UP
    assert "the time budget of 100 ms is used up" in run(BUSY, late)[0].reason


def test_a_time_budget_has_to_be_given() -> None:
    with pytest.raises(ValueError, match="time_budget_ms"):
        PolicyOptions(policy=PolicyKind.TIME_BUDGET)


def test_what_cannot_be_reached_is_given_up_at_once() -> None:
    decision, history = run(TOO_FAST)
    assert decision.action is Action.GIVE_UP
    assert len(history) == 3
    assert "would not bring the downtime below 1,9" in decision.reason


def test_small_pages_on_the_wire_are_small_in_the_prediction() -> None:
    """A guest of 512 MiB, 8 bytes of each page changed: 200 bytes a page."""
    model = Model(1 << 17, 1 << 17, 600_000, GBIT, page_bytes=200, page_cpu_ms=0.0005)
    decision, history = run(model)
    assert decision.action is Action.SWITCH
    real_ms = model.downtime_ms(history[-1].pending_pages)
    assert decision.predicted_downtime_ms == pytest.approx(real_ms, rel=0.1)


def test_encoding_that_is_slower_than_the_link_counts() -> None:
    model = Model(1 << 17, 1 << 16, 600_000, LOOPBACK, page_bytes=200, page_cpu_ms=0.01)
    decision, history = run(model, PolicyOptions(downtime_limit_ms=900))
    assert decision.action is Action.SWITCH
    real_ms = model.downtime_ms(history[-1].pending_pages)
    assert decision.predicted_downtime_ms == pytest.approx(real_ms, rel=0.1)


def test_hot_pages_are_not_sent_again_and_again() -> None:
    growth = hot_and_cold(6_000, 1 << 18, 2_000)
    model = Model(1 << 18, 1 << 18, 0, GBIT, growth=growth)
    decision, history = run(model)
    assert decision.action is Action.SWITCH
    assert len(history) <= 5
    real_ms = model.downtime_ms(history[-1].pending_pages)
    assert decision.predicted_downtime_ms == pytest.approx(real_ms, rel=0.2)


def test_hot_pages_are_held_back_where_cold_ones_can_drain() -> None:
    """6000 hot pages take 211 ms. Sent in every round they let so many cold
    ones come that 370 ms are left; held back, the cold ones drain."""
    growth = hot_and_cold(6_000, 1 << 18, 12_000)
    model = Model(1 << 18, 1 << 18, 0, GBIT, growth=growth, hot_pages=6_000)
    decision, history = run(model)
    assert decision.action is Action.SWITCH
    assert decision.predicted_downtime_ms < 300
    assert history[-1].held_pages == 6_000
    assert run(replace(model, hot_pages=0))[0].action is Action.GIVE_UP
    real_ms = model.downtime_ms(history[-1].pending_pages)
    assert decision.predicted_downtime_ms == pytest.approx(real_ms, rel=0.2)


def test_a_guest_that_converges_holds_nothing_back() -> None:
    """Pages that a sweep met three times are not hot if windows get shorter."""
    _, history = run(replace(BUSY, hot_pages=4_000))
    assert max(r.held_pages for r in history) == 0


@given(
    st.integers(1 << 10, 1 << 18),
    st.floats(1e3, 1e6),
    st.floats(1e7, 1e10),
    st.sampled_from(list(PolicyKind)),
)
def test_no_policy_gives_up_what_a_round_would_reach(
    working_set: int, rate: float, bandwidth: float, kind: PolicyKind
) -> None:
    """Whenever the downtime after some round is within the limit, it is seen."""
    growth = scattered(working_set, rate)
    model = Model(1 << 18, working_set, 0, bandwidth, growth=growth)
    limits = options(kind, time_budget_ms=1e9)
    decision, history = run(model, limits)
    while len(history) < limits.max_rounds:
        history.append(model.round(history))
    best_ms = min(model.downtime_ms(r.pending_pages) for r in history[1:])
    if best_ms < 0.9 * limits.downtime_limit_ms:
        assert decision.action is Action.SWITCH, (best_ms, decision)


def test_throttling_is_the_last_step_before_giving_up() -> None:
    percents = []
    history: list[RoundMeasurement] = []
    limits, throttle = PolicyOptions(throttle_percent=35), 0
    while True:
        history.append(TOO_FAST.round(history, throttle))
        decision = decide(history, COSTS if len(history) > 1 else None, limits)
        if decision.action is Action.THROTTLE:
            percents.append(decision.throttle_percent)
        if decision.action is Action.GIVE_UP:
            break
        throttle = decision.throttle_percent
    assert percents == [10, 20, 30, 35]


def test_a_throttled_guest_is_switched_as_soon_as_it_fits() -> None:
    limits = PolicyOptions(throttle_percent=90)
    decision, history = run(TOO_FAST, limits)
    assert decision.action is Action.SWITCH
    assert decision.predicted_downtime_ms <= limits.downtime_limit_ms
    assert 50 < history[-1].throttle_percent <= 90


def test_a_guest_that_converges_is_never_throttled() -> None:
    _, history = run(BUSY, PolicyOptions(throttle_percent=90))
    assert max(r.throttle_percent for r in history) == 0


# ---- policies of the caller's own ------------------------------------------


def test_a_function_decides() -> None:
    asked: list[int] = []

    def patient(
        history: Sequence[RoundMeasurement],
        costs: SwitchoverCosts | None,
        limits: PolicyOptions,
    ) -> Decision:
        asked.append(len(history))
        assert limits.policy_name.endswith("patient")
        action = Action.SWITCH if costs and len(history) == 5 else Action.CONTINUE
        return Decision(action, 1.0, 2.0, "because")

    decision, history = run(BUSY, PolicyOptions(policy=patient))
    assert decision.reason == "because"
    assert asked == [1, 2, 3, 4, 5] and len(history) == 5


def test_a_function_that_raises_says_so() -> None:
    def broken(*_: object) -> Decision:
        raise ZeroDivisionError("oh")

    with pytest.raises(PolicyError, match="broken failed: ZeroDivisionError: oh"):
        run(BUSY, PolicyOptions(policy=broken))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("switch", "expected a Decision"),
        (Decision(Action.SWITCH, 0, 0, ""), "before the rehearsal"),
        (Decision(Action.THROTTLE, 0, 0, "", throttle_percent=100), "expected 0 to 99"),
    ],
)
def test_nonsense_is_refused(answer: Decision, words: str) -> None:
    def odd(*_: object) -> Decision:
        return answer

    with pytest.raises(PolicyError, match=words):
        run(BUSY, PolicyOptions(policy=odd))


def test_a_sweep_below_the_rate_of_the_link_converges_however_it_began() -> None:
    """As measured: pages that three long windows met are held for a round."""
    rounds = [
        (131_072, 131_072, 4493.0, 32_771, 0, 0),
        (32_771, 32_771, 1129.0, 27_566, 0, 0),
        (27_640, 27_640, 952.0, 23_264, 18_133, 0),
        (23_294, 5_131, 177.0, 22_484, 18_163, 18_163),
        (22_508, 4_345, 150.0, 21_801, 18_163, 18_163),
    ]
    history: list[RoundMeasurement] = []
    for dirty, sent, ms, pending, hot, held in rounds:
        elapsed_ms = ms + (history[-1].elapsed_ms if history else 0)
        history.append(
            RoundMeasurement(
                dirty_pages=dirty,
                sent_pages=sent,
                wire_bytes=sent * RAW_PAGE_BYTES,
                duration_ms=ms,
                harvest_ms=0.1,
                pending_pages=pending,
                window_ms=ms,
                elapsed_ms=elapsed_ms,
                hot_pages=hot,
                held_pages=held,
            )
        )
        if len(history) > 2:
            assert decide(history, COSTS, PolicyOptions()).action is Action.CONTINUE

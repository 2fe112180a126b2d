# SPDX-License-Identifier: Apache-2.0
"""Traces of real guests against every policy, and the best that was possible.

tests/traces holds migrations that went on for many rounds
(scripts/record_traces.py), so it is known what stopping earlier or later
would have cost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymigrate.policy import Action, Decision, PolicyKind, PolicyOptions, RoundMeasurement, decide
from pymigrate.simulation import (
    MeasuredGrowth,
    Option,
    Trace,
    TraceError,
    World,
    best_option,
    options_of,
    parse_trace,
    replay,
    trace_of,
)
from pymigrate.simulation.oracle import cost_of

TRACES = sorted((Path(__file__).parent / "traces").glob("*.json"))
LIMITS_MS = (10, 30, 100, 300, 1000)
BUDGETS_MS = (1_000, 4_000, 20_000)
# How much worse than the best switch point of all a policy may be: that is
# known only afterwards, and guests and links vary from round to round.
FACTOR = {
    PolicyKind.DOWNTIME: 1.25,
    PolicyKind.TIME_BUDGET: 1.25,
    PolicyKind.MINIMAL_TRAFFIC: 1.1,
}
# What a prediction may be off: the larger of the two.
TOLERANCE_MS = 5.0
TOLERANCE = 0.2


@cache
def load(path: Path) -> Trace:
    return parse_trace(json.loads(path.read_text()))


@cache
def all_options(path: Path) -> list[Option]:
    return options_of(load(path), PolicyOptions().max_rounds)


def all_limits(kind: PolicyKind) -> list[PolicyOptions]:
    budgets = BUDGETS_MS if kind is PolicyKind.TIME_BUDGET else (None,)
    return [
        PolicyOptions(policy=kind, downtime_limit_ms=limit, time_budget_ms=budget)
        for limit in LIMITS_MS
        for budget in budgets
    ]


def tolerance_ms(downtime_ms: float) -> float:
    return max(TOLERANCE_MS, TOLERANCE * downtime_ms)


def clearly_possible(path: Path, limits: PolicyOptions) -> Option | None:
    """The best point that keeps the limits with room for what guests vary."""
    room_ms = limits.downtime_limit_ms - tolerance_ms(limits.downtime_limit_ms)
    return best_option(all_options(path), replace(limits, downtime_limit_ms=max(room_ms, 0.1)))


def test_the_corpus_is_there() -> None:
    traces = [load(path) for path in TRACES]
    assert len(traces) >= 12
    assert all(t.costs and t.sealed and t.host["kernel"] and len(t.rounds) > 8 for t in traces)
    assert {t.config["guest"] for t in traces if "guest" in t.config} >= {
        *("sweep", "random", "partial", "read", "idle")
    }


@pytest.mark.parametrize("kind", PolicyKind, ids=lambda kind: kind.value)
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_policies_are_near_the_optimum(path: Path, kind: PolicyKind) -> None:
    for limits in all_limits(kind):
        found = replay(load(path), limits)
        best = best_option(all_options(path), limits)
        if clearly_possible(path, limits) is not None:
            assert found.action is Action.SWITCH, (limits, found.reason, best)
        if best is None or found.downtime_ms is None:
            continue
        room = tolerance_ms(limits.downtime_limit_ms)
        assert found.downtime_ms <= limits.downtime_limit_ms + room, (limits, found.reason)
        cost = cost_of(found.total_ms, found.downtime_ms, found.wire_bytes, limits)
        least = cost_of(best.total_ms, best.downtime_ms, best.wire_bytes, limits)
        grace = 0.0 if kind is PolicyKind.MINIMAL_TRAFFIC else TOLERANCE_MS
        grace *= limits.downtime_weight if kind is PolicyKind.DOWNTIME else 1.0
        assert cost <= FACTOR[kind] * least + grace, (limits, found.reason, best)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_predictions_after_each_round_come_true(path: Path) -> None:
    """Nearly all within 20 % or 5 ms of what the next round showed."""
    trace, wrong = load(path), []
    world, lenient = World(trace), PolicyOptions(downtime_limit_ms=1e6, max_rounds=1000)
    for done in range(trace.rehearsed_rounds, len(trace.rounds) + 1):
        history = trace.rounds[:done]
        decision = decide(history, world.costs, lenient)
        real_ms = world.downtime_ms(history)
        if abs(decision.predicted_downtime_ms - real_ms) > tolerance_ms(real_ms):
            wrong.append((done, decision.predicted_downtime_ms, real_ms))
    assert len(wrong) <= 0.2 * len(trace.rounds), wrong


SETTLED_HIGH = [
    path
    for path in TRACES
    if path.stem
    in ("sweep-above-1gbit", "sweep-small-1gbit", "random-above-1gbit", "partial-fast-1gbit")
]


@pytest.mark.parametrize("path", SETTLED_HIGH, ids=lambda path: path.stem)
def test_what_cannot_be_reached_is_said_early(path: Path) -> None:
    """Where no round comes near the limit, six rounds settle that."""
    least_ms = min(option.downtime_ms for option in all_options(path))
    limits = PolicyOptions(downtime_limit_ms=least_ms / 3)
    found = replay(load(path), limits)
    assert found.action is Action.GIVE_UP
    assert len(found.rounds) <= 6, found.reason


def test_throttling_makes_a_guest_fit() -> None:
    path = next(path for path in TRACES if path.stem == "sweep-above-1gbit")
    limits = PolicyOptions(throttle_percent=90)
    assert replay(load(path), replace(limits, throttle_percent=0)).action is Action.GIVE_UP
    found = replay(load(path), limits)
    assert found.action is Action.SWITCH
    assert found.downtime_ms is not None and found.downtime_ms <= 300
    assert not found.rounds[-1].recorded


# ---- the parts -------------------------------------------------------------


def test_a_replay_that_agrees_with_the_recording_is_the_recording() -> None:
    trace = load(TRACES[0])

    def patient(history: Sequence[RoundMeasurement], *_: object) -> Decision:
        done = len(history) == len(trace.rounds)
        return Decision(Action.SWITCH if done else Action.CONTINUE, 0.0, 0.0, "")

    found = replay(trace, PolicyOptions(policy=patient))
    assert [r.measured for r in found.rounds] == list(trace.rounds)
    assert all(r.recorded for r in found.rounds)
    assert trace.sealed and found.rounds[-1].downtime_ms == trace.sealed.downtime_ms
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_trace_survives_json() -> None:
    trace = load(TRACES[0])
    assert parse_trace(json.loads(json.dumps(trace.to_dict()))) == trace


def report(**more: Any) -> dict[str, Any]:
    rounds = [
        {**vars(r), "kind": "fuzzy", "epoch": number}
        for number, r in enumerate(load(TRACES[0]).rounds[:4], 1)
    ]
    sealed = {**rounds[-1], "kind": "sealed", "sent_pages": 7}
    return {
        "schema": "pymigrate.report/1", "rounds": [*rounds, sealed], "predicted_downtime_ms": 2.0,
        "downtime": {"total_ms": 3.0}, "rehearsal": {"capture_ms": 1.0, "state_bytes": 9}, **more,
    }  # fmt: skip


def test_a_report_is_a_trace() -> None:
    trace = parse_trace(report())
    assert trace == trace_of(report())
    assert len(trace.rounds) == 4
    assert trace.sealed and (trace.sealed.pages, trace.sealed.downtime_ms) == (7, 3.0)
    assert trace.costs and trace.costs.capture_ms == 1.0
    assert trace_of(report(downtime=None)).sealed is None
    assert trace_of(report(rehearsal=None)).rehearsed_rounds == 1


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"schema": "x"},
        {"schema": "pymigrate.trace/1"},
        {"schema": "pymigrate.trace/1", "rounds": []},
        {"schema": "pymigrate.trace/1", "rounds": [{}]},
        {"schema": "pymigrate.trace/1", "rounds": [7]},
        report(rounds=[]),
        report(rounds=[{**report()["rounds"][0], "wire_bytes": -1}]),
        report(rounds=[{**report()["rounds"][0], "wire_bytes": math.inf}]),
        report(rounds=[{**report()["rounds"][0], "wire_bytes": "4"}]),
        report(rounds=[{"epoch": 1}]),
        {**load(TRACES[0]).to_dict(), "growth": [[1]]},
        {**load(TRACES[0]).to_dict(), "costs": 1},
    ],
    ids=range(14),
)
def test_what_is_no_trace_is_refused(document: Any) -> None:
    with pytest.raises(TraceError):
        parse_trace(document)


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.integers(0, 1 << 30)), max_size=20))
def test_measured_growth_never_falls(samples: list[tuple[float, int]]) -> None:
    growth = MeasuredGrowth(samples)
    found = [growth.pages(ms) for ms in (0, 0.01, 0.5, 1, 10, 1e3, 1e5, 1e7)]
    assert found == sorted(found) and found[0] == 0
    assert found[-1] <= max((pages for _, pages in samples), default=0) * (1 + 1e-9)


def test_measured_growth_goes_through_what_was_measured() -> None:
    growth = MeasuredGrowth([(100, 50), (10, 20), (1000, 60)])
    assert [growth.pages(ms) for ms in (5, 10, 55, 100, 1000, 5000)] == [10, 20, 35, 50, 60, 60]


def test_a_round_past_the_recording_is_made_from_it() -> None:
    trace = load(next(path for path in TRACES if path.stem == "sweep-small-1gbit"))
    made: RoundMeasurement = World(trace).next_round(trace.rounds)
    last = trace.rounds[-1]
    assert made.sent_pages == last.pending_pages
    assert made.duration_ms == pytest.approx(last.duration_ms, rel=0.1)
    assert made.pending_pages == pytest.approx(last.pending_pages, rel=0.1)

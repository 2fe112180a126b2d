# SPDX-License-Identifier: Apache-2.0
"""A policy of the caller's own in a real migration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from fault_pair import (
    MIB,
    Receiver,
    check_intact,
    check_migrated,
    migrate_well,
    options,
    run_on,
    small,
)
from fault_pair import migrate as migrate_vm
from fault_proxy import Proxy
from migration_checks import assert_at_destination, assert_at_source
from migration_kit import migrate, receiving, running_guest

from pymigrate import Choice, Compression, Outcome, PolicyOptions, TrackerKind
from pymigrate import Guest as Owner
from pymigrate.policy import Action, Decision, RoundMeasurement, SwitchoverCosts, decide
from pymigrate.vmm import Backend, Content, Vm

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def test_it_decides_every_round() -> None:
    def six_rounds(
        history: Sequence[RoundMeasurement],
        costs: SwitchoverCosts | None,
        options: PolicyOptions,
    ) -> Decision:
        decision = decide(history, costs, replace(options, policy=PolicyOptions().policy))
        action = Action.SWITCH if len(history) == 6 else Action.CONTINUE
        return replace(decision, action=action, reason=f"round {len(history)} of 6")

    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address, policy=PolicyOptions(policy=six_rounds))
        assert report.outcome is Outcome.COMPLETED, report.error
        assert_at_destination(guest, side)
    fuzzy = [done for done in report.rounds if done.kind == "fuzzy"]
    assert [done.reason for done in fuzzy] == [f"round {n} of 6" for n in range(1, 7)]
    assert report.config["policy"]["policy"].endswith("six_rounds")
    assert report.prediction_error_ms is not None


@pytest.mark.parametrize("when", [1, 3])
def test_an_exception_in_it_leaves_the_guest_at_the_source(when: int) -> None:
    def broken(history: Sequence[RoundMeasurement], *_: object) -> Decision:
        if len(history) == when:
            raise KeyError("no such guest")
        return Decision(Action.CONTINUE, 0.0, 0.0, "")

    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address, policy=PolicyOptions(policy=broken))
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert report.error and "broken failed: KeyError: 'no such guest'" in report.error
        assert_at_source(guest, side)


def test_it_may_give_up() -> None:
    def never(*_: object) -> Decision:
        return Decision(Action.GIVE_UP, 0.0, 0.0, "not today")

    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address, policy=PolicyOptions(policy=never))
        assert (report.outcome, report.guest) == (Outcome.NOT_CONVERGED, Owner.SOURCE)
        assert report.error == "not converged: not today"
        assert_at_source(guest, side)


# ---- throttling ------------------------------------------------------------


def throttling(at_round: int, percent: int, end: Action, last: int = 6) -> PolicyOptions:
    """Throttle after one round, and end after another."""

    def policy(history: Sequence[RoundMeasurement], *_: object) -> Decision:
        if len(history) == at_round:
            return Decision(Action.THROTTLE, 0.0, 0.0, "", throttle_percent=percent)
        return Decision(end if len(history) == last else Action.CONTINUE, 1.0, 0.0, "the end")

    return PolicyOptions(policy=policy, throttle_percent=90)


@pytest.mark.parametrize("end", [Action.SWITCH, Action.GIVE_UP])
def test_throttling_is_taken_back_before_the_guest_goes_on(end: Action) -> None:
    with running_guest() as guest, receiving() as side:
        asked: list[tuple[int, bool]] = []

        def throttle(percent: int) -> None:
            asked.append((percent, guest.running))

        guest.machine._throttle = throttle
        report = migrate(guest, side.address, policy=throttling(4, 30, end))
        if end is Action.SWITCH:
            assert report.outcome is Outcome.COMPLETED, report.error
            # Released while it was paused.
            assert asked == [(0, True), (30, True), (0, False)]
        else:
            assert (report.outcome, report.guest) == (Outcome.NOT_CONVERGED, Owner.SOURCE)
            assert [percent for percent, _ in asked] == [0, 30, 0]
    fuzzy = [done.throttle_percent for done in report.rounds if done.kind == "fuzzy"]
    assert fuzzy == [0, 0, 0, 0, 30, 30]


def test_a_fault_takes_throttling_back() -> None:
    asked: list[int] = []
    with running_guest() as guest, receiving() as side:
        guest.machine._throttle = asked.append
        guest.fail["save_state"] = "no"

        def early(history: Sequence[RoundMeasurement], *_: object) -> Decision:
            return Decision(Action.THROTTLE, 0.0, 0.0, "", throttle_percent=20)

        report = migrate(
            guest, side.address, policy=PolicyOptions(policy=early, throttle_percent=90)
        )
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert asked == [0, 20, 0]
        assert_at_source(guest, side)


def test_a_machine_that_cannot_be_throttled_is_refused_at_once() -> None:
    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address, policy=PolicyOptions(throttle_percent=50))
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert report.error and "cannot be throttled: leave throttling off" in report.error
        assert not report.rounds
        assert_at_source(guest, side)


@pytest.mark.uffd
def test_a_guest_that_is_too_fast_is_throttled_until_it_fits() -> None:
    """The reference VMM's writers over a slow link; nothing is lost."""
    config = small(
        backend=Backend.THREADS,
        memory_bytes=16 * MIB,
        working_set_bytes=8 * MIB,
        dirty_rate_pages_per_s=None,
        content=Content.ZERO,
    )
    settings = options(
        compression=Compression.NONE,
        delta=Choice.OFF,
        policy=PolicyOptions(downtime_limit_ms=250, throttle_percent=99),
    )
    with Vm(config, populate=True) as vm:
        vm.resume()
        run_on(vm, 1)
        with (
            Receiver("tcp:127.0.0.1:0", options()) as receiver,
            Proxy(receiver.address, 12 * MIB) as proxy,
        ):
            report = migrate_vm(vm, proxy.address, settings)
            assert max(done.throttle_percent for done in report.rounds) >= 10, report.error
            assert vm.throttled().percent == 0
            if report.outcome is Outcome.COMPLETED:
                check_migrated(vm, receiver, report)
                return
            # How much slower throttled writers are depends on the host.
            assert report.outcome is Outcome.NOT_CONVERGED, report.error
        check_intact(vm)


# ---- hot pages -------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "tracker"),
    [
        pytest.param(Backend.THREADS, TrackerKind.UFFD_WP, marks=pytest.mark.uffd),
        pytest.param(Backend.KVM, TrackerKind.KVM_LOG, marks=pytest.mark.kvm),
        pytest.param(Backend.KVM, TrackerKind.KVM_RING, marks=pytest.mark.kvm),
    ],
    ids=lambda value: value.value,
)
def test_pages_that_are_held_back_arrive(backend: Backend, tracker: TrackerKind) -> None:
    """Whatever finds the writes: every page is compared, and every counter."""

    config = small(backend=backend, tracker=tracker, dirty_rate_pages_per_s=None)
    with Vm(config, populate=True) as vm:

        def hold(history: Sequence[RoundMeasurement], *_: object) -> Decision:
            # Every page is written before the next round.
            run_on(vm)
            # Let go for one round in between, so that all ways are gone.
            done = len(history)
            action = Action.SWITCH if done == 9 else Action.CONTINUE
            return Decision(action, 1.0, 0.0, "", hold=done != 6)

        policy = PolicyOptions(policy=hold, downtime_limit_ms=60_000)
        vm.resume()
        report = migrate_well(vm, "tcp:127.0.0.1:0", options(tracker=tracker, policy=policy))
    held = [done.held_pages for done in report.rounds]
    assert held[:3] == [0, 0, 0] and max(held) > 0, held
    assert held[6] == held[-1] == 0, held

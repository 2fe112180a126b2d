# SPDX-License-Identifier: Apache-2.0
"""A policy of the caller's own in a real migration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from migration_checks import assert_at_destination, assert_at_source
from migration_kit import migrate, receiving, running_guest

from pymigrate import Guest as Owner
from pymigrate import Outcome, PolicyOptions
from pymigrate.policy import Action, Decision, RoundMeasurement, SwitchoverCosts, decide

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

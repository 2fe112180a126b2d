# SPDX-License-Identifier: Apache-2.0
"""COMMIT was sent, and its answer did not come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from migration_checks import assert_at_destination, assert_at_source, at
from migration_kit import FAST, Guest, Wires, migrate, receiving, running_guest

from pymigrate import DestinationState, ExitCode, Outcome, Source, SourceState
from pymigrate import Guest as Owner

S, D = SourceState, DestinationState

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def test_answer_lost_after_running_is_resolved() -> None:
    """RUNNING never arrives; the source asks and learns that it runs."""
    actions: list[Any] = []
    options = replace(FAST, on_state=at(D.RUNNING, lambda: actions[0]()))
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        actions.append(wires.cut)
        report = migrate(guest, wires)
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
        assert side.join().outcome is Outcome.COMPLETED
        assert_at_destination(guest, side)


def test_commit_lost_is_sent_again() -> None:
    """COMMIT never arrives; the destination waits, prepared, and is told again."""
    with running_guest() as guest, receiving() as side:
        wires = Wires(side.address)
        report = migrate(guest, wires, on_state=at(S.COMMITTING, wires.cut))
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
        assert side.join().outcome is Outcome.COMPLETED
        assert_at_destination(guest, side)


def in_doubt(guest: Guest, wires: Wires, state: Any, **more: Any) -> Source:
    """A source in doubt: the wires are down from a state on."""
    hook = at(state, lambda: wires.cut(down=True))
    options = replace(FAST, resolve_timeout_ms=100, on_state=hook, **more)
    source = Source(guest.machine, wires, options)
    report = source.migrate()
    assert (report.outcome, report.guest) == (Outcome.IN_DOUBT, Owner.UNKNOWN)
    assert report.exit_code is ExitCode.OPERATOR
    assert "in doubt" in str(report.error)
    assert not guest.running
    assert source.state is S.IN_DOUBT
    return source


@pytest.mark.parametrize("abort", [False, True])
def test_prepared_destination_does_what_the_operator_says(abort: bool) -> None:
    options = replace(FAST, prepared_timeout_ms=20_000)
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        with in_doubt(guest, wires, S.COMMITTING) as source:
            wires.is_down = False
            report = source.resolve(abort=abort)
            with pytest.raises(RuntimeError, match="nothing to resolve"):
                source.resolve()
        wires.close()
        there = side.join()
        if abort:
            assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
            assert there.outcome is Outcome.FAILED
            assert_at_source(guest, side)
        else:
            assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
            assert there.outcome is Outcome.COMPLETED
            assert_at_destination(guest, side)


def test_destination_that_gave_up_waiting_says_so() -> None:
    options = replace(FAST, prepared_timeout_ms=50)
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        with in_doubt(guest, wires, S.COMMITTING) as source:
            assert side.join().outcome is Outcome.FAILED
            wires.is_down = False
            report = source.resolve()
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert "did not run the guest" in str(report.error)
        assert_at_source(guest, side)


def test_abort_comes_too_late_for_a_running_guest() -> None:
    actions: list[Any] = []
    options = replace(FAST, on_state=at(D.RUNNING, lambda: actions[0]()))
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        actions.append(lambda: wires.cut(down=True))
        with in_doubt(guest, wires, None) as source:
            wires.is_down = False
            report = source.resolve(abort=True)
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
        side.join()
        assert_at_destination(guest, side)


def test_destination_without_memory_of_the_session_leaves_it_in_doubt() -> None:
    with running_guest() as guest, receiving() as side:
        wires = Wires(side.address)
        with in_doubt(guest, wires, S.COMMITTING) as source, receiving() as other:
            wires.is_down, wires.address = False, other.address
            report = source.resolve()
            assert report.outcome is Outcome.IN_DOUBT
            assert "knows nothing of this session" in str(report.error)
            assert not guest.running
        wires.close()


def test_hook_before_the_first_instruction_may_still_say_no() -> None:
    with running_guest() as guest, receiving(fail={"before_run": "no clock"}) as side:
        report = migrate(guest, side.address)
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert "no clock" in str(report.error)
        assert side.join().outcome is Outcome.FAILED
        assert_at_source(guest, side)
        assert side.guest.closed


def test_resume_that_breaks_half_way_needs_an_operator() -> None:
    with running_guest() as guest, receiving(fail={"resume": "vCPU 1 is stuck"}) as side:
        report = migrate(guest, side.address)
        assert (report.outcome, report.guest) == (Outcome.IN_DOUBT, Owner.UNKNOWN)
        assert "vCPU 1 is stuck" in str(report.error)
        assert side.join().outcome is Outcome.IN_DOUBT
        assert not guest.running
        side.guest.fail.clear()

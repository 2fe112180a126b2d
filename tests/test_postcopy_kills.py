# SPDX-License-Identifier: Apache-2.0
"""Either process is killed (SIGKILL) while pages follow a guest that has moved."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fault_child import Side, destination, source
from fault_pair import LIMIT_S, MIB, Attempt, Receiver, build, options, run_on
from late_case import SHORT, roaming

from pymigrate.policy import PolicyOptions, PostCopy
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.states import DestinationState, SourceState, State
from pymigrate.vmm import Vm

S, D = SourceState, DestinationState

pytestmark = [pytest.mark.kvm, pytest.mark.uffd]

CHANGES: dict[str, Any] = {
    **SHORT,
    "policy": PolicyOptions(downtime_limit_ms=3000, post_copy=PostCopy.NOW),
    "bandwidth_limit_bytes_per_s": 16 * MIB,
    "recover_timeout_ms": 500,
}


class At:
    """Acts when a child comes to a state, which it then does not leave."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.act: Any = None
        self.reached = threading.Event()

    def __call__(self, state: State) -> None:
        if state is self._state:
            self.reached.set()
            self.act()


@pytest.mark.parametrize("state", [S.PREPARED, S.POSTCOPY])
def test_source_is_killed(state: SourceState) -> None:
    """After COMMIT the guest goes on, and says how much of it is gone."""
    at = At(state)
    config = roaming(working_set_bytes=MIB)
    with Receiver("tcp:127.0.0.1:0", options(**CHANGES)) as receiver:
        with Side(source, receiver.address, config, CHANGES, on_state=at) as killed:
            at.act = killed.kill
            killed.wait_killed()
        receiver.join()
        assert receiver.report is not None
        if state is S.PREPARED:
            assert receiver.report.outcome is Outcome.FAILED
            assert receiver.take() is None
            return
        assert receiver.report.outcome is Outcome.INCOMPLETE
        assert receiver.report.guest is Owner.DESTINATION
        assert receiver.report.missing_pages > 0
        assert receiver.destination.missing_pages == receiver.report.missing_pages
        assert receiver.destination.state is D.LOST
        machine = receiver.take()
        assert machine is not None and machine.status().running


@pytest.mark.parametrize("state", [D.PREPARED, D.COMMITTED, D.POSTCOPY])
def test_destination_is_killed(state: DestinationState) -> None:
    """Until COMMIT the guest goes on here; after it, it never runs here again."""
    at = At(state)
    with Vm(roaming(), populate=True) as vm:
        vm.resume()
        run_on(vm, 1)
        with Side(destination, CHANGES, build, on_state=at) as killed:
            at.act = killed.kill
            attempt = Attempt(vm, killed.wait("address"), options(**CHANGES))
            with attempt.source:
                report = attempt.migrate()
                killed.wait_killed()
                assert at.reached.wait(LIMIT_S)
                if state is D.PREPARED:
                    assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
                    run_on(vm)
                    return
                expected = (Outcome.IN_DOUBT, Outcome.INCOMPLETE)
                assert report.outcome in expected, report.error
                assert report.guest is not Owner.SOURCE
                assert not vm.status().running
                again = (
                    attempt.resolve()
                    if report.outcome is Outcome.IN_DOUBT
                    else attempt.recover(None)
                )
                assert again.outcome is report.outcome
                assert not vm.status().running

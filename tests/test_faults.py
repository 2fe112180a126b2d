# SPDX-License-Identifier: Apache-2.0
"""Connections break at every state of the protocol.

Afterwards exactly one side owns the guest, or the source is honestly in doubt
until it may ask again; the owner's guest is whole and goes on; and where that
is the source, a second attempt succeeds. Each fault meets pages that travel in
another way.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fault_case import check_owner, settle, stage_for
from fault_pair import Attempt, Receiver
from fault_routes import DESTINATION, PLACES, SOURCE, Place, Route, route_to
from fault_tunings import AUTO, LITTLE_MEMORY, RAW, ZSTD_DELTA, Tuning

from pymigrate import Report
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.states import DestinationState, SourceState
from pymigrate.vmm import Vm

pytestmark = pytest.mark.uffd

# These are noticed at once; for the others time has to pass, so that many
# cases wait beside each other.
CUTS = {
    "cut control": AUTO,
    "cut first data": RAW,
    "cut last data": LITTLE_MEMORY,
    "cut all": ZSTD_DELTA,
}
OUTAGES = {"vanish": AUTO, "swallow": LITTLE_MEMORY}
BROKEN = Place(DESTINATION, DestinationState.BROKEN)


def break_at(place: Place, fault: str, tuning: Tuning) -> None:
    """One case, from the running guest to its owner."""
    route = route_to(place)
    route = replace(route, options={**tuning, **route.options})
    with stage_for(route) as (stage, vm, receiver, attempt):
        stage.plan(place, fault)
        report = attempt.migrate()
        stage.heal()
        if place == BROKEN:
            check_broken(vm, receiver, attempt, report)
        else:
            settle(vm, receiver, attempt, report)
        assert place in stage.reached, report.error


@pytest.mark.parametrize("fault", CUTS)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_connections_end_at_every_state(place: Place, fault: str) -> None:
    break_at(place, fault, CUTS[fault])


@pytest.mark.parametrize("fault", OUTAGES)
def test_network_fails_at_every_state(fault: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        cases = {place: pool.submit(break_at, place, fault, OUTAGES[fault]) for place in PLACES}
    failures = {str(place): case.exception() for place, case in cases.items()}
    assert not {place: error for place, error in failures.items() if error}


def check_broken(vm: Vm, receiver: Receiver, attempt: Attempt, report: Report) -> None:
    """Half resumed is nobody's: an operator is needed, and nothing runs."""
    for found in (report, attempt.resolve()):
        assert found.outcome is Outcome.IN_DOUBT
        assert found.guest is Owner.UNKNOWN
    receiver.join()
    assert receiver.report is not None and receiver.report.outcome is Outcome.IN_DOUBT
    assert not vm.status().running
    machine = receiver.take()
    assert machine is not None and not machine.status().running


@pytest.mark.parametrize("abort", [False, True], ids=["commit", "abort"])
def test_operator_settles_what_is_in_doubt(abort: bool) -> None:
    """COMMIT never arrived: a prepared destination does what it is told then."""
    with stage_for(Route()) as (stage, vm, receiver, attempt):
        stage.plan(Place(SOURCE, SourceState.COMMITTING), "vanish")
        report = attempt.migrate()
        assert report.outcome is Outcome.IN_DOUBT
        assert receiver.take() is None and not vm.status().running
        stage.heal()
        report = attempt.resolve(abort)
        assert report.guest is (Owner.SOURCE if abort else Owner.DESTINATION)
        check_owner(vm, receiver, report)

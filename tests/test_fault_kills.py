# SPDX-License-Identifier: Apache-2.0
"""Either process is killed (SIGKILL) at every state of the protocol.

The killed side stops at its state and is killed there, so nothing it might
have said or done afterwards happens. The side that is left must know who owns
the guest, or say that it cannot know.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from fault_case import SHORT, running_vm
from fault_child import Side, destination, source
from fault_pair import (
    MIB,
    Attempt,
    Receiver,
    build,
    check_intact,
    check_migrated,
    migrate,
    migrate_well,
    options,
    small,
)
from fault_proxy import Proxy, Way
from fault_routes import (
    DESTINATION,
    DESTINATION_PLACES,
    SOURCE,
    SOURCE_PLACES,
    Place,
    Route,
    Stage,
    route_to,
)
from fault_tunings import DELTA, LZ4_DELTA, RAW, ZSTD_DELTA, Tuning

from pymigrate import Report
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.states import DestinationState, SourceState
from pymigrate.vmm import Backend, Vm

pytestmark = pytest.mark.uffd

# One data connection, which so carries all of it.
TUNINGS: list[Tuning] = [
    {**tuning, "channels": 1} for tuning in (RAW, DELTA, LZ4_DELTA, ZSTD_DELTA)
]
SEEDS = range(len(TUNINGS))
# A good deal less than it takes.
FIRST_ROUND_BYTES = [5 * MIB, 5 * MIB, 1 * MIB, 1 * MIB]
# The source has said COMMIT, or cannot deny it, from here on.
COMMITTED = {SourceState.COMPLETED, SourceState.RESOLVING, SourceState.IN_DOUBT}
# COMMIT has come, and nothing that was said since can have left.
DECIDED = {DestinationState.COMMITTED, DestinationState.RUNNING, DestinationState.BROKEN}


@pytest.mark.parametrize("place", SOURCE_PLACES, ids=str)
def test_source_is_killed_at_every_state(place: Place) -> None:
    route = route_to(place)
    stage = Stage(route)
    there = options(**SHORT, on_state=stage.hook(DESTINATION))
    with (
        Receiver("tcp:127.0.0.1:0", there, route.factory) as receiver,
        Proxy(receiver.address) as proxy,
    ):
        stage.proxy = proxy
        config = small(backend=Backend.THREADS)
        changes: dict[str, Any] = {**SHORT, **route.options}
        with Side(source, proxy.address, config, changes, on_state=stage.hook(SOURCE)) as killed:
            stage.plan(place, killed.kill)
            killed.wait_killed()
        assert place in stage.reached
        if place.state is not SourceState.CONNECTING:
            # Where nobody came it serves the next one.
            receiver.join()
            check_left_destination(receiver, committed=place.state in COMMITTED)
            receiver.serve()
        with running_vm() as another:
            report = migrate(another, receiver.address, options())
            check_migrated(another, receiver, report)


def check_left_destination(receiver: Receiver, *, committed: bool) -> None:
    """It runs the guest if it was told to, and only then."""
    assert receiver.report is not None
    if committed:
        assert receiver.report.outcome is Outcome.COMPLETED
        with receiver.destination.take_machine() as machine:
            assert isinstance(machine, Vm)
            check_intact(machine)
    else:
        assert receiver.report.outcome is Outcome.FAILED
        assert receiver.report.error
        assert receiver.take() is None


@pytest.mark.parametrize("place", DESTINATION_PLACES, ids=str)
def test_destination_is_killed_at_every_state(place: Place) -> None:
    route = route_to(place)
    stage = Stage(route)
    on_state = stage.hook(DESTINATION)
    with (
        running_vm() as vm,
        Side(destination, dict(SHORT), route.factory, on_state=on_state) as killed,
        Proxy(killed.wait("address")) as proxy,
    ):
        stage.proxy = proxy
        stage.plan(place, killed.kill)
        changes = {**SHORT, **route.options}
        attempt = Attempt(vm, proxy.address, options(**changes, on_state=stage.hook(SOURCE)))
        with attempt.source:
            report = attempt.migrate()
            killed.wait_killed()
            assert place in stage.reached
            if place.state in DECIDED:
                for found in (report, attempt.resolve()):
                    assert found.outcome is Outcome.IN_DOUBT
                    assert found.guest is Owner.UNKNOWN
                assert not vm.status().running
                return
        check_left_source(vm, report)


def check_left_source(vm: Vm, report: Report) -> None:
    """It lost nothing, and finds another destination."""
    assert report.outcome is Outcome.FAILED
    assert report.guest is Owner.SOURCE
    assert report.error
    check_intact(vm)
    vm.resume()
    migrate_well(vm, "tcp:127.0.0.1:0", options())


@pytest.mark.parametrize("seed", SEEDS)
def test_destination_is_killed_within_the_stream(seed: int) -> None:
    on_state = Stage(Route()).hook(DESTINATION)
    with (
        running_vm() as vm,
        Side(destination, dict(SHORT), build, on_state=on_state) as killed,
        Proxy(killed.wait("address")) as proxy,
    ):
        proxy.after(*somewhere(seed), killed.kill)
        report = migrate(vm, proxy.address, options(**SHORT, **TUNINGS[seed]))
        killed.wait_killed()
        check_left_source(vm, report)


@pytest.mark.parametrize("seed", SEEDS)
def test_source_is_killed_within_the_stream(seed: int) -> None:
    with (
        Receiver("tcp:127.0.0.1:0", options(**SHORT)) as receiver,
        Proxy(receiver.address) as proxy,
    ):
        config = small(backend=Backend.THREADS)
        on_state = Stage(Route()).hook(SOURCE)
        changes = {**SHORT, **TUNINGS[seed]}
        with Side(source, proxy.address, config, changes, on_state=on_state) as killed:
            proxy.after(*somewhere(seed), killed.kill)
            killed.wait_killed()
            receiver.join()
        check_left_destination(receiver, committed=False)


def somewhere(seed: int) -> tuple[Way, int]:
    """A place within the first round."""
    chosen = random.Random(seed)
    return Way("data", 0), chosen.randrange(1, FIRST_ROUND_BYTES[seed])

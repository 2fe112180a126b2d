# SPDX-License-Identifier: Apache-2.0
"""Guests that dirty faster than the link carries, and owners who give up."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fault_case import settle, stage_for
from fault_pair import (
    LIMIT_S,
    MIB,
    SLOWDOWN,
    Receiver,
    check_intact,
    migrate,
    migrate_well,
    options,
    run_on,
    small,
)
from fault_proxy import Proxy
from fault_routes import DESTINATION_PLACES, SOURCE, SOURCE_PLACES, Place, Route, route_to

from pymigrate import Choice, Compression, Report
from pymigrate.policy import PolicyOptions
from pymigrate.report import ExitCode, Outcome
from pymigrate.report import Guest as Owner
from pymigrate.states import DestinationState, SourceState, State
from pymigrate.vmm import Backend, Content, Vm

# Both rates, in the words of the policy.
RATES = re.compile(r"dirties at least [\d,]+ pages/s \([\d,]+ MB/s.*the link carries [\d,]+ MB/s")
SLOW_LINK_BYTES_PER_S = 12 * MIB
# Until COMMIT the owner of the source has the say; later it is too late, and
# what has failed already has failed.
S = SourceState
STILL_SOURCE = {
    *(S.CONNECTING, S.HANDSHAKE, S.CHANNELS, S.PRECOPY, S.REHEARSING, S.QUIESCING),
    *(S.CAPTURING, S.FINAL_ROUND, S.PREPARING, S.PREPARED, S.VERIFYING),
}


def check_not_converged(vm: Vm, report: Report) -> None:
    assert report.outcome is Outcome.NOT_CONVERGED, report.error
    assert report.guest is Owner.SOURCE
    assert report.exit_code is ExitCode.NOT_CONVERGED
    assert report.error and RATES.search(report.error), report.error
    check_intact(vm)


@pytest.mark.uffd
def test_guest_that_dirties_faster_than_the_link() -> None:
    config = small(
        backend=Backend.THREADS,
        memory_bytes=16 * MIB,
        working_set_bytes=8 * MIB,
        dirty_rate_pages_per_s=None,
        content=Content.ZERO,
    )
    settings = options(
        policy=PolicyOptions(downtime_limit_ms=100),
        compression=Compression.NONE,
        delta=Choice.OFF,
    )
    with Vm(config, populate=True) as vm:
        vm.resume()
        run_on(vm, 1)
        with (
            Receiver("tcp:127.0.0.1:0", options()) as receiver,
            Proxy(receiver.address, SLOW_LINK_BYTES_PER_S) as proxy,
        ):
            report = migrate(vm, proxy.address, settings)
            receiver.join()
            assert receiver.take() is None
        check_not_converged(vm, report)
        vm.resume()
        migrate_well(vm, "tcp:127.0.0.1:0", options())


@pytest.mark.kvm
@pytest.mark.netns
def test_demo_over_a_link_that_is_too_slow(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    guest = "--memory 16M --working-set 8M --content zero --vcpus 2 --dirty-rate unlimited"
    link = "--link 100mbit --compress none --delta off"
    line = f"demo {guest} {link} --downtime-limit-ms 100 --run-for 100ms --json {path}"
    done = subprocess.run(
        [sys.executable, "-m", "pymigrate", *line.split()],
        capture_output=True,
        text=True,
        timeout=3 * LIMIT_S,
        check=False,
    )
    assert done.returncode == ExitCode.NOT_CONVERGED, done.stderr
    report = json.loads(path.read_text())
    assert report["outcome"] == "not-converged"
    assert report["guest"] == "source"
    assert RATES.search(report["error"]), report["error"]
    assert report["oracle"]["ok"] and report["proof"]["ok"]


@pytest.mark.uffd
@pytest.mark.parametrize("place", SOURCE_PLACES, ids=str)
def test_source_cancels_at_every_state(place: Place) -> None:
    with stage_for(route_to(place)) as (stage, vm, receiver, attempt):
        stage.plan(place, "cancel")
        report = attempt.migrate()
        assert place in stage.reached, report.error
        if place.state in STILL_SOURCE:
            assert report.outcome is Outcome.CANCELLED
            assert report.exit_code is ExitCode.NOT_CONVERGED
        else:
            assert (report.outcome is Outcome.CANCELLED) == (place.state is S.CANCELLED)
        stage.heal()
        settle(vm, receiver, attempt, report)


@pytest.mark.uffd
@pytest.mark.parametrize("place", DESTINATION_PLACES, ids=str)
def test_destination_cancels_at_every_state(place: Place) -> None:
    with stage_for(route_to(place)) as (stage, vm, receiver, attempt):
        stage.plan(place, receiver.destination.cancel)
        report = attempt.migrate()
        stage.heal()
        if place.state is DestinationState.BROKEN:
            assert report.outcome is Outcome.IN_DOUBT
            assert not vm.status().running
            return
        settle(vm, receiver, attempt, report)
        assert place in stage.reached, report.error
        completed = place.state in (DestinationState.COMMITTED, DestinationState.RUNNING)
        assert completed == (not vm.status().running and receiver.take() is not None)


@pytest.mark.uffd
@pytest.mark.parametrize("seed", range(6))
def test_cancel_at_any_time(seed: int) -> None:
    """Timers do not care for states: cancel somewhere within the migration."""
    delay_s = random.Random(seed).uniform(0, 0.15) * SLOWDOWN
    with stage_for(Route()) as (stage, vm, receiver, attempt):
        timer = threading.Timer(delay_s, stage.break_by, ("cancel",))
        stage.plan(Place(SOURCE, SourceState.CONNECTING), timer.start)
        report = attempt.migrate()
        timer.join()
        assert report.outcome in (Outcome.CANCELLED, Outcome.COMPLETED)
        settle(vm, receiver, attempt, report)


@pytest.mark.uffd
def test_interrupt_cancels_the_command() -> None:
    """SIGINT in the middle of the first round: exit code 3."""
    receiving = threading.Event()

    def on_state(state: State) -> None:
        if state is DestinationState.RECEIVING:
            receiving.set()

    guest = "--backend threads --memory 16M --working-set 1M --content random"
    with (
        Receiver("tcp:127.0.0.1:0", options(on_state=on_state)) as receiver,
        Proxy(receiver.address, SLOW_LINK_BYTES_PER_S) as proxy,
    ):
        line = [sys.executable, "-m", "pymigrate", "send", proxy.address, *guest.split()]
        with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
            try:
                assert receiving.wait(LIMIT_S)
                child.send_signal(signal.SIGINT)
                words = child.communicate(timeout=LIMIT_S)[1]
            finally:
                child.kill()
        assert child.returncode == ExitCode.NOT_CONVERGED, words
        receiver.join()
        assert receiver.take() is None

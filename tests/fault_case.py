# SPDX-License-Identifier: Apache-2.0
"""One case: both sides, a proxy between them, and who must own the guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fault_pair import (
    MIB,
    Attempt,
    Receiver,
    check_intact,
    migrate_well,
    options,
    run_on,
    small,
)
from fault_proxy import Proxy
from fault_routes import DESTINATION, SOURCE, Route, Stage

from pymigrate import Report
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.states import DestinationState
from pymigrate.vmm import Backend, Vm

# Long enough for a busy machine, short enough to wait for in every case.
SHORT: dict[str, Any] = {
    "peer_timeout_ms": 1000,
    "handshake_timeout_ms": 3000,
    "stall_timeout_ms": 1000,
    "prepared_timeout_ms": 1500,
    "commit_timeout_ms": 500,
    "resolve_timeout_ms": 400,
    "linger_timeout_ms": 400,
}


@contextmanager
def running_vm() -> Iterator[Vm]:
    # Large enough for both channels to carry pages.
    config = small(backend=Backend.THREADS, memory_bytes=32 * MIB)
    with Vm(config, populate=True) as vm:
        vm.resume()
        run_on(vm, 1)
        yield vm


def check_owner(vm: Vm, receiver: Receiver, report: Report) -> None:
    """One side has the guest, both sides say the same, and it is whole."""
    if receiver.destination.state is DestinationState.LISTENING:
        # The fault came before the first byte: it still waits for a source.
        receiver.destination.cancel()
    receiver.join()
    machine = receiver.take()
    if report.outcome is Outcome.COMPLETED:
        assert report.guest is Owner.DESTINATION
        assert not vm.status().running
        assert machine is not None and receiver.report is not None
        assert receiver.report.outcome is Outcome.COMPLETED
        check_intact(machine)
        return
    assert report.guest is Owner.SOURCE, report.error
    assert report.error
    assert machine is None
    check_intact(vm)
    vm.resume()
    migrate_well(vm, "tcp:127.0.0.1:0", options())


def settle(vm: Vm, receiver: Receiver, attempt: Attempt, report: Report) -> None:
    """The network works again: what was in doubt is settled by asking."""
    if report.outcome is Outcome.IN_DOUBT:
        assert report.guest is Owner.UNKNOWN
        assert not vm.status().running
        report = attempt.resolve()
    check_owner(vm, receiver, report)


@contextmanager
def stage_for(route: Route) -> Iterator[tuple[Stage, Vm, Receiver, Attempt]]:
    """Both sides, ready, with a proxy between them."""
    stage = Stage(route)
    with running_vm() as vm:
        there = options(**SHORT, on_state=stage.hook(DESTINATION))
        with (
            Receiver("tcp:127.0.0.1:0", there, route.factory) as receiver,
            Proxy(receiver.address) as proxy,
        ):
            here = options(**{**SHORT, **route.options}, on_state=stage.hook(SOURCE))
            attempt = Attempt(vm, proxy.address, here)
            stage.proxy, stage.source = proxy, attempt.source
            with attempt.source:
                yield stage, vm, receiver, attempt

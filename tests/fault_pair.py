# SPDX-License-Identifier: Apache-2.0
"""A source and a destination in this process, and who owns the guest after.

Both sides get limits so short that a case which would hang fails instead,
and every wait of a test itself has LIMIT_S.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from pymigrate import Destination, Options, Report, Source
from pymigrate.errors import CancelledError, MigrateError
from pymigrate.policy import PolicyOptions
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.vmm import Content, Guest, Vm, VmConfig

MIB = 1 << 20
SLOWDOWN = float(os.environ.get("PYMIGRATE_TEST_SLOWDOWN", "1"))
LIMIT_S = 30 * SLOWDOWN
# How many answers of its device the guest must get to count as running.
BEATS = 2

Target = str | Callable[[], socket.socket]
MachineFactory = Callable[[dict[str, Any]], Vm]


def small(**changes: Any) -> VmConfig:
    """A machine that a case can afford."""
    config = VmConfig(
        memory_bytes=16 * MIB,
        vcpus=2,
        guest=Guest.SWEEP,
        working_set_bytes=MIB,
        dirty_rate_pages_per_s=20_000,
        content=Content.MIXED,
    )
    return replace(config, **changes)


def options(**changes: Any) -> Options:
    """Limits for a peer in the same machine."""

    def ms(value: int) -> int:
        return int(value * SLOWDOWN)

    base = Options(
        channels=2,
        # What is tested is not the downtime, and other tests may run beside.
        policy=PolicyOptions(downtime_limit_ms=3000 * SLOWDOWN),
        verify=True,
        connect_timeout_ms=ms(2000),
        handshake_timeout_ms=ms(5000),
        peer_timeout_ms=ms(2000),
        stall_timeout_ms=ms(2000),
        rehearsal_timeout_ms=ms(5000),
        prepare_timeout_ms=ms(5000),
        verify_timeout_ms=ms(5000),
        commit_timeout_ms=ms(2000),
        resolve_timeout_ms=ms(2000),
        prepared_timeout_ms=ms(4000),
        linger_timeout_ms=ms(1500),
    )
    return replace(base, **changes)


def build(description: dict[str, Any]) -> Vm:
    """The destination's factory."""
    return Vm(VmConfig.from_json(description["machine"]))


def run_on(vm: Vm, beats: int = BEATS) -> None:
    """The running guest goes on: its device is used, and it is not stuck."""
    vm.wait_device_reads(beats * vm.config.vcpus, timeout_ms=int(LIMIT_S * 1000))


def check_intact(vm: Vm, *, content: bool = True) -> None:
    """Let the guest go on, then ask its pages; leaves it paused."""
    assert vm.status().running
    run_on(vm)
    vm.pause()
    result = vm.oracle(content=content)
    assert result.ok, result.message
    assert all(beat.backwards == 0 for beat in vm.heartbeats())


class Receiver:
    """A destination that serves one migration on a thread of its own."""

    def __init__(self, listen: str, settings: Options, factory: MachineFactory = build) -> None:
        self.destination = Destination(listen, factory, settings)
        self.serve()

    def serve(self) -> None:
        """Begin to wait for a migration, the first one or another."""
        self._start(lambda: self.destination.serve_one())

    def _start(self, what: Callable[[], Report]) -> None:
        self.report: Report | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(what,), name="test-serve", daemon=True
        )
        self._thread.start()

    def recover(self) -> None:
        """Wait for the source again, after an outcome of incomplete."""
        self._start(lambda: self.destination.recover(int(LIMIT_S * 1000)))

    @property
    def address(self) -> str:
        return str(self.destination.address)

    def _run(self, what: Callable[[], Report]) -> None:
        try:
            with suppress(CancelledError):
                self.report = what()
        except BaseException as error:
            self.error = error

    def join(self) -> None:
        """Wait for the end of serve_one()."""
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the destination hangs"
        if self.error is not None:
            raise self.error

    def take(self) -> Vm | None:
        """The machine that runs here, if one does."""
        machine = self.destination.machine
        assert machine is None or isinstance(machine, Vm)
        return machine

    def close(self) -> None:
        """Nobody needs it any more: a serve_one() that still waits ends."""
        self.destination.cancel()
        self.join()
        self.destination.close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(MigrateError):
            self.close()


class Attempt:
    """A Source, with its work done on a thread so that a hang is a failure."""

    def __init__(self, vm: Vm, target: Target, settings: Options) -> None:
        self.source = Source(vm, target, settings)

    def migrate(self) -> Report:
        return self._bounded(self.source.migrate)

    def resolve(self, abort: bool = False) -> Report:
        return self._bounded(lambda: self.source.resolve(abort))

    def recover(self, target: Target | None) -> Report:
        return self._bounded(lambda: self.source.recover(target))

    def _bounded(self, call: Callable[[], Report]) -> Report:
        reports: list[Report] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                reports.append(call())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="test-source", daemon=True)
        thread.start()
        thread.join(LIMIT_S)
        assert not thread.is_alive(), f"the source hangs in state {self.source.state}"
        if errors:
            raise errors[0]
        return reports[0]


def migrate(vm: Vm, target: Target, settings: Options) -> Report:
    """One attempt, from its beginning to its end."""
    attempt = Attempt(vm, target, settings)
    with attempt.source:
        return attempt.migrate()


def check_migrated(vm: Vm, receiver: Receiver, report: Report) -> None:
    """The migration completed, and the guest is whole, there and only there."""
    assert report.outcome is Outcome.COMPLETED, report.error
    assert report.guest is Owner.DESTINATION
    if report.verify is not None:
        assert report.verify.mismatches == 0
        assert report.verify.pages == vm.config.memory_bytes // 4096
    receiver.join()
    assert receiver.report is not None and receiver.report.outcome is Outcome.COMPLETED
    assert not vm.status().running
    machine = receiver.take()
    assert machine is not None
    stood = vm.heartbeats()
    check_intact(machine)
    assert vm.heartbeats() == stood


def migrate_well(vm: Vm, listen: str, settings: Options) -> Report:
    """A migration that must succeed, to a fresh destination."""
    with Receiver(listen, replace(settings, on_state=None)) as receiver:
        report = migrate(vm, receiver.address, settings)
        check_migrated(vm, receiver, report)
    return report

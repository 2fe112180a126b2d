# SPDX-License-Identifier: Apache-2.0
"""Processes that are source and destination in turn, and can be measured."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from fault_child import context
from fault_pair import LIMIT_S, Attempt, build, check_intact, options
from fault_usage import Usage, status_bytes, usage

from pymigrate import Destination, Report
from pymigrate._engine import PAGE_BYTES, TrackerKind
from pymigrate.report import Outcome
from pymigrate.vmm import Vm, VmConfig


class Host:
    """Child: a process that can be source and destination in turn."""

    def __init__(self, pipe: Connection, path: str) -> None:
        self._pipe, self._path = pipe, path
        self._vm: Vm | None = None
        self._keeps = False

    def create(self, config: VmConfig) -> None:
        self._vm = Vm(config, populate=True)
        self._vm.resume()

    def serve(self) -> Outcome:
        """Say that it listens, then follow one migration."""
        with Destination(f"unix:{self._path}", build, options()) as served:
            self._pipe.send("listening")
            report = served.serve_one(timeout_ms=int(LIMIT_S * 1000))
            if report.outcome is Outcome.COMPLETED:
                machine = served.take_machine()
                assert isinstance(machine, Vm)
                self._vm = machine
        return report.outcome

    def send(self, target: str, kind: TrackerKind, verify: bool) -> Report:
        vm = self.vm
        attempt = Attempt(vm, target, options(tracker=kind, verify=verify))
        with attempt.source:
            report = attempt.migrate()
        if report.outcome is Outcome.COMPLETED and not self._keeps:
            vm.close()
            self._vm = None
        return replace(report, host={}, config={})

    def prove(self) -> None:
        """The guest is whole, and goes on afterwards."""
        check_intact(self.vm)
        self.vm.resume()

    def usage(self) -> Usage:
        return usage()

    def watch_peak(self) -> int:
        """Peaks count from now on; what is resident now, in bytes."""
        # proc_pid_clear_refs(5): 5 resets VmHWM.
        Path("/proc/self/clear_refs").write_text("5")
        return status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        """Resident at most since then; guest RAM is mapped, so counted, once."""
        return status_bytes("VmHWM")

    def allocated_bytes(self) -> int:
        """Of guest RAM, found without touching it."""
        return PAGE_BYTES * sum(word.bit_count() for word in self.vm.memory().present())

    def keep(self) -> None:
        """Do not close the machine once it was sent: it is asked about."""
        self._keeps = True

    @property
    def vm(self) -> Vm:
        assert self._vm is not None
        return self._vm


def host(pipe: Connection, path: str) -> None:
    """Child: do what is asked, until nobody asks any more."""
    here = Host(pipe, path)
    with suppress(EOFError):
        while True:
            name, *arguments = pipe.recv()
            pipe.send(getattr(here, name)(*arguments))


class Child:
    """A process that does what it is asked, one thing after the other.

    :ivar address: where it listens when it serves.
    """

    def __init__(self, path: Path) -> None:
        self.address = f"unix:{path}"
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=host, args=(theirs, str(path)), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, *request: Any) -> None:
        """The name of a method of Host, and its arguments."""
        self._pipe.send(request)

    def answer(self) -> Any:
        assert self._pipe.poll(LIMIT_S), "the child hangs"
        return self._pipe.recv()

    def call(self, *request: Any) -> Any:
        self.ask(*request)
        return self.answer()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(LIMIT_S)
        assert self._process.exitcode == 0

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._process.kill()


def migrate_between(
    source: Child, destination: Child, kind: TrackerKind, *, verify: bool = True
) -> Report:
    """A migration from one child to the other, which must succeed."""
    destination.ask("serve")
    assert destination.answer() == "listening"
    report: Report = source.call("send", destination.address, kind, verify)
    assert report.outcome is Outcome.COMPLETED, report.error
    assert destination.answer() is Outcome.COMPLETED
    return report

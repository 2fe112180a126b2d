# SPDX-License-Identifier: Apache-2.0
"""QEMU as a contender: the boot guest migrated between two of them by QMP."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contents import fill
from bench.guest import BootImage, Program, build_image, read_status
from bench.guest.build import LOW_BYTES, STATUS_AT
from bench.peers.processes import ProcessMemory
from bench.peers.qemu_process import QemuProcess
from bench.peers.qmp import Qmp, seconds_of
from bench.task import Dirtying, Run, Task
from bench.warm import warm
from pymigrate.network import Endpoint

_POLL_S = 0.02
_LOOK_S = 0.2
_BOOT_TIMEOUT_S = 10.0
_CANCEL_TIMEOUT_S = 10.0
_PORT = 4444
_UNLIMITED_BYTES_PER_S = 1 << 40
_PROGRAMS = {
    Dirtying.IDLE: Program.IDLE,
    Dirtying.WORD: Program.WORD,
    Dirtying.PAGE: Program.PAGE,
}


@dataclass(frozen=True)
class Qemu:
    """One way to migrate with QEMU.

    :ivar capabilities: set on both sides; :ivar parameters: likewise.
    :ivar post_copy: the guest goes ahead at once.
    """

    name: str
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    post_copy: bool = False

    def run(self, task: Task, ends: Sequence[Endpoint] = ()) -> Run:
        """Migrate once, between fresh processes."""
        image = build_image(_guest(task))
        fds = [end.namespace.fd for end in ends] or [-1, -1]
        address = ends[1].address if ends else "127.0.0.1"
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(QemuProcess(image, task, netns_fd=fds[0]))
            memory = stack.enter_context(contextlib.closing(source.memory()))
            fill(memory.write, task.layout, LOW_BYTES)
            source.qmp.command("cont")
            _wait_for_guest(memory)
            destination = stack.enter_context(
                QemuProcess(image, task, incoming=True, netns_fd=fds[1])
            )
            uri = self._listen(destination.qmp, address, _PORT if ends else 0)
            self._prepare(source.qmp, task)
            warm(task.touched_bytes)
            return _Migration(source, destination, memory, task, self.post_copy).run(uri)

    def _prepare(self, qmp: Qmp, task: Task) -> None:
        wanted = ("events", *self.capabilities)
        states = [{"capability": name, "state": True} for name in wanted]
        qmp.command("migrate-set-capabilities", capabilities=states)
        qmp.command(
            "migrate-set-parameters",
            max_bandwidth=_UNLIMITED_BYTES_PER_S,
            downtime_limit=round(task.downtime_limit_ms),
            **self.parameters,
        )

    def _listen(self, qmp: Qmp, address: str, port: int) -> str:
        states = [{"capability": name, "state": True} for name in ("events", *self.capabilities)]
        qmp.command("migrate-set-capabilities", capabilities=states)
        qmp.command("migrate-set-parameters", **self.parameters)
        qmp.command("migrate-incoming", uri=f"tcp:{address}:{port}")
        (where,) = qmp.command("query-migrate")["socket-address"]
        return f"tcp:{address}:{where['port']}"


class _Migration:
    """One migration under way, as both control connections show it."""

    def __init__(
        self,
        source: QemuProcess,
        destination: QemuProcess,
        memory: ProcessMemory,
        task: Task,
        post_copy: bool,
    ) -> None:
        self._source, self._destination, self._memory = source, destination, memory
        self._task, self._post_copy = task, post_copy
        self._looks: list[dict[str, Any]] = []
        self._begin = 0.0

    def run(self, uri: str) -> Run:
        cpu = self._source.cpu_s(), self._destination.cpu_s()
        steps = self._steps()
        self._begin = time.monotonic()
        self._source.qmp.command("migrate", uri=uri)
        if self._post_copy:
            self._source.qmp.command("migrate-start-postcopy")
        outcome, running_s = self._follow()
        run = Run(
            outcome=outcome,
            source_cpu_s=self._source.cpu_s() - cpu[0],
            destination_cpu_s=self._destination.cpu_s() - cpu[1],
            setup_ms=self._destination.setup_s * 1000,
            dirty_pages_per_s=(self._steps() - steps) % (1 << 32) / running_s,
            rounds=self._looks,
        )
        return self._judge(run)

    def _follow(self) -> tuple[str, float]:
        """The outcome, and for how long the guest ran at the source."""
        deadline = self._begin + self._task.time_limit_s
        next_look = self._begin
        stopped_s = None
        while True:
            self._wait_for_news()
            now = time.monotonic()
            if stopped_s is None and self._source.qmp.event("STOP"):
                stopped_s = now - self._begin
            if self._completed():
                return "completed", stopped_s or now - self._begin
            if self._source.qmp.event("MIGRATION", status="failed"):
                return "failed", now - self._begin
            if now > deadline:
                self._cancel()
                return "not-converged", now - self._begin
            if now >= next_look:
                self._look(now - self._begin)
                next_look = now + _LOOK_S

    def _wait_for_news(self) -> None:
        """Until there is some, or it is time to look anyway."""
        both = (self._source.qmp, self._destination.qmp)
        select.select(both, (), (), _LOOK_S)
        for qmp in both:
            qmp.poll()

    def _completed(self) -> bool:
        done = self._source.qmp.event("MIGRATION", status="completed")
        return bool(done and self._destination.qmp.event("RESUME"))

    def _look(self, elapsed_s: float) -> None:
        info = self._source.qmp.command("query-migrate")
        ram = info.get("ram")
        if ram:
            self._looks.append(
                {
                    "elapsed_ms": elapsed_s * 1000,
                    "wire_bytes": ram["transferred"],
                    "pending_bytes": ram["remaining"],
                    "dirty_pages_per_s": ram["dirty-pages-rate"],
                    "round": ram["dirty-sync-count"],
                    "expected_downtime_ms": info.get("expected-downtime"),
                }
            )

    def _cancel(self) -> None:
        self._source.qmp.command("migrate_cancel")
        deadline = time.monotonic() + _CANCEL_TIMEOUT_S
        while not self._source.qmp.event("MIGRATION", status="cancelled"):
            if time.monotonic() > deadline:
                return
            self._source.qmp.poll()
            time.sleep(_POLL_S)

    def _steps(self) -> int:
        return _status(self._memory)[1]

    def _judge(self, run: Run) -> Run:
        """Figures that QEMU itself has, and the times of its events."""
        info = self._source.qmp.command("query-migrate")
        ram = info.get("ram", {})
        # After a cancellation it tells nothing any more.
        last = self._looks[-1]["wire_bytes"] if self._looks else None
        run.wire_bytes = ram.get("transferred", last)
        run.extra = {
            "rounds": ram.get("dirty-sync-count"),
            "own_total_ms": info.get("total-time"),
            "own_setup_ms": info.get("setup-time"),
            "requests": ram.get("postcopy-requests"),
            "stalled_ms": self._stalled_ms(),
        }
        run.predicted_downtime_ms = self._expected_ms()
        if run.outcome == "failed":
            run.error = info.get("error-desc", self._source.last_words())
        if run.outcome != "completed":
            return run
        stop = self._source.qmp.event("STOP")
        resume = self._destination.qmp.event("RESUME")
        setup = self._source.qmp.event("MIGRATION", status="setup")
        if stop is None or resume is None or setup is None:
            raise RuntimeError("QEMU completed a migration without saying so")
        end = self._source.qmp.event("MIGRATION", status="completed") if self._post_copy else resume
        assert end is not None
        run.total_ms = 1000 * (seconds_of(end) - seconds_of(setup))
        run.downtime_ms = 1000 * (seconds_of(resume) - seconds_of(stop))
        run.own_downtime_ms = info.get("downtime")
        return run

    def _stalled_ms(self) -> float | None:
        """For which all vCPUs waited for pages, by the destination's count."""
        if not self._post_copy:
            return None
        found = self._destination.qmp.command("query-migrate").get("postcopy-blocktime")
        return None if found is None else float(found)

    def _expected_ms(self) -> float | None:
        """The last expectation; it is the limit itself until there is one."""
        limit_ms = round(self._task.downtime_limit_ms)
        found = [look["expected_downtime_ms"] for look in self._looks]
        known = [ms for ms in found if ms is not None and ms != limit_ms]
        return known[-1] if known else None


def _guest(task: Task) -> BootImage:
    return BootImage(
        program=_PROGRAMS[task.dirtying],
        working_set_bytes=task.working_set_bytes,
        rate_pages_per_s=task.rate_pages_per_s,
    )


def _status(memory: ProcessMemory) -> tuple[int, int]:
    return read_status(memory.read(STATUS_AT, 8))


def _wait_for_guest(memory: ProcessMemory) -> None:
    deadline = time.monotonic() + _BOOT_TIMEOUT_S
    while not _status(memory)[0] > 3:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the boot guest did nothing for {_BOOT_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)

# SPDX-License-Identifier: Apache-2.0
"""pymigrate as a contender: ``recv`` and ``send`` in two processes, as ``demo`` has them."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.contents import fill
from bench.peers.processes import ProcessMemory, cpu_s, find_mapping
from bench.reference import link_us, touch_us
from bench.task import Dirtying, Run, Task
from bench.warm import warm
from pymigrate.cli.exits import CommandError
from pymigrate.cli.processes import Event, Inbox, Process
from pymigrate.network import Endpoint

_START_TIMEOUT_S = 120.0
# Beyond the time limit of the task, which ends the migration by itself.
_GRACE_S = 30.0
_LOW_BYTES = 2 << 20
# csrc/vmm/layout.h: the mailbox of vCPU 0, and the word M_STEPS in it.
_STEPS_AT = 0x100000 + 0xB8
_GUESTS = {
    Dirtying.IDLE: "idle",
    Dirtying.WORD: "sweep",
    Dirtying.SCATTERED: "random",
    Dirtying.PAGE: "partial",
}
_PAGE_WRITE_BYTES = 4032
# Where KVM interprets guests, a beat with its bookkeeping takes three times as
# long as one of bench/guest/boot.S, which keeps 1000 Hz: idle guests cost the same.
_IDLE_TICK_HZ = 333
# What the reference VMM fills memory with by itself, and how fast.
_NATIVE_CONTENTS = ("random", "zero")


@dataclass(frozen=True)
class Ours:
    """One way to migrate with pymigrate.

    :ivar options: of ``pymigrate send``, beside what the task says.
    :ivar post_copy: the guest goes ahead of its pages, and what its faults
        are measured by is measured first.
    """

    name: str
    channels: int = 2
    options: tuple[str, ...] = ()
    post_copy: str = ""

    def run(self, task: Task, ends: Sequence[Endpoint] = ()) -> Run:
        """Migrate once, between fresh processes."""
        listen = ends[1].address if ends else "127.0.0.1"
        fds = [end.namespace.fd for end in ends] or [-1, -1]
        inbox = _Inbox()
        with contextlib.ExitStack() as stack:
            begin = time.monotonic()
            receiver = ["recv", f"tcp:{listen}:0"]
            destination = stack.enter_context(Process("destination", receiver, inbox, fds[1]))
            address = inbox.wait(destination, "listening", _START_TIMEOUT_S)["address"]
            setup_ms = 1000 * (time.monotonic() - begin)
            sender = ["send", address, *self.arguments(task), "--hold"]
            source = stack.enter_context(Process("source", sender, inbox, fds[0]))
            inbox.wait(source, "held", _START_TIMEOUT_S)
            where = find_mapping(source.pid, task.memory_bytes)
            memory = stack.enter_context(contextlib.closing(ProcessMemory(source.pid, where)))
            _fill(memory, task)
            warm(task.touched_bytes)
            floor = _floor(ends, task) if self.post_copy else {}
            steps = _steps(memory)
            run = _migrate(source, destination, inbox, task)
            run.setup_ms = setup_ms
            run.extra.update(floor)
            if run.total_ms is not None and run.downtime_ms is not None:
                ran_s = (run.total_ms - run.downtime_ms) / 1000
                run.dirty_pages_per_s = (_steps(memory) - steps) / ran_s
            return run

    def arguments(self, task: Task) -> list[str]:
        """Of ``pymigrate send``."""
        rate = task.rate_pages_per_s
        words = {
            "--memory": task.memory_bytes,
            "--guest": _GUESTS[task.dirtying],
            "--working-set": task.working_set_bytes,
            "--dirty-rate": "unlimited" if rate is None else rate,
            "--content": _native_content(task) or "untouched",
            "--backing": task.backing,
            "--channels": self.channels,
            "--downtime-limit-ms": task.downtime_limit_ms,
            "--timeout": f"{task.time_limit_s:g}s",
        }
        if task.dirtying is Dirtying.IDLE:
            words["--tick-hz"] = _IDLE_TICK_HZ
        if task.dirtying is Dirtying.PAGE:
            words["--write-bytes"] = _PAGE_WRITE_BYTES
        if self.post_copy:
            words["--post-copy"] = self.post_copy
        return [str(word) for option in words.items() for word in option] + list(self.options)


class _Inbox(Inbox):
    """Events of both processes, of which one is waited for at a time."""

    def wait(self, process: Process, kind: str, timeout_s: float) -> Event:
        """The next event of that kind; others are dropped.

        :raises RuntimeError: the process ended instead, or nothing came.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                sender, event = self.get(deadline)
            except CommandError as error:
                raise RuntimeError(f"the {process.name} did not say {kind!r}: {error}") from error
            if sender is process and event["event"] == kind:
                return event
            if event["event"] == "gone":
                raise RuntimeError(f"the {sender.name} ended: {sender.last_words()}")


def _migrate(source: Process, destination: Process, inbox: _Inbox, task: Task) -> Run:
    cpu = cpu_s(source.pid), cpu_s(destination.pid)
    source.command("go")
    report = inbox.wait(source, "report", task.time_limit_s + _GRACE_S)["report"]
    run = _of_report(report)
    run.source_cpu_s = cpu_s(source.pid) - cpu[0]
    run.destination_cpu_s = cpu_s(destination.pid) - cpu[1]
    return run


def _floor(ends: Sequence[Endpoint], task: Task) -> dict[str, float]:
    """What a fault over this link, where there is one, cannot be faster than."""
    if not ends or not task.link_bits_per_s:
        return {}
    return {"touch_us": touch_us(), "link_us": link_us(ends, task.link_bits_per_s)}


def _of_report(report: dict[str, Any]) -> Run:
    outcome = report["outcome"]
    if outcome == "cancelled":
        outcome = "not-converged"
    downtime = report["downtime"] or {}
    completed = outcome == "completed"
    return Run(
        outcome=outcome,
        total_ms=report["total_ms"] if completed else None,
        downtime_ms=downtime.get("total_ms") if completed else None,
        own_downtime_ms=downtime.get("total_ms") if completed else None,
        predicted_downtime_ms=report["predicted_downtime_ms"],
        wire_bytes=report["wire_bytes"],
        rounds=report["rounds"],
        error=report["error"],
        extra={
            "downtime": downtime,
            "tracker": report["tracker"],
            "rehearsal": report["rehearsal"],
            "rounds": len(report["rounds"]),
            "late": report["late"],
            "faults": report["faults"],
        },
    )


def _native_content(task: Task) -> str | None:
    """Of all guest memory, where the reference VMM can make it by itself."""
    contents = {content for content, _ in task.layout}
    whole = sum(size for _, size in task.layout) == task.memory_bytes
    if len(contents) == 1 and whole and contents <= set(_NATIVE_CONTENTS):
        return contents.pop()
    return None


def _steps(memory: ProcessMemory) -> int:
    """What the guest's one vCPU has done since it was built."""
    done: int = struct.unpack("<Q", memory.read(_STEPS_AT, 8))[0]
    return done


def _fill(memory: ProcessMemory, task: Task) -> None:
    """Write what the reference VMM does not make into its idle guest's memory.

    Nothing is tracked yet, since the migration has not begun.
    """
    if _native_content(task):
        return
    if task.dirtying is not Dirtying.IDLE:
        raise ValueError("only an idle guest can be filled from outside")
    fill(memory.write, task.layout, _LOW_BYTES)

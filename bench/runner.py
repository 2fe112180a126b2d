# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario: everybody in turn, again and again, each within a time limit."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench.scenario import Contender, Scenario
from bench.task import GIB, Run, Task
from pymigrate.network import Endpoint, shaped_link

# Beyond the time limit of a migration: building, filling and warming memory.
_GRACE_S = 90.0


class OutOfTimeError(RuntimeError):
    """A run hangs."""


def run_scenario(scenario: Scenario, task: Task, pairs: int) -> dict[str, list[Run]]:
    """All runs, in order, by contender.

    Every other turn goes backwards, so that nobody always comes after the
    same one.
    """
    runs: dict[str, list[Run]] = {contender.name: [] for contender in scenario.contenders}
    for turn in range(pairs):
        order = scenario.contenders[:: -1 if turn % 2 else 1]
        for contender in order:
            run = run_once(contender, task)
            runs[contender.name].append(run)
            print(f"  {turn + 1}/{pairs}  {contender.name:26} {_words(run, task)}", flush=True)
    return runs


def run_once(contender: Contender, task: Task) -> Run:
    """One run; what goes wrong becomes a failed run with the reason."""
    try:
        with _time_limit(task.time_limit_s + _GRACE_S), _link(task) as ends:
            run = contender.run(task, ends)
            if ends and run.link_bytes is None:
                run.link_bytes = ends[0].namespace.run(_sent_bytes)
            return run
    except (RuntimeError, OSError) as error:
        return Run(outcome="failed", error=f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def _link(task: Task) -> Iterator[Sequence[Endpoint]]:
    if not task.link_bits_per_s:
        yield ()
        return
    with shaped_link(task.link_bits_per_s) as ends:
        yield ends


def _sent_bytes() -> int:
    """By all interfaces of the calling thread's namespace but its loopback.

    The namespace is as old as the run and nobody else is in it.
    """
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    named = (line.split(":", 1) for line in lines)
    return sum(int(counts.split()[8]) for name, counts in named if name.strip() != "lo")


@contextlib.contextmanager
def _time_limit(seconds_s: float) -> Iterator[None]:
    """Interrupts whatever the main thread waits for."""

    def expire(_number: int, _frame: FrameType | None) -> NoReturn:
        raise OutOfTimeError(f"not done after {seconds_s:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _words(run: Run, task: Task) -> str:
    """One line for whoever watches."""
    if run.outcome != "completed" or run.total_ms is None:
        return f"{run.outcome}{': ' + run.error if run.error else ''}"
    parts = [f"{run.total_ms:8.0f} ms", f"{8e-6 * task.touched_bytes / run.total_ms:5.1f} Gbit/s"]
    if run.downtime_ms is not None:
        parts.append(f"downtime {run.downtime_ms:6.1f} ms")
    if run.predicted_downtime_ms is not None:
        parts.append(f"(predicted {run.predicted_downtime_ms:.1f})")
    sent_bytes = run.wire_bytes if run.link_bytes is None else run.link_bytes
    if sent_bytes is not None and task.touched_bytes:
        parts.append(f"sent {sent_bytes / task.touched_bytes:.2f} of memory")
    if run.source_cpu_s is not None and run.destination_cpu_s is not None:
        cpu = (run.source_cpu_s + run.destination_cpu_s) / (task.touched_bytes / GIB)
        parts.append(f"{cpu:.2f} CPU s/GiB")
    return "  ".join(parts)


def announce(scenario: Scenario, number: int, total: int, begin: float) -> None:
    """A heading with the time so far."""
    elapsed_s = time.monotonic() - begin
    print(f"\n[{number}/{total}, {elapsed_s:.0f} s] {scenario.name}: {scenario.title}", flush=True)
    sys.stdout.flush()

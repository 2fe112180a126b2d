# SPDX-License-Identifier: Apache-2.0
"""Hooks that let the guest run, and need a page that cannot come as things are."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from fault_pair import check_intact
from late_case import Trip, late_options, trip

from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.states import DestinationState as D
from pymigrate.states import SourceState as S
from pymigrate.vmm import Vm, VmConfig

# Takes a second for what is left behind, if nothing breaks.
SLOW = 32 << 20


@dataclass
class Plan:
    """What a machine's hooks do beside their work."""

    before_run: list[Callable[[], None]] = field(default_factory=list)
    resume: list[Callable[[], None]] = field(default_factory=list)


class NeedyVm(Vm):
    """Looks at its last page before it runs."""

    plan: Plan

    def before_run(self) -> None:
        self._go_through(self.plan.before_run)
        super().before_run()

    def resume(self) -> None:
        self._go_through(self.plan.resume)
        super().resume()

    def _go_through(self, acts: list[Callable[[], None]]) -> None:
        for act in acts:
            act()
            self._touch()

    def _touch(self) -> None:
        """A system call reads it: a thread that waits holds up no other."""
        region = self.memory().regions[-1]
        last = region.hva + region.size_bytes - 4096
        page = (ctypes.c_char * 64).from_address(last)
        reader, writer = os.pipe()
        try:
            os.write(writer, memoryview(page))
        finally:
            os.close(reader)
            os.close(writer)


@contextmanager
def needy_trip(plan: Plan, **settings: Any) -> Iterator[Trip]:
    def build(description: dict[str, Any]) -> Vm:
        vm = NeedyVm(VmConfig.from_json(description["machine"]))
        vm.plan = plan
        return vm

    there = {"recover_timeout_ms": settings.pop("waits_ms", 20_000)}
    with trip(
        settings=late_options(**settings), rate_bytes_per_s=SLOW, build=build, **there
    ) as made:
        yield made


@pytest.mark.parametrize("which", ["before_run", "resume"])
@pytest.mark.parametrize("how", ["control", "data", "all"])
def test_page_that_a_hook_needs_comes_by_new_connections(which: str, how: str) -> None:
    plan = Plan()
    with needy_trip(plan) as made:
        cuts = {
            "control": lambda: made.proxy.cut("control"),
            "data": lambda: made.proxy.cut("data"),
            "all": made.proxy.cut,
        }
        getattr(plan, which).append(cuts[how])
        report = made.start().join()
        made.check(report)
    assert report.late is not None and report.late.recoveries >= 1
    seen = [state for state in made.watch.seen if isinstance(state, D)]
    assert seen.index(D.COMMITTED) < seen.index(D.POSTCOPY) < seen.index(D.RUNNING)


def test_hook_that_waits_in_vain_is_told_of_and_goes_on_later() -> None:
    plan = Plan()
    with needy_trip(plan, recover_timeout_ms=1000, waits_ms=1000) as made:
        plan.before_run.append(made.proxy.vanish)
        report = made.start().join()
        assert report.outcome in (Outcome.INCOMPLETE, Outcome.IN_DOUBT)
        made.receiver.join()
        there = made.receiver.report
        assert there is not None and there.outcome is Outcome.INCOMPLETE
        assert there.missing_pages > 0 and "out of reach" in str(there.error)
        assert not made.vm.status().running and not made.machine.status().running
        made.proxy.heal()
        made.receiver.recover()
        if report.outcome is Outcome.IN_DOUBT:
            report = made.attempt.source.resolve()
        else:
            report = made.attempt.recover(None)
        made.check(report)


def test_guest_that_is_given_up_before_it_runs_is_never_run() -> None:
    """What closing lets a hook read is not what the guest had."""
    plan = Plan()
    with needy_trip(plan, recover_timeout_ms=500, waits_ms=500) as made:
        plan.before_run.append(made.proxy.vanish)
        made.start().join()
        made.receiver.join()
        machine = made.machine
        made.receiver.close()
        assert D.POSTCOPY not in made.watch.seen
        assert machine.memory().closed


def test_hook_that_fails_while_pages_come_brings_the_guest_back() -> None:
    plan = Plan()

    def fail() -> None:
        raise OSError("no such disk")

    with needy_trip(plan) as made:
        plan.before_run += [lambda: None, fail]
        report = made.start().join()
        assert report.outcome is Outcome.FAILED
        assert report.guest is Owner.SOURCE and "no such disk" in str(report.error)
        check_intact(made.vm)
        made.receiver.join()
        assert made.receiver.report is not None
        assert made.receiver.report.outcome is Outcome.FAILED
    assert made.watch.count(S.RESOLVING) == 1

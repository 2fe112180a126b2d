# SPDX-License-Identifier: Apache-2.0
"""Throttling from Python; tests/c/test_vmm_throttle.c measures its effect."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_pair import migrate_well, options, run_on, small

from pymigrate import CallableMachine
from pymigrate._engine import TrackerKind
from pymigrate.errors import EngineError
from pymigrate.vmm import Backend, Vm, VmConfig

CASES = [
    pytest.param(Backend.KVM, TrackerKind.KVM_LOG, marks=pytest.mark.kvm, id="kvm-log"),
    pytest.param(Backend.KVM, TrackerKind.KVM_RING, marks=pytest.mark.kvm, id="kvm-ring"),
    pytest.param(Backend.THREADS, TrackerKind.UFFD_WP, marks=pytest.mark.uffd, id="threads-uffd"),
]


@contextmanager
def restless(vm: Vm) -> Iterator[list[int]]:
    """Change the percentage all the time; gives what was asked for."""
    asked: list[int] = []
    done = threading.Event()

    def change() -> None:
        for percent in itertools.cycle((0, 20, 99, 50, 0, 90)):
            vm.throttle(percent)
            asked.append(percent)
            if done.wait(0.005):
                return

    thread = threading.Thread(target=change, name="test-throttle")
    thread.start()
    try:
        yield asked
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(("backend", "kind"), CASES)
def test_guest_arrives_whole_whatever_the_throttle(
    backend: Backend, kind: TrackerKind, tmp_path: Path
) -> None:
    config: VmConfig = small(backend=backend, tracker=kind, dirty_rate_pages_per_s=None)
    with Vm(config, populate=True) as vm:
        vm.resume()
        run_on(vm, beats=1)
        with restless(vm) as asked:
            migrate_well(vm, f"unix:{tmp_path}/control", options(tracker=kind))
        assert len(asked) > 1
        assert vm.throttled().percent == asked[-1]


def test_what_cannot_be_asked_for() -> None:
    with Vm(small(backend=Backend.THREADS), populate=True) as vm:
        with pytest.raises(EngineError, match="0 to 99"):
            vm.throttle(100)
        assert vm.throttle(50)
        assert vm.throttled().percent == 50
        assert vm.throttled().waits == 0


def test_a_machine_of_functions() -> None:
    """It is throttled if there is a function for it."""
    asked: list[int] = []
    with Vm(small(backend=Backend.THREADS)) as vm:

        def machine(**more: object) -> CallableMachine:
            return CallableMachine(
                vm.memory(),
                pause=vm.pause,
                resume=vm.resume,
                save_state=vm.save_state,
                load_state=vm.load_state,
                **more,  # type: ignore[arg-type]
            )

        assert not machine().throttle(30)
        assert machine(throttle=asked.append).throttle(30)
        assert asked == [30]

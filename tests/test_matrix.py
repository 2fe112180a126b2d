# SPDX-License-Identifier: Apache-2.0
"""Every tracker x every backing x every guest program, migrated and proved.

Transport, number of channels and dirty rate go round with the case, so that
each of them meets each of the others without multiplying the cases.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fault_pair import (
    MIB,
    Receiver,
    check_migrated,
    migrate,
    migrate_well,
    options,
    run_on,
    small,
)

from pymigrate._engine import DirtyFlags, DirtyTracker, TrackerKind
from pymigrate.vmm import Backend, Backing, Guest, Vm, VmConfig


@dataclass(frozen=True)
class Tracking:
    """One way to find dirty pages.

    :ivar variant: what the tracker must say it is, where that is known.
    """

    name: str
    backend: Backend
    kind: TrackerKind
    flags: DirtyFlags = DirtyFlags.NONE
    ring_entries: int = 0
    variant: str | None = None


K, T = Backend.KVM, Backend.THREADS
TRACKINGS = [
    Tracking("kvm-log", K, TrackerKind.KVM_LOG),
    Tracking("kvm-log-plain", K, TrackerKind.KVM_LOG, DirtyFlags.NO_MANUAL_PROTECT),
    Tracking("kvm-ring-tiny", K, TrackerKind.KVM_RING, ring_entries=1024),
    Tracking("kvm-ring", K, TrackerKind.KVM_RING),
    Tracking("kvm-uffd", K, TrackerKind.UFFD_WP),
    Tracking("kvm-uffd-sync", K, TrackerKind.UFFD_WP, DirtyFlags.NO_ASYNC_WP, variant="sync"),
    Tracking("kvm-marked", K, TrackerKind.MARKED),
    Tracking("threads-uffd", T, TrackerKind.UFFD_WP),
    Tracking("threads-uffd-sync", T, TrackerKind.UFFD_WP, DirtyFlags.NO_ASYNC_WP, variant="sync"),
    Tracking("threads-marked", T, TrackerKind.MARKED),
]
# One guest for each tracking, on a different backing each: what the lab runs.
LAB = {
    (tracking.name, backing, guest)
    for tracking, backing, guest in zip(
        TRACKINGS, itertools.cycle(Backing), itertools.cycle(Guest), strict=False
    )
}


class TrackedVm(Vm):
    """A machine whose trackers behave as an older kernel's."""

    def __init__(self, config: VmConfig, tracking: Tracking) -> None:
        super().__init__(config, populate=True)
        self._tracking = tracking

    def tracker(self, kind: TrackerKind, flags: DirtyFlags = DirtyFlags.NONE) -> DirtyTracker:
        return super().tracker(kind, self._tracking.flags)


def cases() -> list[object]:
    found: list[object] = []
    combinations = itertools.product(TRACKINGS, Backing, Guest)
    for number, (tracking, backing, guest) in enumerate(combinations):
        marks = [pytest.mark.kvm] if tracking.backend is K else []
        if tracking.kind is TrackerKind.UFFD_WP:
            marks.append(pytest.mark.uffd)
        if backing is Backing.THP:
            marks.append(pytest.mark.thp)
        if (tracking.name, backing, guest) in LAB:
            marks.append(pytest.mark.lab_subset)
        name = f"{tracking.name}-{backing.value}-{guest.value}"
        found.append(pytest.param(tracking, backing, guest, number, marks=marks, id=name))
    return found


@pytest.mark.parametrize(("tracking", "backing", "guest", "number"), cases())
def test_guest_arrives_whole(
    tracking: Tracking,
    backing: Backing,
    guest: Guest,
    number: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if backing is Backing.HUGETLBFS:
        request.getfixturevalue("hugepages")
    config = small(
        backend=tracking.backend,
        backing=backing,
        guest=guest,
        tracker=tracking.kind,
        ring_entries=tracking.ring_entries,
        # Every channel has something to carry from 16 MiB each on.
        memory_bytes=(32, 40, 48)[number % 3] * MIB,
        vcpus=1 + number % 2,
        dirty_rate_pages_per_s=None if number % 4 < 2 else 20_000,
        seed=number + 1,
    )
    listen = f"unix:{tmp_path}/control" if number % 7 < 4 else "tcp:127.0.0.1:0"
    with TrackedVm(config, tracking) as vm:
        vm.resume()
        run_on(vm, beats=1)
        settings = options(tracker=tracking.kind, channels=1 + number % 3)
        report = migrate_well(vm, listen, settings)
    assert report.tracker is not None
    assert report.tracker.kind == tracking.kind.value
    assert tracking.variant in (None, report.tracker.variant)


CHANGES = [
    pytest.param(
        here,
        there,
        marks=[pytest.mark.thp] if Backing.THP in (here, there) else [],
        id=f"{here.value}-{there.value}",
    )
    for here, there in itertools.permutations(Backing, 2)
]


@pytest.mark.parametrize(("here", "there"), CHANGES)
@pytest.mark.kvm
def test_backing_may_change(
    here: Backing, there: Backing, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if Backing.HUGETLBFS in (here, there):
        request.getfixturevalue("hugepages")

    def build_there(description: dict[str, Any]) -> Vm:
        config = VmConfig.from_json(description["machine"])
        return Vm(replace(config, backing=there))

    with Vm(small(backing=here), populate=True) as vm:
        vm.resume()
        run_on(vm, beats=1)
        with Receiver(f"unix:{tmp_path}/control", options(), build_there) as receiver:
            report = migrate(vm, receiver.address, options())
            check_migrated(vm, receiver, report)

# SPDX-License-Identifier: Apache-2.0
"""What a migration costs in memory, on both sides, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_hosts import Child, migrate_between
from fault_pair import MIB, SLOWDOWN, small

from pymigrate._engine import TrackerKind
from pymigrate.vmm import Backend, Content, Guest

# A process may hold this much besides guest RAM, and a sixteenth of that RAM.
OVERHEAD_BYTES = 64 * MIB
SHARE = 16

pytestmark = pytest.mark.uffd
BACKENDS = [
    pytest.param(Backend.KVM, marks=pytest.mark.kvm, id="kvm"),
    pytest.param(Backend.THREADS, id="threads"),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_sides_hold_little_besides_the_guest(backend: Backend, tmp_path: Path) -> None:
    size_bytes = 512 * MIB
    config = small(
        backend=backend, memory_bytes=size_bytes, guest=Guest.RANDOM, content=Content.RANDOM
    )
    with Child(tmp_path / "source") as source, Child(tmp_path / "destination") as destination:
        source.call("create", config)
        source.call("watch_peak")
        destination.call("watch_peak")
        migrate_between(source, destination, TrackerKind.AUTO)
        for child in (source, destination):
            peak_bytes = child.call("peak_bytes")
            assert size_bytes < peak_bytes <= size_bytes + OVERHEAD_BYTES + size_bytes // SHARE
        destination.call("prove")


@pytest.mark.parametrize("backend", BACKENDS)
def test_untouched_guest_stays_unallocated(backend: Backend, tmp_path: Path) -> None:
    config = small(backend=backend, memory_bytes=16 << 30, content=Content.UNTOUCHED)
    # The working set, page tables, and whatever the program itself needs.
    touched_bytes = config.working_set_bytes + 4 * MIB
    with Child(tmp_path / "source") as source, Child(tmp_path / "destination") as destination:
        source.call("keep")
        source.call("create", config)
        before = {child: child.call("watch_peak") for child in (source, destination)}
        # Comparing every page of so large a guest takes a while of its own.
        report = migrate_between(source, destination, TrackerKind.AUTO, verify=False)
        assert report.total_ms < 1000 * SLOWDOWN
        for child in (source, destination):
            assert 0 < child.call("allocated_bytes") <= touched_bytes
            assert child.call("peak_bytes") - before[child] <= touched_bytes + OVERHEAD_BYTES

# SPDX-License-Identifier: Apache-2.0
"""The reference VMM from Python; tests/c/test_vmm.c has the inside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pymigrate._engine import PAGE_BYTES, StateItem, StateList, TrackerKind, View
from pymigrate.errors import EngineError, NotSupportedError
from pymigrate.vmm import Backend, Backing, Content, Guest, Vm, VmConfig

MIB = 1 << 20
# One guest for each tracker is what the lab VM has time for.
WRITERS = [
    pytest.param(Guest.SWEEP, marks=pytest.mark.lab_subset, id="sweep"),
    *(guest for guest in Guest if guest not in (Guest.SWEEP, Guest.IDLE)),
]
BACKENDS = [
    pytest.param(Backend.KVM, marks=pytest.mark.kvm, id="kvm"),
    pytest.param(Backend.THREADS, id="threads"),
]


def small(backend: Backend, guest: Guest = Guest.SWEEP, **changes: object) -> VmConfig:
    """A machine that a test can afford."""
    config = VmConfig(
        memory_bytes=16 * MIB,
        vcpus=2,
        backend=backend,
        guest=guest,
        working_set_bytes=MIB,
        dirty_rate_pages_per_s=None,
        content=Content.MIXED,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


BACKINGS = [
    pytest.param(
        backing, marks=[pytest.mark.thp] if backing is Backing.THP else [], id=backing.value
    )
    for backing in Backing
]


@pytest.fixture(params=BACKINGS)
def backing(request: pytest.FixtureRequest) -> Iterator[Backing]:
    if request.param is Backing.HUGETLBFS:
        request.getfixturevalue("hugepages")
    yield request.param


def run(vm: Vm, device_reads: int = 2) -> None:
    vm.resume()
    vm.wait_device_reads(device_reads, timeout_ms=60000)
    vm.pause()


def copy_found(view: View, source: Vm, copy: bytearray) -> int:
    """Bring copy up to date with what view found; how many pages."""
    ram, copied = source.ram(), 0
    for block in range(source.memory().blocks):
        view.rearm(block, 1)
        bits = view.take(block)
        while bits:
            page = block * 64 + (bits & -bits).bit_length() - 1
            at = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            copy[at] = ram[at]
            bits &= bits - 1
            copied += 1
    view.commit()
    return copied


@pytest.mark.parametrize("guest", list(Guest))
@pytest.mark.parametrize("backend", BACKENDS)
def test_oracle_holds_on_every_backing(backend: Backend, guest: Guest, backing: Backing) -> None:
    with Vm(small(backend, guest, backing=backing), populate=True) as vm:
        for _ in range(2):
            run(vm)
            result = vm.oracle(content=True)
            assert result.ok, result.message
            assert result.counters_checked == MIB // PAGE_BYTES
            assert result.content_checked > 3000
        assert (result.steps > 0) == (guest is not Guest.IDLE)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        *(
            pytest.param(Backend.KVM, kind, marks=pytest.mark.kvm, id=f"kvm-{kind.value}")
            for kind in TrackerKind
            if kind is not TrackerKind.AUTO
        ),
        pytest.param(Backend.THREADS, TrackerKind.UFFD_WP, id="threads-uffd-wp"),
        pytest.param(Backend.THREADS, TrackerKind.MARKED, id="threads-marked"),
    ],
)
@pytest.mark.parametrize("guest", WRITERS)
def test_tracker_finds_every_write(backend: Backend, kind: TrackerKind, guest: Guest) -> None:
    """A copy that follows the tracker alone ends up equal to the memory."""
    config = small(backend, guest, tracker=kind)
    with Vm(config, populate=True) as vm, vm.tracker(kind) as tracker:
        assert tracker.kind is kind
        tracker.start()
        copy = bytearray(config.memory_bytes)
        with View(tracker) as view:
            vm.resume()
            for _ in range(4):
                view.harvest()
                copy_found(view, vm, copy)
                vm.wait_device_reads(1, timeout_ms=60000)
            vm.pause()
            assert vm.oracle().ok
            view.harvest()
            final = copy_found(view, vm, copy)
            assert 0 < final < config.memory_bytes // PAGE_BYTES
            assert vm.ram() == copy
            view.harvest()
            assert kind is TrackerKind.MARKED or view.pending_pages() == 0
        tracker.stop()


@pytest.mark.kvm
@pytest.mark.lab_subset
def test_small_ring_loses_nothing() -> None:
    """More pages are written than the rings hold, and nobody harvests."""
    config = small(
        Backend.KVM, working_set_bytes=8 * MIB, tracker=TrackerKind.KVM_RING, ring_entries=1024
    )
    with Vm(config, populate=True) as vm, vm.tracker(TrackerKind.KVM_RING) as tracker:
        tracker.start()
        with View(tracker) as view:
            copy = bytearray(config.memory_bytes)
            copy_found(view, vm, copy)
            run(vm, 4)
            assert vm.oracle().ok
            view.harvest()
            assert copy_found(view, vm, copy) >= 2048
            assert vm.ram() == copy
        tracker.stop()


@pytest.mark.parametrize(
    ("made_for", "asked", "words"),
    [
        (TrackerKind.AUTO, TrackerKind.KVM_RING, "no dirty rings"),
        (TrackerKind.AUTO, TrackerKind.MARKED, "no log"),
        (TrackerKind.KVM_RING, TrackerKind.KVM_LOG, "exclude"),
    ],
)
@pytest.mark.kvm
def test_machine_made_for_another_tracker(
    made_for: TrackerKind, asked: TrackerKind, words: str
) -> None:
    config = small(Backend.KVM, tracker=made_for)
    with Vm(config) as vm, pytest.raises(EngineError, match=words):
        vm.tracker(asked)


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_crosses_as_bytes(backend: Backend) -> None:
    config = small(backend, dirty_rate_pages_per_s=20000)
    with Vm(config, populate=True) as source, Vm(config) as destination:
        run(source)
        state = source.save_state()
        described = json.loads(json.dumps(source.describe()))
        assert destination.check(described) == []
        destination.load_state(state)
        destination.ram()[:] = source.ram()
        destination.load_state(state)
        assert destination.skipped is None
        destination.before_run()
        assert destination.guest_gap_ms() == 0
        before = destination.heartbeats()
        run(destination, 8)
        result = destination.oracle(content=True)
        assert result.ok, result.message
        after = destination.heartbeats()
        assert sum(beat.count for beat in after) > sum(beat.count for beat in before)
        assert 0 < destination.guest_gap_ms() <= destination.longest_gap_ms()
        assert all(beat.backwards == 0 for beat in after)


def test_check_names_what_differs() -> None:
    config = small(Backend.THREADS)
    with Vm(config) as vm:
        described = vm.describe()
        assert vm.check(described) == []
        described["machine"]["vcpus"] = 3
        described["memory"][0]["size_bytes"] = 4096
        found = vm.check(described)
        assert any("vcpus is 3 at the source, 2 at the destination" in line for line in found)
        assert any("size_bytes" in line for line in found)
        assert "kind" in vm.check({"kind": "toaster"})[0]
        assert "'wheels'" in vm.check({"kind": "vmm", "machine": {"wheels": 4}})[0]
        assert "vcpus" in vm.check({"kind": "vmm", "machine": {"vcpus": "two"}})[0]


def test_config_survives_json() -> None:
    config = VmConfig(vcpus=3, backing=Backing.ANONYMOUS, tracker=TrackerKind.MARKED)
    assert VmConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    unlimited = replace(config, dirty_rate_pages_per_s=None)
    assert VmConfig.from_json(unlimited.to_json()).dirty_rate_pages_per_s is None
    with pytest.raises(ValueError, match="colour"):
        VmConfig.from_json({"colour": "red"})
    with pytest.raises(ValueError, match="juggle"):
        VmConfig(guest="juggle")  # type: ignore[arg-type]


def test_impossible_config_is_named() -> None:
    with pytest.raises(EngineError, match="memory_bytes"):
        Vm(small(Backend.THREADS, memory_bytes=5 * MIB))
    with pytest.raises(EngineError, match="nr_hugepages"):
        Vm(small(Backend.THREADS, memory_bytes=1 << 36, backing=Backing.HUGETLBFS))


def test_state_with_an_unknown_item_is_refused() -> None:
    with Vm(small(Backend.THREADS), populate=True) as vm:
        with StateList.decode(vm.save_state()) as state:
            state.add(StateItem("vmm/novelty", b"?"))
            data = state.encode()
        with pytest.raises(NotSupportedError, match="vmm/novelty"):
            vm.load_state(data)


def test_memory_beyond_the_hole() -> None:
    """Above 3 GiB RAM goes on at 4 GiB; untouched pages cost nothing."""
    config = small(Backend.THREADS, memory_bytes=6 << 30, content=Content.UNTOUCHED)
    with Vm(config, populate=True) as vm:
        low, high = vm.memory().regions
        assert (low.name, low.gpa, low.size_bytes) == ("ram", 0, 3 << 30)
        assert (high.name, high.gpa, high.size_bytes) == ("ram-high", 4 << 30, 3 << 30)
        assert high.hva == low.hva + low.size_bytes
        run(vm, 1)
        assert vm.oracle(content=True).ok
        assert os.fstat(low.fd).st_blocks * 512 < 4 * MIB


@pytest.mark.parametrize("backend", BACKENDS)
def test_serial_port_is_heard(backend: Backend) -> None:
    config = small(backend, vcpus=1, guest=Guest.IDLE, tick_hz=1000)
    with Vm(config, populate=True) as vm:
        run(vm, 40)
        assert set(vm.serial()) == {ord("a")}
        assert len(vm.serial(1)) == 1


def test_pause_and_resume_are_idempotent() -> None:
    with Vm(small(Backend.THREADS), populate=True) as vm:
        vm.pause()
        vm.resume()
        vm.resume()
        with pytest.raises(EngineError, match="paused"):
            vm.oracle()
        assert vm.status().running
        vm.pause()
        vm.pause()
        assert vm.oracle().ok
        vm.close()
        vm.close()

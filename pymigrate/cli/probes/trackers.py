# SPDX-License-Identifier: Apache-2.0
"""Each dirty tracker, tried on a small running guest."""

from __future__ import annotations

from pymigrate._engine import DirtyTracker, TrackerKind, View
from pymigrate.cli.probes.finding import Finding, Group, Status
from pymigrate.errors import MigrateError
from pymigrate.vmm import Vm, VmConfig

__all__ = ["probe"]

MIB = 1 << 20
_KINDS = (TrackerKind.KVM_LOG, TrackerKind.KVM_RING, TrackerKind.UFFD_WP, TrackerKind.MARKED)
_NEEDS_KVM = (TrackerKind.KVM_LOG, TrackerKind.KVM_RING)


def probe(kvm_works: bool) -> tuple[Group, list[str]]:
    """The findings, and the names of the trackers that work."""
    kinds = [kind for kind in _KINDS if kvm_works or kind not in _NEEDS_KVM]
    backend = "kvm" if kvm_works else "threads"
    findings = [_try(kind, backend) for kind in kinds]
    working = [f.name for f in findings if f.status is Status.OK]
    if working:
        findings.append(_chosen(backend))
    return Group(f"Dirty trackers, on a guest run by {backend}", tuple(findings)), working


def _try(kind: TrackerKind, backend: str) -> Finding:
    """Run the guest, and see that its writes are found."""
    try:
        with _machine(kind, backend) as vm, vm.tracker(kind) as tracker:
            variant = tracker.variant
            found = _pages_found(vm, tracker)
    except MigrateError as error:
        return Finding(kind.value, Status.MISSING, str(error), fix="use another tracker")
    if not found:
        return Finding(kind.value, Status.MISSING, "does not find the guest's writes")
    return Finding(kind.value, Status.OK, f"finds the guest's writes ({variant})")


def _machine(kind: TrackerKind, backend: str) -> Vm:
    config = VmConfig(
        memory_bytes=8 * MIB,
        backend=backend,  # type: ignore[arg-type]
        working_set_bytes=MIB,
        content="untouched",  # type: ignore[arg-type]
        tracker=kind,
    )
    return Vm(config, populate=True)


def _pages_found(vm: Vm, tracker: DirtyTracker) -> int:

    tracker.start()
    try:
        with View(tracker) as view:
            view.harvest()
            for block in range(vm.memory().blocks):
                view.rearm(block, 1)
                view.take(block)
            vm.resume()
            vm.wait_device_reads(2)
            vm.pause()
            view.harvest()
            return view.pending_pages()
    finally:
        tracker.stop()


def _chosen(backend: str) -> Finding:
    with _machine(TrackerKind.AUTO, backend) as vm, vm.tracker(TrackerKind.AUTO) as tracker:
        return Finding("auto", Status.OK, f"chooses {tracker.kind.value}: {tracker.reason}")

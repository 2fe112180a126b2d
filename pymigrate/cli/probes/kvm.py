# SPDX-License-Identifier: Apache-2.0
"""What KVM offers, asked of /dev/kvm and of a virtual machine made for it.

Numbers are those of the kernel's <linux/kvm.h>.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from typing import NamedTuple

from pymigrate.cli.probes.finding import Finding, Group, Status
from pymigrate.host import kvm_backend

__all__ = ["probe"]

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_CHECK_EXTENSION = 0xAE03
_API_VERSION = 12

_MANUAL_PROTECT_ENABLE = 1
_MANUAL_PROTECT_INITIALLY_SET = 2
_CAP_MAX_VCPUS = 66
_CAP_MANUAL_PROTECT = 168
_CAP_RING = 192
_CAP_RING_ACQ_REL = 223  # Linux 6.1; required on weakly ordered hosts
_RING_ENTRY_BYTES = 16

_BACKEND_WORDS = {
    "kvm_intel": "kvm_intel (VMX)",
    "kvm_amd": "kvm_amd (SVM)",
    "kvm_pvm": "kvm_pvm (software: guests are interpreted)",
}


class _Cap(NamedTuple):
    name: str
    number: int
    why: str
    required: bool
    since: str


_CAPS = (
    _Cap("guest memory slots", 3, "needed to give a guest memory", True, "2.6.24"),
    _Cap("in-kernel irqchip", 0, "needed for the guest's interrupts", True, "2.6.20"),
    _Cap("immediate exit", 136, "needed to complete pending I/O before a pause", True, "4.13"),
    _Cap("multiprocessor state", 14, "needed to move halted and waiting vCPUs", True, "2.6.27"),
    _Cap("vCPU events", 41, "needed to move pending interrupts", True, "2.6.33"),
    _Cap("debug registers", 50, "needed to move the guest's breakpoints", True, "2.6.35"),
    _Cap("extended registers", 56, "needed to move XCR0", True, "2.6.36"),
    _Cap("clock with flags", 39, "needed so that guest time never jumps back", True, "2.6.36"),
    _Cap("TSC frequency", 60, "needed between hosts of different TSC speed", False, "2.6.39"),
    _Cap("vCPU attributes", 127, "needed to set the TSC offset exactly", False, "5.16"),
    _Cap("exception payload", 164, "needed to move pending page faults exactly", False, "4.20"),
    _Cap("SREGS2", 200, "needed to move PAE page directory pointers", False, "5.14"),
    _Cap("XSAVE2", 208, "needed to move registers over 4 KiB (AMX)", False, "5.17"),
    _Cap("triple fault event", 218, "needed to move a pending triple fault", False, "6.1"),
    _Cap("nested state", 157, "needed to move a guest that runs guests", False, "4.20"),
)


def probe() -> tuple[Group, bool]:
    """The findings, and whether a KVM guest can be migrated here."""
    device = _device()
    if device.status is not Status.OK:
        return Group("KVM", (device,)), False
    with _open_kvm() as kvm_fd:
        version = fcntl.ioctl(kvm_fd, _KVM_GET_API_VERSION)
        findings = [device, _api(version), _backend()]
        machine, caps = _machine(kvm_fd)
    findings += [machine, *caps]
    usable = all(f.status is not Status.MISSING for f in findings[:4]) and not any(
        finding.status is Status.MISSING and cap.required
        for cap, finding in zip(_CAPS, caps[2:], strict=False)
    )
    return Group("KVM", tuple(findings)), usable


@contextlib.contextmanager
def _open_kvm() -> Iterator[int]:
    fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _device() -> Finding:
    why = "without it only memory written by threads can be migrated"
    try:
        with _open_kvm():
            return Finding("/dev/kvm", Status.OK, "opens for reading and writing")
    except PermissionError:
        fix = "add your user to the group that owns it: usermod -aG kvm $USER, log in again"
        return Finding("/dev/kvm", Status.MISSING, "permission denied", why, fix)
    except FileNotFoundError:
        fix = "load kvm_intel or kvm_amd; in a VM, turn nested virtualization on at its host"
        return Finding("/dev/kvm", Status.MISSING, "does not exist", why, fix)
    except OSError as error:
        words = error.strerror or str(error)
        fix = "in a container, hand the device in (--device /dev/kvm)"
        if error.errno == errno.ENODEV:
            fix = "enable virtualization in the firmware, then load kvm_intel or kvm_amd"
        return Finding("/dev/kvm", Status.MISSING, words, why, fix)


def _api(version: int) -> Finding:
    if version == _API_VERSION:
        return Finding("KVM API", Status.OK, f"version {version}")
    words = f"version {version}, version {_API_VERSION} is needed"
    return Finding("KVM API", Status.MISSING, words, fix="use a kernel from 2.6.22 on")


def _backend() -> Finding:
    backend = kvm_backend() or "unknown"
    words = _BACKEND_WORDS.get(backend, backend)
    if backend == "kvm_pvm":
        why = "right for tests; its speed says nothing of hardware virtualization"
        return Finding("backend", Status.LIMITED, words, why)
    return Finding("backend", Status.OK, words)


def _machine(kvm_fd: int) -> tuple[Finding, list[Finding]]:
    try:
        vm_fd = fcntl.ioctl(kvm_fd, _KVM_CREATE_VM, 0)
    except OSError as error:
        why, fix = "no machine can be made", "see the kernel's log; another VMM may hold the CPU"
        return Finding("create a VM", Status.MISSING, str(error.strerror), why, fix), []
    try:
        caps = [_dirty_log(vm_fd), _dirty_ring(vm_fd)]
        caps += [_cap(vm_fd, cap) for cap in _CAPS]
        vcpus = _check(vm_fd, _CAP_MAX_VCPUS)
    finally:
        os.close(vm_fd)
    return Finding("create a VM", Status.OK, f"works, up to {vcpus} vCPUs"), caps


def _check(vm_fd: int, number: int) -> int:
    """KVM_CHECK_EXTENSION of a VM; 0 where the kernel does not know it."""
    try:
        return fcntl.ioctl(vm_fd, _KVM_CHECK_EXTENSION, number)
    except OSError:
        return 0


def _dirty_log(vm_fd: int) -> Finding:
    name, value = "dirty log", _check(vm_fd, _CAP_MANUAL_PROTECT)
    if not value & _MANUAL_PROTECT_ENABLE:
        why = "no manual protect (Linux 5.2): every harvest write-protects all of memory"
        return Finding(name, Status.LIMITED, "plain", why, "use a newer kernel")
    if not value & _MANUAL_PROTECT_INITIALLY_SET:
        why = "not initially-set (Linux 5.7): arming walks all of memory once"
        return Finding(name, Status.LIMITED, "manual protect", why, "use a newer kernel")
    return Finding(name, Status.OK, "manual protect, initially set")


def _dirty_ring(vm_fd: int) -> Finding:
    size = _check(vm_fd, _CAP_RING) or _check(vm_fd, _CAP_RING_ACQ_REL)
    if not size:
        why = "the tracker kvm-ring is not available; kvm-log is"
        return Finding("dirty ring", Status.LIMITED, "absent", why, "use Linux 5.11 or newer")
    entries = size // _RING_ENTRY_BYTES
    return Finding("dirty ring", Status.OK, f"up to {entries:,} entries for each vCPU")


def _cap(vm_fd: int, cap: _Cap) -> Finding:
    value = _check(vm_fd, cap.number)
    if value:
        detail = f"{value:,} bytes" if cap.name in ("XSAVE2", "nested state") else "present"
        return Finding(cap.name, Status.OK, detail, cap.why)
    status = Status.MISSING if cap.required else Status.LIMITED
    fix = f"came with Linux {cap.since}; the backend may leave it out"
    return Finding(cap.name, status, "absent", cap.why, fix)

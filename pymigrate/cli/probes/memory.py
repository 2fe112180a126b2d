# SPDX-License-Identifier: Apache-2.0
"""userfaultfd, PAGEMAP_SCAN, huge pages and limits, each by trying it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import struct
from pathlib import Path

from pymigrate.cli.probes.finding import Finding, Group, Status
from pymigrate.cli.units import size_words
from pymigrate.host import mem_available_bytes

__all__ = ["probe"]

_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USERFAULTFD_IOC_NEW = 0xAA00
_UFFDIO_API = 0xC018AA3F
_UFFD_API = 0xAA
_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg), Linux 6.7
_PM_SCAN_ARG = struct.Struct("<12Q")
_PAGE_IS_PRESENT = 1 << 3
_MFD_HUGE_2MB = 21 << 26
_HUGE_PAGE_BYTES = 2 << 20

# Bits of UFFDIO_API and the kernel that brought each.
_FEATURES = {
    0: ("wp", "5.7"),
    5: ("missing-shmem", "4.11"),
    10: ("minor-shmem", "5.14"),
    12: ("wp-shmem", "5.19"),
    13: ("wp-unpopulated", "6.4"),
    14: ("poison", "6.6"),
    15: ("wp-async", "6.7"),
    16: ("move", "6.8"),
}


def probe() -> Group:
    """All findings about memory."""
    fd, opened = _userfaultfd()
    findings = [opened]
    if fd >= 0:
        features = _features(fd)
        os.close(fd)
        findings += [_wp(features), _wp_async(features), _others(features)]
    findings += [_pagemap_scan(), _huge_pages(), _transparent_huge_pages()]
    findings += [_memlock(), _available()]
    return Group("Memory", tuple(findings))


def _userfaultfd() -> tuple[int, Finding]:
    """Kernel-mode faults (KVM's) must be caught, so USER_MODE_ONLY is no help."""
    name = "userfaultfd"
    fd = _by_system_call()
    if fd >= 0:
        return fd, Finding(name, Status.OK, "by system call")
    refused = os.strerror(-fd).lower()
    try:
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        fix = "sysctl vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd"
        if -fd == errno.ENOSYS:
            fix = "use a kernel with CONFIG_USERFAULTFD"
        words = f"system call: {refused}; /dev/userfaultfd: {str(error.strerror).lower()}"
        return -1, Finding(name, Status.MISSING, words, "the tracker uffd-wp needs it", fix)
    try:
        fd = fcntl.ioctl(device, _USERFAULTFD_IOC_NEW, os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(device)
    return fd, Finding(name, Status.OK, "by /dev/userfaultfd")


def _by_system_call() -> int:
    number = _SYS_USERFAULTFD.get(os.uname().machine)
    if number is None:
        return -errno.ENOSYS
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK))
    return fd if fd >= 0 else -ctypes.get_errno()


def _features(fd: int) -> int:
    answer = bytearray(struct.pack("<QQQ", _UFFD_API, 0, 0))
    fcntl.ioctl(fd, _UFFDIO_API, answer)
    return int(struct.unpack("<QQQ", answer)[1])


def _wp(features: int) -> Finding:
    if features >> 0 & 1 and features >> 12 & 1:
        return Finding("write protection", Status.OK, "of all kinds of memory")
    if features & 1:
        why = "memory backed by memfd or hugetlbfs cannot be tracked by uffd-wp"
        return Finding(
            "write protection",
            Status.LIMITED,
            "of anonymous memory",
            why,
            "use Linux 5.19 or newer",
        )
    return Finding(
        "write protection",
        Status.MISSING,
        "absent",
        "the tracker uffd-wp needs it",
        "use Linux 5.19 or newer on x86-64",
    )


def _wp_async(features: int) -> Finding:
    if features >> 15 & 1:
        return Finding("asynchronous protection", Status.OK, "present")
    why = "a handler thread is woken for the first write to every page instead"
    return Finding(
        "asynchronous protection", Status.LIMITED, "absent", why, "use Linux 6.7 or newer"
    )


def _others(features: int) -> Finding:
    present = [name for bit, (name, _) in _FEATURES.items() if features >> bit & 1]
    absent = [
        f"{name} ({since})" for bit, (name, since) in _FEATURES.items() if not features >> bit & 1
    ]
    if not absent:
        return Finding("features", Status.OK, " ".join(present))
    why = "not in this kernel: " + ", ".join(absent)
    return Finding("features", Status.LIMITED, " ".join(present), why, "use a newer kernel")


def _pagemap_scan() -> Finding:
    """Scan one page that was just touched: it must be reported."""
    name, why = "PAGEMAP_SCAN", "reads and re-arms write protection in one call"
    area = mmap.mmap(-1, mmap.PAGESIZE)
    try:
        area[0] = 1
        reported = _scan_page(ctypes.addressof(ctypes.c_char.from_buffer(area)))
    except OSError as error:
        words = "absent" if error.errno == errno.ENOTTY else str(error.strerror)
        return Finding(name, Status.LIMITED, words, why, "use Linux 6.7 or newer")
    if reported != 1:
        return Finding(name, Status.LIMITED, "does not report a written page", why)
    return Finding(name, Status.OK, "works", why)


def _scan_page(address: int) -> int:
    region = ctypes.create_string_buffer(24)
    argument = bytearray(
        _PM_SCAN_ARG.pack(
            _PM_SCAN_ARG.size,
            0,
            address,
            address + mmap.PAGESIZE,
            0,
            ctypes.addressof(region),
            1,
            0,
            0,
            _PAGE_IS_PRESENT,
            0,
            _PAGE_IS_PRESENT,
        )
    )
    with open("/proc/self/pagemap", "rb") as pagemap:
        return int(fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument))


def _huge_pages() -> Finding:
    """Mapping reserves the page, so nothing needs to be touched."""
    name, fix = "2 MiB pages", "sysctl vm.nr_hugepages=N, with N half of the guest's memory in MiB"
    why = "needed for --backing hugetlbfs only"
    try:
        fd = os.memfd_create("probe", os.MFD_CLOEXEC | os.MFD_HUGETLB | _MFD_HUGE_2MB)
    except OSError:
        return Finding(name, Status.LIMITED, "no hugetlbfs in this kernel", why)
    try:
        os.ftruncate(fd, _HUGE_PAGE_BYTES)
        mmap.mmap(fd, _HUGE_PAGE_BYTES).close()
    except OSError:
        return Finding(name, Status.LIMITED, "none is free", why, fix)
    finally:
        os.close(fd)
    return Finding(name, Status.OK, f"{_free_huge_pages()} free", why)


def _free_huge_pages() -> str:
    path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return "some"


def _transparent_huge_pages() -> Finding:
    name, base = "transparent huge pages", Path("/sys/kernel/mm/transparent_hugepage")
    why = "needed for --backing thp: fewer page faults while memory arrives"
    try:
        anonymous, shared = (
            (base / file).read_text().partition("[")[2].partition("]")[0]
            for file in ("enabled", "shmem_enabled")
        )
    except OSError:
        return Finding(name, Status.LIMITED, "not in this kernel", why)
    words = f"anonymous: {anonymous}, memfd: {shared}"
    if anonymous == "never":
        return Finding(name, Status.LIMITED, words, why, f"echo madvise > {base}/enabled")
    return Finding(name, Status.OK, words, why)


def _memlock() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    words = "unlimited" if soft == resource.RLIM_INFINITY else size_words(soft)
    return Finding("lockable memory", Status.OK, words, "not needed for TCP and unix sockets")


def _available() -> Finding:
    return Finding("available memory", Status.OK, size_words(mem_available_bytes()))

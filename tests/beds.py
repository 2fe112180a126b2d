# SPDX-License-Identifier: Apache-2.0
"""The places tests run in, and whether this machine has them.

A bed is a facility of the machine that some tests need: /dev/kvm, an
userfaultfd, huge pages.  A test that lacks its bed is skipped with the reason
given here; a bed that is there must be used, which continuous integration
enforces (see conftest.py).
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lab

HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
HUGE_PAGES_WANTED = 64
# userfaultfd(2): x86-64, arch/x86/entry/syscalls/syscall_64.tbl; and the
# generic table, include/uapi/asm-generic/unistd.h.
SYS_USERFAULTFD = 323 if platform.machine() == "x86_64" else 282


@dataclass(frozen=True)
class Bed:
    """One facility.

    mentioned: what a skip reason says when it means that the whole bed is
    missing, as opposed to one feature of it.
    missing: the reason why it cannot be used here, or None.
    """

    name: str
    summary: str
    mentioned: re.Pattern[str]
    missing: Callable[[], str | None]


@cache
def kvm_missing() -> str | None:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    return None


@cache
def uffd_missing() -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        return f"userfaultfd: {os.strerror(ctypes.get_errno())}"
    os.close(fd)
    return None


@cache
def hugepages_missing() -> str | None:
    if not HUGE_PAGES.exists():
        return "2 MiB huge pages: not in this kernel"
    if int(HUGE_PAGES.read_text()) >= HUGE_PAGES_WANTED:
        return None
    if not os.access(HUGE_PAGES, os.W_OK):
        return f"2 MiB huge pages: fewer than {HUGE_PAGES_WANTED} reserved, and only root can"
    return None


THP_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@cache
def thp_missing() -> str | None:
    if not THP_SWITCH.exists():
        return "THP: not in this kernel"
    if "[never]" in THP_SWITCH.read_text():
        return f"THP: switched off in {THP_SWITCH}"
    return None


@cache
def netns_missing() -> str | None:
    if not shutil.which("unshare") or not shutil.which("ip"):
        return "network namespaces: the commands unshare and ip are needed"
    probe = "ip link add pmig0 type veth peer name pmig1"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", probe], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return f"network namespaces with veth: {done.stderr.strip()}"
    return None


BEDS = {
    bed.name: bed
    for bed in (
        Bed("kvm", "/dev/kvm", re.compile(r"/dev/kvm"), kvm_missing),
        Bed("uffd", "userfaultfd(2)", re.compile(r"\buserfaultfd\b"), uffd_missing),
        Bed(
            "hugepages",
            f"{HUGE_PAGES_WANTED} huge pages of 2 MiB",
            re.compile(r"huge ?pages|hugetlbfs"),
            hugepages_missing,
        ),
        Bed("thp", "transparent huge pages", re.compile(r"\bTHP\b"), thp_missing),
        Bed(
            "netns",
            "network namespaces joined by veth, as root",
            re.compile(r"network namespace|needs root|only root"),
            netns_missing,
        ),
        Bed("lab", "QEMU, a Debian kernel, virtme-ng", re.compile(r"\blab\b"), lab.missing),
    )
}


def contradiction(reason: str) -> str | None:
    """The bed that a skip reason says is missing although it is here."""
    for bed in BEDS.values():
        if bed.mentioned.search(reason) and bed.missing() is None:
            return bed.name
    return None

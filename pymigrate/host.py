# SPDX-License-Identifier: Apache-2.0
"""Facts about this host that a measurement is worth nothing without."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "HostFacts",
    "cpu_flags",
    "cpu_model",
    "host_facts",
    "kvm_backend",
    "mem_available_bytes",
]

_BACKENDS = ("kvm_pvm", "kvm_intel", "kvm_amd")
_BACKEND_OF_FLAG = {"vmx": "kvm_intel", "svm": "kvm_amd"}


@dataclass(frozen=True)
class HostFacts:
    """What a report says about the machine it was made on.

    :ivar kvm: the module behind /dev/kvm: ``kvm_intel``, ``kvm_amd``, or
        ``kvm_pvm`` (software: a guest that does not know of it is
        interpreted); None without /dev/kvm.
    :ivar virtualized: the host is itself a virtual machine.
    """

    kernel: str
    arch: str
    cpu: str
    cpus: int
    memory_bytes: int
    kvm: str | None
    virtualized: bool


def host_facts() -> HostFacts:
    """Facts about the host of this process."""
    return HostFacts(
        kernel=platform.release(),
        arch=platform.machine(),
        cpu=cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kvm=kvm_backend(),
        virtualized="hypervisor" in cpu_flags(),
    )


def kvm_backend(modules: Path = Path("/sys/module")) -> str | None:
    """The module that runs guests; None without /dev/kvm.

    Built-in modules appear in /sys/module too. Where more than one does, the
    processor's own extension decides.
    """
    if not os.path.exists("/dev/kvm"):
        return None
    present = [name for name in _BACKENDS if (modules / name).is_dir()]
    flags = cpu_flags()
    native = {name for flag, name in _BACKEND_OF_FLAG.items() if flag in flags}
    for name in present:
        if name in native or len(present) == 1:
            return name
    return present[0] if present else "kvm"


def cpu_model() -> str:
    """The model as the kernel names it."""
    return _cpuinfo("model name") or platform.processor() or "unknown"


def cpu_flags() -> frozenset[str]:
    """Feature flags of the first processor."""
    return frozenset(_cpuinfo("flags").split())


def mem_available_bytes() -> int:
    """What could be allocated without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _cpuinfo(key: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return ""

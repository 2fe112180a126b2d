# SPDX-License-Identifier: Apache-2.0
"""Facts about this host that a figure is worth nothing without."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["HostInfo", "cpu_flags", "cpu_model", "host_info", "kvm_backend", "mem_available_bytes"]

_BACKENDS = ("kvm_pvm", "kvm_intel", "kvm_amd")
_BACKEND_OF_FLAG = {"vmx": "kvm_intel", "svm": "kvm_amd"}


@dataclass(frozen=True)
class HostInfo:
    """What a report says about the host it was made on.

    :ivar kvm_backend: ``kvm_intel``, ``kvm_amd``, ``kvm_pvm`` (software: a
        guest that is not aware of it is interpreted), or None without KVM.
    :ivar virtualized: the host is itself a virtual machine.
    """

    kernel: str
    architecture: str
    cpu: str
    cpus: int
    memory_bytes: int
    kvm_backend: str | None
    virtualized: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def host_info() -> HostInfo:
    """Gather the facts; cheap, and the same for the life of a process."""
    uname = os.uname()
    return HostInfo(
        kernel=uname.release,
        architecture=uname.machine,
        cpu=cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kvm_backend=kvm_backend(),
        virtualized="hypervisor" in cpu_flags(),
    )


def kvm_backend(modules: Path = Path("/sys/module")) -> str | None:
    """The module that runs guests; None where there is no /dev/kvm.

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
    return present[0] if present else "unknown"


def cpu_model() -> str:
    """The model as the kernel names it."""
    return _cpuinfo("model name") or os.uname().machine


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
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""

# SPDX-License-Identifier: Apache-2.0
"""Facts about this host that a measurement is worth nothing without."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

__all__ = ["HostFacts", "host_facts"]

KVM_BACKENDS = ("kvm_intel", "kvm_amd", "kvm_pvm")


@dataclass(frozen=True)
class HostFacts:
    """What a report says about the machine it was made on.

    :ivar kvm: the module behind /dev/kvm, or None.
    """

    kernel: str
    arch: str
    cpu: str
    cpus: int
    kvm: str | None


def host_facts() -> HostFacts:
    """Facts about the host of this process."""
    return HostFacts(
        kernel=platform.release(),
        arch=platform.machine(),
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        kvm=_kvm_backend(),
    )


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _kvm_backend() -> str | None:
    if not os.path.exists("/dev/kvm"):
        return None
    for name in KVM_BACKENDS:
        if os.path.isdir(f"/sys/module/{name}"):
            return name
    return "kvm"

# SPDX-License-Identifier: Apache-2.0
"""The reference VMM: a machine whose guest proves a migration right.

::

    config = VmConfig(memory_bytes=256 << 20, vcpus=2, guest="sweep")
    with Vm(config, populate=True) as vm:
        vm.resume()
        ...
        vm.pause()
        assert vm.oracle().ok

docs/reference-vmm.md describes the machine and its guest programs.
"""

from __future__ import annotations

from pymigrate.vmm.config import Backend, Backing, Content, Guest, VmConfig
from pymigrate.vmm.machine import Vm
from pymigrate.vmm.proof import Heartbeat, OracleResult, Throttled, VmStatus

__all__ = [
    "Backend",
    "Backing",
    "Content",
    "Guest",
    "Heartbeat",
    "OracleResult",
    "Throttled",
    "Vm",
    "VmConfig",
    "VmStatus",
]

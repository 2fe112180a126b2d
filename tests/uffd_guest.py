# SPDX-License-Identifier: Apache-2.0
"""The reference VMM, restored as Firecracker restores: its memory comes late.

A process of its own: builds the machine, registers its RAM with a userfaultfd
that reports removals, hands that over, loads the state and runs the guest.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import struct
from multiprocessing.connection import Connection
from typing import Any

from uffd_vmm import (
    MADV_DONTNEED,
    SYS_USERFAULTFD,
    UFFD_API,
    UFFD_FEATURE_EVENT_REMOVE,
    UFFDIO_API,
    UFFDIO_REGISTER,
    UFFDIO_REGISTER_MODE_MISSING,
    fail,
    libc,
)

from pymigrate.vmm import Vm, VmConfig

# Several regions make up the one that the machine has.
PARTS = 3


def hand_over(base: int, size_bytes: int, path: str) -> None:
    """Register memory of this process, and say so at the handler's socket."""
    uffd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    if uffd < 0:
        raise fail("userfaultfd")
    if libc.madvise(base, size_bytes, MADV_DONTNEED):
        raise fail("madvise")
    fcntl.ioctl(uffd, UFFDIO_API, struct.pack("<QQQ", UFFD_API, UFFD_FEATURE_EVENT_REMOVE, 0))
    mode = UFFDIO_REGISTER_MODE_MISSING
    fcntl.ioctl(uffd, UFFDIO_REGISTER, struct.pack("<QQQQ", base, size_bytes, mode, 0))
    part = size_bytes // PARTS // 4096 * 4096
    mappings = []
    for number in range(PARTS):
        begin = number * part
        end = size_bytes if number == PARTS - 1 else begin + part
        mappings.append(
            {
                "base_host_virt_addr": base + begin,
                "size": end - begin,
                "offset": begin,
                "page_size": 4096,
                "page_size_kib": 4096,
            }
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [uffd]))]
        sock.sendmsg([json.dumps(mappings).encode()], rights)


def guest(pipe: Connection, config: VmConfig, state: bytes, path: str, beats: int) -> None:
    """Child: restore, run until the guest has used its device so often, judge."""
    with Vm(config) as vm:
        (region,) = vm.memory().regions
        hand_over(region.hva, region.size_bytes, path)
        vm.load_state(state)
        vm.before_run()
        vm.resume()
        pipe.send("running")
        vm.wait_device_reads(beats, 60_000)
        pipe.send("alive")
        pipe.recv()
        vm.wait_device_reads(beats, 60_000)
        vm.pause()
        found: Any = vm.oracle(content=True)
        pipe.send((found.ok, found.message))

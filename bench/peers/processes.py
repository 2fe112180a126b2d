# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of other processes, and processes that cannot be left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from pymigrate.network import enter_namespace

_CHUNK_BYTES = 8 << 20
_PR_SET_PDEATHSIG = 1
# clock_getcpuclockid(3) of a process, as the kernel counts them.
_CPUCLOCK_SCHED = 2

_libc = ctypes.CDLL(None, use_errno=True)


def cpu_s(pid: int) -> float:
    """CPU time that a process used so far, all its threads; in nanosecond steps."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def before_exec(netns_fd: int = -1) -> Callable[[], None]:
    """For Popen(preexec_fn=): die with the parent, and go to a namespace."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if netns_fd >= 0:
            enter_namespace(netns_fd)

    return prepare


def find_mapping(pid: int, size_bytes: int) -> int:
    """Where a process mapped exactly that much memory, readable and writable.

    :raises RuntimeError: nowhere, or in more than one place.
    """
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, rights, *_ = line.split()
        first, last = (int(part, 16) for part in where.split("-"))
        if rights.startswith("rw") and last - first == size_bytes:
            found.append(first)
    if len(found) != 1:
        raise RuntimeError(f"process {pid} has {len(found)} mappings of {size_bytes} bytes")
    return found[0]


class ProcessMemory:
    """Memory of another process from an address on; needs the right to trace it."""

    def __init__(self, pid: int, address: int) -> None:
        self._fd = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self._address = address

    def write(self, offset: int, data: memoryview) -> None:
        for at in range(0, len(data), _CHUNK_BYTES):
            part = data[at : at + _CHUNK_BYTES]
            if os.pwrite(self._fd, part, self._address + offset + at) != len(part):
                raise RuntimeError("the memory of the guest ends early")

    def read(self, offset: int, size_bytes: int) -> bytes:
        return os.pread(self._fd, size_bytes, self._address + offset)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)

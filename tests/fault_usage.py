# SPDX-License-Identifier: Apache-2.0
"""What this process holds: memory, file descriptors, threads."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path

# The kernel takes a moment to reap threads and to close a VM's descriptors.
SETTLE_S = 5.0


@dataclass(frozen=True)
class Usage:
    """At one moment, when idle.

    :ivar fds: what each descriptor is of.
    :ivar threads: their names.
    :ivar memory_bytes: resident; guest RAM that runs here included.
    """

    fds: tuple[str, ...]
    threads: tuple[str, ...]
    memory_bytes: int


def open_files() -> tuple[str, ...]:
    """What each descriptor is, without the numbers that differ every time."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # the descriptor of this listing
        found.append(name.split(":[")[0])
    return tuple(sorted(found))


def thread_names() -> tuple[str, ...]:
    """Of all threads of the process, those of C included."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            continue  # it ended meanwhile
    return tuple(sorted(names))


def status_bytes(name: str) -> int:
    """A field of /proc/self/status that is given in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) << 10
    raise KeyError(name)


def usage() -> Usage:
    """Now, once threads that were joined are gone from the kernel, too."""
    gc.collect()
    deadline = time.monotonic() + SETTLE_S
    names = thread_names()
    while time.monotonic() < deadline:
        # There is no event for this: only looking again tells.
        time.sleep(0.002)
        before, names = names, thread_names()
        if names == before:
            break
    return Usage(open_files(), names, status_bytes("VmRSS"))

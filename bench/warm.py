# SPDX-License-Identifier: Apache-2.0
"""Host memory that is there when it is asked for.

In a virtual machine freed memory may go back to the hypervisor, and taking it
again costs many times more than the page fault. That would hit whoever comes
first. So before each timed part as much memory as it needs is taken, touched
and given back, by a process of its own.
"""

from __future__ import annotations

import mmap
import os

MADV_POPULATE_WRITE = 23  # Linux 5.14


def warm(size_bytes: int) -> None:
    """Take, touch and free that much memory.

    :raises RuntimeError: there is not as much.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            memory = mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE)
            memory.madvise(MADV_POPULATE_WRITE)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"{size_bytes >> 20} MiB of memory cannot be had")

# SPDX-License-Identifier: Apache-2.0
"""Host memory that is there when it is asked for.

In a virtual machine freed memory may go back to the hypervisor, and taking it
again costs many times more than the page fault. That would hit whoever comes
first. So before each timed part memory is taken, touched and freed, by a
process of its own. It goes on being given away from that moment on, half a
GiB in a second on one such machine, so twice as much is taken as is needed:
what is freed last is allocated first.
"""

from __future__ import annotations

import mmap
import os

MADV_POPULATE_WRITE = 23  # Linux 5.14
# Other programs go on meanwhile.
_SPARE_BYTES = 1 << 30


def warm(size_bytes: int) -> None:
    """Take, touch and free twice that much memory, or what there is.

    :raises RuntimeError: there is not even as much as that.
    """
    size_bytes = max(size_bytes, min(2 * size_bytes, _available_bytes() - _SPARE_BYTES))
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


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as lines:
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) << 10

# SPDX-License-Identifier: Apache-2.0
"""What memory itself can do: a plain read, and a copy."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.peers.bare_mover import allocate
from bench.task import Run, Task
from bench.warm import MADV_POPULATE_WRITE, warm
from pymigrate.network import Endpoint

_CHUNK_BYTES = 2 << 20
_libc = ctypes.CDLL(None)
_libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


@dataclass(frozen=True)
class Memcpy:
    """memcpy() of as many bytes as the guest has allocated, into populated memory."""

    name: str

    def run(self, task: Task, ends: Sequence[Endpoint] = ()) -> Run:
        size = task.touched_bytes
        warm(2 * size)
        with allocate(size, task.backing) as source, allocate(size, task.backing) as target:
            source.madvise(MADV_POPULATE_WRITE)
            target.madvise(MADV_POPULATE_WRITE)
            from_, to = (ctypes.c_char.from_buffer(memory) for memory in (source, target))
            cpu, begin = time.process_time(), time.monotonic()
            for at in range(0, size, _CHUNK_BYTES):
                part = min(_CHUNK_BYTES, size - at)
                _libc.memcpy(ctypes.addressof(to) + at, ctypes.addressof(from_) + at, part)
            run = Run(
                total_ms=1000 * (time.monotonic() - begin),
                wire_bytes=size,
                source_cpu_s=time.process_time() - cpu,
                destination_cpu_s=0.0,
            )
            del from_, to
            return run

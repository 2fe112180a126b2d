# SPDX-License-Identifier: Apache-2.0
"""Missing pages of a guest that runs already: post-copy at the destination."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymigrate._engine.channel import Channel
from pymigrate._engine.memory import Memory
from pymigrate._engine.native import Handle, check, ffi, lib, new_error

__all__ = ["FaultFigures", "Faults", "Latency", "pack_bitmap", "unpack_bitmap"]

MAX_SAMPLES = 4096


@dataclass(frozen=True)
class Latency:
    """How long something took, of count times; ns, quantiles right to 3 %."""

    count: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int
    sum_ns: int


@dataclass(frozen=True)
class FaultFigures:
    """As ``struct pmig_faults_report``; latencies by the names there."""

    remote: Latency
    local: Latency
    queueing: Latency
    network: Latency
    placement: Latency
    pushed_faults: int
    threads: int
    stalled_ns: int
    longest_stalled_ns: int
    missing_pages: int
    waiting_faults: int
    touched_pages: int
    last_page_ns: int
    probes: int
    probes_used: int


class Faults(Handle):
    """Handles faults on memory whose pages come late; memory outlives it.

    :param map_files: place pages of shared memory by mapping them, where the
        kernel can; False is for tests.
    :param uffd: a userfaultfd of another process whose memory it is, with
        the addresses of the regions there.
    :param record: with uffd, where that is kept which another one needs to go
        on (``pmig_faults_config.record``); it outlives this object.
    :raises EngineError: the kernel lacks something, which it names.
    """

    def __init__(
        self,
        memory: Memory,
        handlers: int = 0,
        map_files: bool = True,
        uffd: int = -1,
        bases: Sequence[int] = (),
        record: Any = None,
    ) -> None:
        self._kept: Any = (memory, record)
        self._memory = memory
        addresses = ffi.new("uint64_t[]", list(bases)) if bases else ffi.NULL
        config = ffi.new("struct pmig_faults_config *")
        config.struct_size = ffi.sizeof("struct pmig_faults_config")
        config.n_handlers = handlers
        config.flags = 0 if map_files else lib.PMIG_FAULTS_NO_MINOR
        config.uffd = uffd
        config.bases = addresses
        config.record = record if record is not None else ffi.NULL
        out, err = ffi.new("struct pmig_faults **"), new_error()
        check(lib.pmig_faults_new(memory.pointer, config, out, err), err)
        super().__init__(out[0], lib.pmig_faults_free)

    def start(self) -> None:
        """Handle faults from now on: the guest may run."""
        err = new_error()
        check(lib.pmig_faults_start(self.pointer, err), err)

    def expect(self, words: Sequence[int], first_block: int = 0) -> None:
        """Pages that will come, a word for each block; before the start."""
        array, err = ffi.new("uint64_t[]", list(words)), new_error()
        check(lib.pmig_faults_expect(self.pointer, first_block, len(words), array, err), err)

    def abandon(self) -> None:
        """The guest has not run and never will: waits end, with zeros."""
        self._if_open(lib.pmig_faults_abandon)

    def attach(self, channel: Channel | None) -> None:
        """Where requests go, until the next call; None: nowhere. Any thread."""
        pointer = channel.pointer if channel is not None else ffi.NULL
        self._if_open(lambda faults: lib.pmig_faults_attach(faults, pointer))

    def missing_pages(self) -> int:
        """Any thread; 0 once closed."""
        found: list[int] = []
        self._if_open(lambda faults: found.append(lib.pmig_faults_missing_pages(faults)))
        return found[0] if found else 0

    def missing(self) -> bytes:
        """A bit for each page, eight bytes for each block. Any thread."""
        blocks = self._memory.blocks
        words, err = ffi.new("uint64_t[]", blocks), new_error()
        check(lib.pmig_faults_missing(self.pointer, 0, blocks, words, err), err)
        return bytes(ffi.buffer(words))

    def wait(self, timeout_ms: int = -1) -> bool:
        """Until nothing is missing; False: the time is over. Any thread.

        :raises EngineError: faults can be handled no longer.
        """
        err = new_error()
        code = lib.pmig_faults_wait(self.pointer, timeout_ms, err)
        if code == -errno.ETIMEDOUT:
            return False
        check(code, err)
        return True

    def figures(self) -> FaultFigures:
        """What faults cost so far. Any thread."""
        out = ffi.new("struct pmig_faults_report *")
        out.struct_size = ffi.sizeof("struct pmig_faults_report")
        lib.pmig_faults_report(self.pointer, out)
        return FaultFigures(
            remote=_latency(out.remote),
            local=_latency(out.local),
            queueing=_latency(out.queueing),
            network=_latency(out.network),
            placement=_latency(out.placement),
            pushed_faults=out.pushed_faults,
            threads=out.n_threads,
            stalled_ns=out.stalled_ns,
            longest_stalled_ns=out.longest_stalled_ns,
            missing_pages=out.missing_pages,
            waiting_faults=out.waiting_faults,
            touched_pages=out.touched_pages,
            last_page_ns=out.last_page_ns,
            probes=out.probes,
            probes_used=out.probes_used,
        )

    def samples(self) -> list[tuple[int, int]]:
        """Faults over time: (ns since the start, ns it took). Any thread."""
        out = ffi.new("struct pmig_fault_sample[]", MAX_SAMPLES)
        count = lib.pmig_faults_samples(self.pointer, out, MAX_SAMPLES)
        return [(out[i].at_ns, out[i].latency_ns) for i in range(count)]

    def touched(self) -> list[int]:
        """Pages by number, in the order in which they were first asked for."""
        out = ffi.new("uint64_t[]", int(lib.PMIG_MAX_TOUCHED_PAGES))
        count = lib.pmig_faults_touched(self.pointer, out, len(out))
        return list(out[0:count])


def _latency(out: Any) -> Latency:
    return Latency(out.count, out.p50_ns, out.p90_ns, out.p99_ns, out.max_ns, out.sum_ns)


def pack_bitmap(words: bytes) -> bytes:
    """Small, for the wire."""
    import zstandard

    return zstandard.ZstdCompressor(level=1).compress(words)


def unpack_bitmap(data: bytes, blocks: int) -> bytes:
    """What pack_bitmap() made of so many words.

    :raises ValueError: it is not.
    """
    import zstandard

    try:
        words = zstandard.ZstdDecompressor().decompress(data, max_output_size=8 * blocks)
    except zstandard.ZstdError as error:
        raise ValueError(f"a damaged bitmap: {error}") from error
    if len(words) != 8 * blocks:
        raise ValueError(f"a bitmap of {len(words)} bytes, expected {8 * blocks}")
    return words

# SPDX-License-Identifier: Apache-2.0
"""A machine of the reference VMM as a :class:`pymigrate.machine.Machine`."""

from __future__ import annotations

import json
from typing import Any

from pymigrate._engine import (
    DirtyFlags,
    DirtyTracker,
    Handle,
    Memory,
    Region,
    StateList,
    TrackerKind,
    check,
    ffi,
    lib,
    new_error,
)
from pymigrate.compatibility import differences
from pymigrate.machine import Machine
from pymigrate.vmm.config import VmConfig
from pymigrate.vmm.proof import (
    Heartbeat,
    OracleResult,
    Throttled,
    VmStatus,
    read_heartbeat,
    read_oracle,
    read_status,
    read_throttled,
)
from pymigrate.vmm.tracking import VmTracker

__all__ = ["Vm"]

KIND = "vmm"


class Vm(Machine):
    """A machine; paused when made.

    Only close() may be called from another thread than the others, and
    throttle(), throttled(), status(), heartbeats() and the gaps from any.

    :param populate: fill RAM and make the guest ready to run from its start
        (source); False makes an empty machine to load (destination).
    :raises EngineError: the configuration is impossible, or the host lacks
        what it needs; the sentence says which.
    """

    def __init__(self, config: VmConfig, populate: bool = False) -> None:
        self.config = config
        out, err = ffi.new("struct pvmm **"), new_error()
        check(lib.pvmm_new(config.to_native(populate=populate), out, err), err)
        self._handle = Handle(out[0], lib.pvmm_free)
        self._skipped: str | None = None
        self._kvm: str | None = None
        try:
            self._memory = Memory(_regions(out[0]))
            self._kvm = self._ask_kvm()
        except BaseException:
            self._handle.close()
            raise

    def __enter__(self) -> Vm:
        return self

    # -- Machine -----------------------------------------------------------

    def memory(self) -> Memory:
        return self._memory

    def tracker(self, kind: TrackerKind, flags: DirtyFlags = DirtyFlags.NONE) -> DirtyTracker:
        """A tracker that suits this machine.

        The machine must have been made for it: ``config.tracker`` says
        kvm-ring for the ring, marked for marked.

        :param flags: for tests of what older kernels offer.
        """
        return VmTracker(self._handle.pointer, self._memory, kind, flags)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "machine": self.config.to_json(),
            "memory": self._memory.describe(),
            "kvm": self._describe_kvm(),
        }

    def check(self, description: dict[str, Any]) -> list[str]:
        if description.get("kind") != KIND:
            return [f"machine: kind is {description.get('kind')!r}, this is a {KIND!r}"]
        try:
            source = VmConfig.from_json(description.get("machine") or {})
        except (ValueError, TypeError) as error:
            return [str(error)]
        return source.differences(self.config) + differences(description, self.describe())

    def pause(self) -> None:
        err = new_error()
        check(lib.pvmm_pause(self._handle.pointer, err), err)

    def resume(self) -> None:
        """Let the vCPUs run.

        :raises EngineError: one has stopped for good; the sentence says why.
        """
        err = new_error()
        check(lib.pvmm_resume(self._handle.pointer, err), err)

    def throttle(self, percent: int) -> bool:
        """See :class:`Machine`; it is not a part of the state.

        :raises EngineError: percent is not 0 to 99, or no timer is to be had.
        """
        err = new_error()
        check(lib.pvmm_throttle(self._handle.pointer, percent, err), err)
        return True

    def save_state(self) -> bytes:
        out, err = ffi.new("struct pmig_state **"), new_error()
        check(lib.pvmm_save(self._handle.pointer, out, err), err)
        with StateList(out[0]) as state:
            return state.encode()

    def load_state(self, data: bytes) -> None:
        skipped, err = ffi.new("char **"), new_error()
        with StateList.decode(data) as state:
            check(lib.pvmm_load(self._handle.pointer, state.pointer, skipped, err), err)
        # It may have brought another CPUID; asking takes time in a blackout.
        self._kvm = None
        self._skipped = _take_string(skipped[0])

    def before_run(self) -> None:
        """Starts the measurement of :meth:`guest_gap_ms` anew."""
        err = new_error()
        check(lib.pvmm_before_run(self._handle.pointer, err), err)

    def close(self) -> None:
        self._memory.close()
        self._handle.close()

    # -- what this machine has besides -------------------------------------

    @property
    def skipped(self) -> str | None:
        """What the last load_state() left out because this host lacks it."""
        return self._skipped

    def oracle(self, *, content: bool = False) -> OracleResult:
        """Check the paused machine's memory and devices.

        :param content: also compare every page outside the working set.
        :raises EngineError: it is running.
        """
        return read_oracle(self._handle.pointer, content=content)

    def heartbeats(self) -> list[Heartbeat]:
        """One for each vCPU."""
        return [read_heartbeat(self._handle.pointer, n) for n in range(self.config.vcpus)]

    def guest_gap_ms(self) -> float:
        """How long the guest stood still by its own clock.

        The time between the last heartbeat before before_run() and the first
        one after it, of the vCPU that missed most; 0 until all have beaten.
        """
        return float(lib.pvmm_guest_gap_ns(self._handle.pointer)) / 1e6

    def longest_gap_ms(self) -> float:
        """The longest time between any two heartbeats since before_run().

        On a busy host this is not the migration's.
        """
        return float(lib.pvmm_longest_gap_ns(self._handle.pointer)) / 1e6

    def status(self) -> VmStatus:
        return read_status(self._handle.pointer)

    def throttled(self) -> Throttled:
        return read_throttled(self._handle.pointer)

    def wait_device_reads(self, count: int, timeout_ms: int = 10000) -> None:
        """Return when the guest has used the sequencer count more times.

        :raises EngineError: timeout, or a vCPU has stopped for good.
        """
        err = new_error()
        check(lib.pvmm_wait_device_reads(self._handle.pointer, count, timeout_ms, err), err)

    def serial(self, size_bytes: int = 4096) -> bytes:
        """The last of what the guest wrote to its serial port."""
        buffer = ffi.new("char[]", max(1, size_bytes))
        used = lib.pvmm_serial(self._handle.pointer, buffer, size_bytes)
        return bytes(ffi.buffer(buffer, used))

    def ram(self) -> memoryview:
        """RAM of this process, writable; gone when the machine is closed."""
        size = self.config.memory_bytes
        return memoryview(ffi.buffer(lib.pvmm_ram(self._handle.pointer), size)).cast("B")

    def _describe_kvm(self) -> dict[str, Any] | None:
        if self._kvm is None:
            self._kvm = self._ask_kvm_paused()
        described: dict[str, Any] | None = json.loads(self._kvm)
        return described

    def _ask_kvm_paused(self) -> str:
        """KVM answers for a vCPU only when that leaves the guest."""
        running = self.status().running
        if running:
            self.pause()
        try:
            return self._ask_kvm()
        finally:
            if running:
                self.resume()

    def _ask_kvm(self) -> str:
        kvm = lib.pvmm_kvm(self._handle.pointer)
        if not kvm:
            return "null"
        out, err = ffi.new("char **"), new_error()
        check(lib.pmig_kvm_describe(kvm, out, err), err)
        return _take_string(out[0]) or "null"


def _take_string(pointer: Any) -> str | None:
    """Copy and release a string that C allocated."""
    if not pointer:
        return None
    try:
        return str(ffi.string(pointer).decode())
    finally:
        lib.pmig_string_free(pointer)


def _regions(vm: Any) -> list[Region]:
    memory = lib.pvmm_memory(vm)
    region = ffi.new("struct pmig_region *")
    found = []
    for index in range(lib.pmig_memory_regions(memory)):
        check(lib.pmig_memory_region(memory, index, region))
        found.append(
            Region(
                gpa=region.gpa,
                size_bytes=region.size_bytes,
                hva=int(ffi.cast("uintptr_t", region.hva)),
                page_size_bytes=region.page_size_bytes,
                fd=region.fd,
                fd_offset_bytes=region.fd_offset_bytes,
                shared=bool(region.flags & lib.PMIG_REGION_SHARED),
                name=ffi.string(region.name).decode(),
            )
        )
    return found

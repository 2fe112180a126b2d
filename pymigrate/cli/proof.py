# SPDX-License-Identifier: Apache-2.0
"""Proof that the guest is whole, asked of the machine that runs it now."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from pymigrate._engine import PAGE_BYTES
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.errors import MigrateError
from pymigrate.vmm import Content, Vm

__all__ = ["GuestProof", "heartbeat_count", "prove"]

# The guest uses its device with every heartbeat, at 1000 Hz unless it is
# interpreted and busy: this many are a fraction of a second.
_DEVICE_READS = 20
_PROGRESS_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class GuestProof:
    """What a machine showed after it went on for a while.

    :ivar beats_before: heartbeats of all vCPUs when the watch began.
    :ivar beats_after: and when it ended.
    :ivar guest_gap_ms: longest gap the guest saw in its own time.
    :ivar allocated_bytes: guest memory that is backed by pages here.
    :ivar oracle: what its counters and pages prove.
    """

    ran_for_ms: float
    beats_before: int
    beats_after: int
    guest_gap_ms: float
    allocated_bytes: int
    oracle: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.beats_after > self.beats_before and bool(self.oracle["ok"])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def heartbeat_count(vm: Vm) -> int:
    """Heartbeats of all vCPUs."""
    return sum(beat.count for beat in vm.heartbeats())


def prove(vm: Vm, run_for_ms: int) -> GuestProof:
    """Let the running guest go on, then pause it and ask the oracle.

    :raises CommandError: the guest makes no progress, or has crashed.
    """
    before, begin = heartbeat_count(vm), time.monotonic()
    try:
        vm.wait_device_reads(_DEVICE_READS * vm.config.vcpus, _PROGRESS_TIMEOUT_MS)
        # Early, so that it is the gap of the migration and not a later one.
        gap = vm.guest_gap_ms()
        # Running for a while is the point here: the guest writes its pages.
        time.sleep(max(0.0, run_for_ms / 1e3 - (time.monotonic() - begin)))
        after, ran_for_ms = heartbeat_count(vm), (time.monotonic() - begin) * 1e3
        vm.pause()
        allocated = _allocated_bytes(vm)
        # Reading memory that was never touched would allocate it.
        oracle = vm.oracle(content=vm.config.content is not Content.UNTOUCHED)
    except MigrateError as error:
        words = f"the guest arrived, but does not go on: {error}"
        raise CommandError(words, Exit.OPERATOR) from error
    return GuestProof(ran_for_ms, before, after, gap, allocated, oracle.to_json())


def _allocated_bytes(vm: Vm) -> int:
    """Found without reading, so without allocating."""
    return PAGE_BYTES * sum(word.bit_count() for word in vm.memory().present())

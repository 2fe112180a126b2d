# SPDX-License-Identifier: Apache-2.0
"""What a machine of the reference VMM says about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pymigrate._engine import check, ffi, lib, new_error

__all__ = ["Heartbeat", "OracleResult", "Throttled", "VmStatus"]


@dataclass(frozen=True)
class OracleResult:
    """What the pages of a paused guest prove.

    :ivar ok: nothing is wrong.
    :ivar counters_checked: pages of the working set that were compared.
    :ivar content_checked: pages outside of it; 0 when not asked for.
    :ivar steps: writes that the counters add up to.
    :ivar sweeps: the smallest counter.
    :ivar device_reads: numbers that the sequencer gave.
    :ivar message: the first thing that is wrong, or empty.
    """

    ok: bool
    counters_checked: int
    content_checked: int
    steps: int
    sweeps: int
    device_reads: int
    message: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object for the report."""
        return asdict(self)


@dataclass(frozen=True)
class Heartbeat:
    """What one vCPU last wrote about itself; times are guest TSC ticks."""

    count: int
    last_tsc: int
    max_gap_tsc: int
    max_gap_at_tsc: int
    backwards: int
    device_reads: int
    device_errors: int
    content_errors: int
    steps: int


@dataclass(frozen=True)
class VmStatus:
    """How the machine is doing.

    :ivar stopped_vcpus: that hit something unexpected and never run again.
    :ivar kicks: pauses that had to interrupt a vCPU.
    :ivar message: why the first one stopped, or empty.
    """

    running: bool
    stopped_vcpus: int
    ring_full_exits: int
    kicks: int
    message: str


@dataclass(frozen=True)
class Throttled:
    """How much a machine's vCPUs are kept from running.

    :ivar percent: as asked for.
    :ivar held_back_vcpus: that write, and so are held back now.
    :ivar waits: that vCPUs were made to.
    :ivar waited_ns: by all vCPUs together.
    """

    percent: int
    held_back_vcpus: int
    waits: int
    waited_ns: int


def read_oracle(pointer: Any, *, content: bool) -> OracleResult:
    """Ask the oracle of a paused machine."""
    out, err = ffi.new("struct pvmm_oracle *"), new_error()
    flags = lib.PVMM_ORACLE_CONTENT if content else 0
    check(lib.pvmm_oracle(pointer, flags, out, err), err)
    return OracleResult(
        ok=bool(out.ok),
        counters_checked=out.counters_checked,
        content_checked=out.content_checked,
        steps=out.steps,
        sweeps=out.sweeps,
        device_reads=out.device_reads,
        message=ffi.string(out.message).decode(),
    )


def read_heartbeat(pointer: Any, vcpu: int) -> Heartbeat:
    """One vCPU's; the machine may be running."""
    out = ffi.new("struct pvmm_heartbeat *")
    check(lib.pvmm_heartbeat(pointer, vcpu, out))
    names = Heartbeat.__dataclass_fields__
    return Heartbeat(**{name: int(getattr(out, name)) for name in names})


def read_status(pointer: Any) -> VmStatus:
    out = ffi.new("struct pvmm_status *")
    lib.pvmm_status(pointer, out)
    return VmStatus(
        running=bool(out.running),
        stopped_vcpus=out.stopped_vcpus,
        ring_full_exits=out.ring_full_exits,
        kicks=out.kicks,
        message=ffi.string(out.message).decode(),
    )


def read_throttled(pointer: Any) -> Throttled:
    out = ffi.new("struct pvmm_throttled *")
    lib.pvmm_throttled(pointer, out)
    names = Throttled.__dataclass_fields__
    return Throttled(**{name: int(getattr(out, name)) for name in names})

# SPDX-License-Identifier: Apache-2.0
"""Made-up reports of migrations whose pages followed the guest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pymigrate.report import (
    Downtime,
    FaultReport,
    Guest,
    LatencyReport,
    LateReport,
    Outcome,
    Report,
    RoundReport,
    Total,
    Tracker,
)

FAULTS = FaultReport(
    count=1234,
    p50_us=212.0,
    p90_us=480.0,
    p99_us=2310.0,
    max_us=18_700.0,
    mean_us=290.0,
    queueing=LatencyReport(1200, 8.4, 60.0, 900.0, 9000.0, 20.0),
    network=LatencyReport(1200, 180.0, 400.0, 1900.0, 11_000.0, 220.0),
    placement=LatencyReport(1200, 6.1, 11.0, 40.0, 300.0, 8.0),
    local=LatencyReport(31, 3.2, 5.0, 9.0, 12.0, 4.0),
    pushed=34,
    threads=3,
    stalled_ms=357.9,
    longest_stalled_ms=201.4,
    last_page_ms=2150.0,
    probes=400,
    probes_used=340,
    samples=tuple((float(at), 120.0 + (at * 37 % 4000)) for at in range(0, 2000, 2)),
)
LATE = LateReport(
    reason="as asked for, before any round",
    outstanding_pages=65_000,
    sent_pages=65_012,
    answered_pages=1200,
    neighbour_pages=9000,
    refused_pages=12,
    requests=1234,
    wire_bytes=250 << 20,
    duration_ms=2160.0,
)


def late_round(epoch: int, kind: str, elapsed_ms: float, **members: Any) -> RoundReport:
    """A round of such a migration."""
    common: dict[str, Any] = {
        "dirty_pages": 0, "sent_pages": 0, "zero_pages": 0, "raw_pages": 0, "hole_pages": 0,
        "wire_bytes": 9000, "duration_ms": 4.0, "harvest_ms": 0.5, "bandwidth_bytes_per_s": 1e6,
        "pending_pages": 0, "predicted_downtime_ms": 0.0, "decision": "post-copy",
        "reason": LATE.reason, "pages_by_encoding": {"raw": 0}, "bytes_by_encoding": {"raw": 0},
    }  # fmt: skip
    return RoundReport(epoch=epoch, kind=kind, elapsed_ms=elapsed_ms, **{**common, **members})


ROUNDS = (
    late_round(1, "fuzzy", 50.0, dirty_pages=65_536, outstanding_pages=64_900),
    late_round(2, "fuzzy", 55.0, outstanding_pages=60),
    late_round(3, "sealed", 70.0, outstanding_pages=40),
    late_round(
        4,
        "late",
        2230.0,
        sent_pages=65_012,
        wire_bytes=LATE.wire_bytes,
        duration_ms=2160.0,
        pages_by_encoding={"raw": 65_000},
        bytes_by_encoding={"raw": LATE.wire_bytes},
    ),
)
CONFIG = {
    "memory_bytes": 256 << 20, "vcpus": 2, "backend": "kvm", "guest": "sweep",
    "content": "random", "dirty_rate_pages_per_s": 10_000, "working_set_bytes": 16 << 20,
}  # fmt: skip
HOST = {"kernel": "6.1.0", "cpu": "a processor", "cpus": 2, "kvm": "kvm_intel"}

COMPLETED = Report(
    outcome=Outcome.COMPLETED,
    role="source",
    guest=Guest.DESTINATION,
    session="00" * 16,
    peer="tcp:192.0.2.7:4444",
    host=HOST,
    config=CONFIG,
    tracker=Tracker("kvm-ring", "ring", "the best that works"),
    rounds=ROUNDS,
    downtime=Downtime(14.0, 1.0, 4.0, 6.0, 1.0, 2.0),
    predicted_downtime_ms=12.0,
    total_ms=2240.0,
    wire_bytes=sum(done.wire_bytes for done in ROUNDS),
    total=Total.of(ROUNDS),
    late=LATE,
    faults=FAULTS,
)
INCOMPLETE = replace(
    COMPLETED,
    outcome=Outcome.INCOMPLETE,
    late=replace(LATE, missing_pages=12_345, duration_ms=0.0, recovering_ms=300_000.0),
    faults=None,
    missing_pages=12_345,
    error="tcp:192.0.2.7:4444 runs the guest, is out of reach, and had 12345 pages missing",
)

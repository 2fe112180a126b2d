# SPDX-License-Identifier: Apache-2.0
"""The engine's figures of faults, in the units of a report."""

from __future__ import annotations

from typing import Any

from pymigrate._engine import Faults, Latency
from pymigrate.report import FaultReport, LatencyReport

__all__ = ["fault_report"]

NS_PER_US = 1e3
NS_PER_MS = 1e6


def fault_report(faults: Faults) -> FaultReport:
    """What waiting for pages has cost so far. Any thread."""
    found = faults.figures()
    return FaultReport(
        **_latency(found.remote),
        queueing=LatencyReport(**_latency(found.queueing)),
        network=LatencyReport(**_latency(found.network)),
        placement=LatencyReport(**_latency(found.placement)),
        local=LatencyReport(**_latency(found.local)),
        pushed=found.pushed_faults,
        threads=found.threads,
        stalled_ms=found.stalled_ns / NS_PER_MS,
        longest_stalled_ms=found.longest_stalled_ns / NS_PER_MS,
        last_page_ms=found.last_page_ns / NS_PER_MS,
        probes=found.probes,
        probes_used=found.probes_used,
        samples=tuple(
            (at_ns / NS_PER_MS, took_ns / NS_PER_US) for at_ns, took_ns in faults.samples()
        ),
    )


def _latency(found: Latency) -> dict[str, Any]:
    return {
        "count": found.count,
        "p50_us": found.p50_ns / NS_PER_US,
        "p90_us": found.p90_ns / NS_PER_US,
        "p99_us": found.p99_ns / NS_PER_US,
        "max_us": found.max_ns / NS_PER_US,
        "mean_us": found.sum_ns / max(1, found.count) / NS_PER_US,
    }

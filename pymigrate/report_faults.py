# SPDX-License-Identifier: Apache-2.0
"""What a report says of a guest that ran before all of its pages had come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["FaultReport", "LateReport", "LatencyReport"]


@dataclass(frozen=True)
class LatencyReport:
    """How long something took, of count times.

    Quantiles are right to 3 %.
    """

    count: int = 0
    p50_us: float = 0.0
    p90_us: float = 0.0
    p99_us: float = 0.0
    max_us: float = 0.0
    mean_us: float = 0.0


@dataclass(frozen=True)
class FaultReport:
    """Faults on pages that the source still had, seen by the destination.

    The latency of a fault is the time from reading it until its page was
    placed. The parts are of those that were answered because they were asked
    for.

    :ivar count: of them, and their quantiles.
    :ivar queueing: at the destination before the request left, and at the
        source before its answer was written.
    :ivar network: there and back, queues on the way included.
    :ivar placement: decoded, checked, placed.
    :ivar local: faults that the source was not needed for.
    :ivar pushed: of count, those whose page was on its way already.
    :ivar threads: vCPUs and others that waited.
    :ivar stalled_ms: of all of them together.
    :ivar longest_stalled_ms: of the one that waited most.
    :ivar last_page_ms: from when the guest could fault until nothing was
        missing; 0: something is.
    :ivar probes: of the pages that came along with an answer, those that
        chance chose to be left unmapped, so that their first use shows.
    :ivar probes_used: of probes, those that were used: the share of
        prefetched pages that were a hit.
    :ivar samples: of faults over time: ms since the guest could fault, us
        that it took.
    """

    count: int = 0
    p50_us: float = 0.0
    p90_us: float = 0.0
    p99_us: float = 0.0
    max_us: float = 0.0
    mean_us: float = 0.0
    queueing: LatencyReport = field(default_factory=LatencyReport)
    network: LatencyReport = field(default_factory=LatencyReport)
    placement: LatencyReport = field(default_factory=LatencyReport)
    local: LatencyReport = field(default_factory=LatencyReport)
    pushed: int = 0
    threads: int = 0
    stalled_ms: float = 0.0
    longest_stalled_ms: float = 0.0
    last_page_ms: float = 0.0
    probes: int = 0
    probes_used: int = 0
    samples: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @staticmethod
    def of(members: Mapping[str, Any]) -> FaultReport:
        """What to_dict() gave, from a peer.

        Members that it does not know are dropped.

        :raises ValueError: it is malformed.
        """
        found: dict[str, Any] = {}
        for member in fields(FaultReport):
            if member.name in members:
                found[member.name] = _read(member.name, members[member.name])
        return FaultReport(**found)


_LATENCIES = ("queueing", "network", "placement", "local")


def _read(name: str, value: Any) -> Any:
    if name in _LATENCIES:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {value!r:.40}")
        known = {member.name for member in fields(LatencyReport)}
        return LatencyReport(**{k: _number(k, v) for k, v in value.items() if k in known})
    if name == "samples":
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"samples is {value!r:.40}")
        return tuple(_pair(sample) for sample in value)
    return _number(name, value)


def _pair(value: Any) -> tuple[float, float]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"a sample is {value!r:.40}")
    return _number("at", value[0]), _number("latency", value[1])


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise ValueError(f"{name} is {value!r:.40}")
    return value


@dataclass(frozen=True)
class LateReport:
    """Pages that followed the guest, seen by the source.

    :ivar reason: why the guest went ahead of them.
    :ivar outstanding_pages: at the switchover.
    :ivar missing_pages: now.
    :ivar sent_pages: after the switchover.
    :ivar answered_pages: of them, those that were asked for.
    :ivar neighbour_pages: and those that were sent with one.
    :ivar refused_pages: sent as what changed, which the destination could
        not build, and therefore once more.
    :ivar requests: that came.
    :ivar wire_bytes: of all of them.
    :ivar duration_ms: from the switchover to the last page.
    :ivar recoveries: times that the connections broke and were made again.
    :ivar recovering_ms: for which there were none.
    """

    reason: str = ""
    outstanding_pages: int = 0
    missing_pages: int = 0
    sent_pages: int = 0
    answered_pages: int = 0
    neighbour_pages: int = 0
    refused_pages: int = 0
    requests: int = 0
    wire_bytes: int = 0
    duration_ms: float = 0.0
    recoveries: int = 0
    recovering_ms: float = 0.0

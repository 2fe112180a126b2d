# SPDX-License-Identifier: Apache-2.0
"""What a migration reports: frozen dataclasses, and their JSON form.

The JSON form is one object, ``{"schema": "pymigrate.report/1", ...}``, with
the members of :class:`Report`. Members may be added within a schema version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from pymigrate.report_faults import FaultReport, LatencyReport, LateReport
from pymigrate.report_restore import RestoreReport

__all__ = [
    "SCHEMA",
    "Downtime",
    "ExitCode",
    "FaultReport",
    "Guest",
    "LateReport",
    "LatencyReport",
    "Outcome",
    "Rehearsal",
    "Report",
    "RestoreReport",
    "RoundReport",
    "Total",
    "Tracker",
    "Verify",
]

SCHEMA = "pymigrate.report/1"
PAGE_BYTES = 4096


class Outcome(str, Enum):
    """How it ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    NOT_CONVERGED = "not-converged"
    CANCELLED = "cancelled"
    IN_DOUBT = "in-doubt"
    INCOMPLETE = "incomplete"  # the guest moved, some of its pages did not


class Guest(str, Enum):
    """Who may run the guest now."""

    SOURCE = "source"
    DESTINATION = "destination"
    FILE = "file"
    UNKNOWN = "unknown"


class ExitCode(int, Enum):
    """Exit codes of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_CONVERGED = 3
    OPERATOR = 4


@dataclass(frozen=True)
class RoundReport:
    """One round; the sealed one is last, or several are.

    :ivar predicted_downtime_ms: of switching over after it.
    :ivar predicted_total_ms: of the migration, if the decision holds.
    :ivar reachable_downtime_ms: the least that further rounds could lead to;
        None where the policy does not say.
    :ivar window_ms: in which pending_pages were dirtied.
    :ivar elapsed_ms: since the migration began, when they were counted.
    :ivar disturbed: a rehearsal ran beside it.
    :ivar throttle_percent: how much of its time the guest was kept from
        running.
    :ivar hot_pages: of pending_pages, those that the last two rounds sent.
    :ivar held_pages: pending in this round, and left to the last one.
    :ivar pages_by_encoding: ``raw``, ``unchanged``, ``delta``, ``copy``,
        ``lz4``, ``zstd``, ``zero``, and ``hole``, which nothing was sent for.
    :ivar bytes_by_encoding: of the pages' contents, without frame heads.
    :ivar compression: in effect at the end of the round, and likewise its
        level, the number of active channels, and zero copy.
    :ivar link_bytes_per_s: as measured; 0: it was never the limit.
    :ivar encode_ms: processor time of all workers.
    :ivar blocked_ms: of all workers, waiting for channels.
    :ivar delta_memory_bytes: fingerprints held.
    :ivar outstanding_pages: named instead of being sent; they come late.
    :ivar stale_pages: could not be built at the destination, which asked for
        them again after the round.
    :ivar choices: of compression and the like, each with its reason.
    """

    epoch: int
    kind: str
    dirty_pages: int
    sent_pages: int
    zero_pages: int
    raw_pages: int
    hole_pages: int
    wire_bytes: int
    duration_ms: float
    harvest_ms: float
    bandwidth_bytes_per_s: float
    pending_pages: int
    predicted_downtime_ms: float
    decision: str
    reason: str
    predicted_total_ms: float = 0.0
    reachable_downtime_ms: float | None = None
    window_ms: float = 0.0
    elapsed_ms: float = 0.0
    disturbed: bool = False
    throttle_percent: int = 0
    hot_pages: int = 0
    held_pages: int = 0
    pages_by_encoding: Mapping[str, int] = field(default_factory=dict)
    bytes_by_encoding: Mapping[str, int] = field(default_factory=dict)
    compression: str = "none"
    compression_level: int = 0
    active_channels: int = 0
    zero_copy: bool = False
    link_bytes_per_s: int = 0
    encode_ms: float = 0.0
    blocked_ms: float = 0.0
    delta_memory_bytes: int = 0
    outstanding_pages: int = 0
    stale_pages: int = 0
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Total:
    """All rounds together.

    :ivar wire_bytes: everything that was written to the channels.
    :ivar raw_bytes: the size of the pages that were sent, those of zeros
        included: what sending them as they are would have taken.
    """

    wire_bytes: int
    raw_bytes: int
    pages_by_encoding: Mapping[str, int]
    bytes_by_encoding: Mapping[str, int]

    @staticmethod
    def of(rounds: Sequence[RoundReport]) -> Total:
        """The sum of the rounds."""
        return Total(
            wire_bytes=sum(done.wire_bytes for done in rounds),
            raw_bytes=PAGE_BYTES * sum(done.sent_pages for done in rounds),
            pages_by_encoding=_sum(done.pages_by_encoding for done in rounds),
            bytes_by_encoding=_sum(done.bytes_by_encoding for done in rounds),
        )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, value in count.items():
            total[name] = total.get(name, 0) + value
    return total


@dataclass(frozen=True)
class Downtime:
    """From asking the guest to pause until the destination ran it.

    Seen by the source, so it contains the way of the last answer. The parts
    add up to total_ms.

    :ivar quiesce_ms: until no vCPU ran.
    :ivar state_ms: capture at the source and load at the destination.
    :ivar final_round_ms: the pages that were left, until they had arrived.
    :ivar commit_ms: COMMIT and its answer.
    :ivar resume_ms: until the vCPUs ran at the destination.
    """

    total_ms: float
    quiesce_ms: float
    final_round_ms: float
    state_ms: float
    commit_ms: float
    resume_ms: float


@dataclass(frozen=True)
class Rehearsal:
    """The trial of capture and load while pages flowed.

    Where there were several, the shortest of each time.

    :ivar pause_ms: for which the guest did not run.
    :ivar round_trip_ms: one message on the control connection and its answer.
    """

    pause_ms: float
    quiesce_ms: float
    capture_ms: float
    resume_ms: float
    load_ms: float
    round_trip_ms: float
    state_bytes: int
    repetitions: int = 1


@dataclass(frozen=True)
class Verify:
    """Pages compared on both sides, and how many differed."""

    pages: int
    mismatches: int
    duration_ms: float = 0.0


@dataclass(frozen=True)
class Tracker:
    """How dirty pages were found, and why so."""

    kind: str
    variant: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The outcome of a migration, as one side saw it.

    :ivar role: "source" or "destination".
    :ivar guest: who may run the guest now.
    :ivar error: one sentence, unless completed.
    :ivar differences: why the destination refused.
    :ivar total: of the rounds, from the source.
    :ivar predicted_downtime_ms: what the decision to switch rested on.
    :ivar verify_ms: not a part of the downtime.
    :ivar guest_gap_ms: the gap that the guest itself saw; filled in by who
        can ask the guest.
    :ivar oracle: what the guest's own counters proved; likewise.
    :ivar late: pages that followed the guest; from the source.
    :ivar faults: what it cost to wait for them; the source has it from the
        destination.
    :ivar missing_pages: at the destination, which runs the guest.
    :ivar restore: of a guest that ran before its memory had been read.
    """

    outcome: Outcome
    role: str
    guest: Guest
    session: str
    peer: str
    host: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    tracker: Tracker | None = None
    rounds: tuple[RoundReport, ...] = ()
    rehearsal: Rehearsal | None = None
    downtime: Downtime | None = None
    predicted_downtime_ms: float | None = None
    total_ms: float = 0.0
    wire_bytes: int = 0
    total: Total | None = None
    verify: Verify | None = None
    verify_ms: float = 0.0
    guest_gap_ms: float | None = None
    oracle: dict[str, Any] | None = None
    late: LateReport | None = None
    faults: FaultReport | None = None
    missing_pages: int = 0
    restore: RestoreReport | None = None
    error: str | None = None
    differences: tuple[str, ...] = ()

    @property
    def prediction_error_ms(self) -> float | None:
        """Measured minus predicted downtime; None where one is missing."""
        if self.downtime is None or self.predicted_downtime_ms is None:
            return None
        return self.downtime.total_ms - self.predicted_downtime_ms

    @property
    def prediction_error_percent(self) -> float | None:
        """The same as a share of what was measured."""
        error_ms = self.prediction_error_ms
        if error_ms is None or self.downtime is None or self.downtime.total_ms <= 0:
            return None
        return 100.0 * error_ms / self.downtime.total_ms

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that stands for this outcome."""
        if self.outcome is Outcome.COMPLETED:
            return ExitCode.DONE
        if self.outcome in (Outcome.IN_DOUBT, Outcome.INCOMPLETE):
            return ExitCode.OPERATOR
        if self.guest is Guest.UNKNOWN:
            return ExitCode.OPERATOR
        if self.outcome in (Outcome.NOT_CONVERGED, Outcome.CANCELLED):
            return ExitCode.NOT_CONVERGED
        return ExitCode.FAILED

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, enums as their values."""
        return {
            "schema": SCHEMA,
            **asdict(self, dict_factory=_plain),
            "prediction_error_ms": self.prediction_error_ms,
            "prediction_error_percent": self.prediction_error_percent,
        }

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent)


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in pairs}

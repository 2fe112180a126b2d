# SPDX-License-Identifier: Apache-2.0
"""What a handler of page faults reports when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from pymigrate.report import ExitCode, FaultReport

__all__ = ["SCHEMA", "HandlerOutcome", "HandlerReport", "PrefetchReport"]

SCHEMA = "pymigrate.uffd-handler/1"


class HandlerOutcome(str, Enum):
    """How it ended."""

    COMPLETE = "complete"  # all of memory is there, and the kernel's again
    VMM_ENDED = "vmm-ended"
    INTERRUPTED = "interrupted"  # pages are missing; another one can go on
    FAILED = "failed"  # likewise, but here it cannot


_EXIT_CODES = {
    HandlerOutcome.COMPLETE: ExitCode.DONE,
    HandlerOutcome.VMM_ENDED: ExitCode.DONE,
    HandlerOutcome.INTERRUPTED: ExitCode.NOT_CONVERGED,
    HandlerOutcome.FAILED: ExitCode.OPERATOR,
}


@dataclass(frozen=True)
class PrefetchReport:
    """What knowing the working set has saved.

    :ivar pages: of the working set that were missing when it began.
    :ivar hits: of them, those that nobody had to ask for: they were there
        before their first use.
    :ivar late_pages: those that were asked for before they came.
    :ivar other_pages: pages asked for that are not of the working set.
    """

    pages: int = 0
    hits: int = 0
    late_pages: int = 0
    other_pages: int = 0

    @staticmethod
    def of(expected: Sequence[int], touched: Sequence[int]) -> PrefetchReport:
        """From the pages that were prefetched, and those asked for."""
        prefetched, asked = set(expected), set(touched)
        late = len(prefetched & asked)
        return PrefetchReport(
            pages=len(prefetched),
            hits=len(prefetched) - late,
            late_pages=late,
            other_pages=len(asked) - late,
        )


@dataclass(frozen=True)
class HandlerReport:
    """The outcome of one run.

    :ivar memory: the file or server that the pages came from.
    :ivar vmm_pid: 0: not known.
    :ivar took_over: from a handler that was killed.
    :ivar regions: as in the handshake.
    :ivar pages: of all regions.
    :ivar expected_pages: that were to come when this run began; the others
        are holes of the file, or were dealt with before.
    :ivar served_pages: of them, that were placed or removed.
    :ivar missing_pages: that still have to come.
    :ivar interruptions: times that the page server was lost and found again.
    :ivar recorded_pages: of the working set that was written; None: none was.
    """

    outcome: HandlerOutcome
    memory: str
    socket: str
    vmm_pid: int = 0
    took_over: bool = False
    regions: Sequence[Mapping[str, int]] = ()
    pages: int = 0
    expected_pages: int = 0
    served_pages: int = 0
    missing_pages: int = 0
    interruptions: int = 0
    recorded_pages: int | None = None
    prefetch: PrefetchReport = field(default_factory=PrefetchReport)
    faults: FaultReport = field(default_factory=FaultReport)
    duration_ms: float = 0.0
    error: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that stands for this outcome."""
        return _EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"schema": SCHEMA, **asdict(self), "outcome": self.outcome.value}

# SPDX-License-Identifier: Apache-2.0
"""The engine at work for one VMM, and what came of it."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass

from pymigrate._clock import Stopwatch
from pymigrate._engine import BLOCK_PAGES, PAGE_BYTES, Faults, Push
from pymigrate._fault_figures import fault_report
from pymigrate.errors import EngineError, MigrateError
from pymigrate.uffd_handler.meeting import Charge
from pymigrate.uffd_handler.memory import ForeignMemory
from pymigrate.uffd_handler.report import HandlerOutcome, HandlerReport, PrefetchReport
from pymigrate.uffd_handler.supply import Note, Plan, Supply
from pymigrate.uffd_handler.vmm_process import VmmProcess
from pymigrate.uffd_handler.working_set import Recorder, first_pages

__all__ = ["HandlerOptions", "Service"]

# That the VMM ended, or the way to the pages, is noticed within this.
NOTICE_MS = 100


@dataclass(frozen=True)
class HandlerOptions:
    """What a handler is to do.

    :ivar socket_path: where the VMM connects.
    :ivar working_set_path: of the pages to prefetch, or to record.
    :ivar record: write the working set, and fetch nothing unasked.
    :ivar push: what comes after the working set.
    :ivar fill_bytes_per_s: of that, from a file; 0: as fast as it goes.
    :ivar connect_timeout_ms: for the VMM to connect; None: no limit.
    """

    socket_path: str
    working_set_path: str | None = None
    record: bool = False
    push: Push = Push.ALL
    fill_bytes_per_s: int = 0
    connect_timeout_ms: int | None = None


class Service:
    """Handles the faults of one VMM until close(), which is idempotent.

    :param charge: closed by the caller, after this.
    """

    def __init__(self, charge: Charge, supply: Supply, options: HandlerOptions, note: Note) -> None:
        self._charge, self._supply, self._options, self._note = charge, supply, options, note
        self._served = charge.state.served
        self._time = Stopwatch()
        self._expected_pages = 0
        self._prefetched: list[int] = []
        self._stack = contextlib.ExitStack()
        self._vmm = VmmProcess(self._served.vmm, charge.uffd)
        self._stack.callback(self._vmm.close)
        try:
            self._foreign = ForeignMemory(self._served.regions)
            self._stack.callback(self._foreign.close)
            self._faults = self._stack.enter_context(
                Faults(
                    self._foreign.memory,
                    uffd=charge.uffd,
                    bases=self._foreign.bases,
                    record=charge.state.record,
                )
            )
            self._stack.callback(supply.close)
            self._describe = self._foreign.memory.describe()
            self._recorder = self._make_recorder()
        except BaseException:
            self._stack.close()
            raise

    def _make_recorder(self) -> Recorder:
        path = self._options.working_set_path if self._options.record else None
        before: tuple[int, ...] = ()
        if self._charge.took_over:
            before = first_pages(path, self._describe, self._note)
        return Recorder(path, self._describe, self._note, before)

    def run(self) -> HandlerReport:
        """Until all pages have come, or the VMM has ended, or an interrupt."""
        error: str | None = None
        try:
            self._begin()
            outcome, error = self._watch()
        except KeyboardInterrupt:
            outcome = HandlerOutcome.INTERRUPTED
        except MigrateError as failure:
            outcome, error = HandlerOutcome.FAILED, str(failure)
        self._supply.close()
        self._recorder.save(self._faults)
        return self._report(outcome, error)

    def _begin(self) -> None:
        plan = Plan(push=Push.NONE)
        if not self._options.record:
            path = self._options.working_set_path
            plan = Plan(
                first_pages(path, self._describe, self._note),
                self._options.push,
                self._options.fill_bytes_per_s,
            )
        self._supply.begin(
            self._foreign.memory, self._faults, plan, lambda: self._note_expected(plan)
        )
        how = "taking over" if self._charge.took_over else "serving"
        count = len(self._served.regions)
        self._note(
            f"{how} the page faults of {self._vmm.name}: {count} "
            f"{'region' if count == 1 else 'regions'} of memory, from {self._supply.name}"
        )

    def _note_expected(self, plan: Plan) -> None:
        words = memoryview(self._faults.missing()).cast("Q")
        self._expected_pages = sum(word.bit_count() for word in words)
        self._prefetched = [
            page
            for page in plan.first_pages
            if words[page // BLOCK_PAGES] >> page % BLOCK_PAGES & 1
        ]

    def _watch(self) -> tuple[HandlerOutcome, str | None]:
        while True:
            try:
                if self._faults.wait(NOTICE_MS):
                    return HandlerOutcome.COMPLETE, None
            except EngineError as failure:
                if failure.code == -errno.ESRCH or self._vmm.has_ended():
                    return HandlerOutcome.VMM_ENDED, None
                return HandlerOutcome.FAILED, str(failure)
            if self._vmm.has_ended():
                return HandlerOutcome.VMM_ENDED, None
            if (failed := self._supply.failure) is not None:
                return HandlerOutcome.FAILED, str(failed)
            self._recorder.tick(self._faults)

    def _report(self, outcome: HandlerOutcome, error: str | None) -> HandlerReport:
        missing_pages = self._faults.missing_pages()
        return HandlerReport(
            outcome=outcome,
            memory=self._supply.name,
            socket=self._options.socket_path,
            vmm_pid=self._served.vmm.pid,
            took_over=self._charge.took_over,
            regions=tuple(region.to_json() for region in self._served.regions),
            pages=sum(region.size_bytes for region in self._served.regions) // PAGE_BYTES,
            expected_pages=self._expected_pages,
            served_pages=self._expected_pages - missing_pages,
            missing_pages=missing_pages,
            interruptions=self._supply.interruptions,
            recorded_pages=self._recorder.saved_pages,
            prefetch=PrefetchReport.of(self._prefetched, self._faults.touched()),
            faults=fault_report(self._faults),
            duration_ms=self._time.elapsed_ms(),
            error=error,
        )

    def close(self) -> None:
        """Stop handling; where pages are missing, who needs one waits."""
        self._stack.close()

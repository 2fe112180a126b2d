# SPDX-License-Identifier: Apache-2.0
"""A guest that runs while its memory comes from a file.

Theory of operation. The engine answers faults and fills memory on threads of
its own (csrc/restore/restore.h); here they are watched. When nothing is
missing any more, the pages that the guest touched first are written down
beside the file and everything is released: memory is then as any other.

Until then memory rests on what is here, so whoever closes a machine's memory
closes this before: the guest is paused, nothing more is read, faults are
handled no longer, and only then memory goes.

A page that cannot be read, or is damaged, is never given to the guest: who
touches it waits, and wait() and error say why. If the guest has not run yet,
such waiting ends, and it never does run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pymigrate._clock import Stopwatch
from pymigrate._engine import Faults, Restore
from pymigrate._fault_figures import fault_report
from pymigrate._patient import PatientPause
from pymigrate.errors import EngineError, WorkingSetError
from pymigrate.machine import Machine
from pymigrate.report import FaultReport, RestoreReport
from pymigrate.working_set import (
    load_working_set,
    merge_working_sets,
    save_working_set,
    working_set_path,
)

__all__ = ["KnownPages", "Restoring"]

NS_PER_MS = 1e6


@dataclass(frozen=True)
class KnownPages:
    """Pages that a guest out of this file touched first, the last time.

    :ivar path: of their list, whether or not there is one.
    :ivar pages: to be prefetched, in this order.
    :ivar words: what became of the list.
    """

    path: str
    pages: tuple[int, ...] = ()
    words: str = "none was recorded"

    @staticmethod
    def beside(path: str, memory: Sequence[Mapping[str, Any]]) -> KnownPages:
        """The list beside a file; one that cannot be used is as good as none."""
        place = working_set_path(path)
        if not os.path.exists(place):
            return KnownPages(place)
        try:
            pages = load_working_set(place, memory)
        except WorkingSetError as error:
            return KnownPages(place, words=f"ignored: {error}")
        return KnownPages(place, tuple(pages), "prefetched in the order of its first use")


class Restoring:
    """Memory on its way from a file to a guest that runs.

    :param stream: the file; closed in the end.
    :param clock: started when the guest was asked for.
    :ivar error: why memory will never be complete; None: nothing is wrong.
    """

    def __init__(
        self,
        machine: Machine,
        faults: Faults,
        restore: Restore,
        stream: BinaryIO,
        known: KnownPages,
        clock: Stopwatch,
    ) -> None:
        self.error: EngineError | None = None
        self._machine: Machine | None = machine
        self._memory = machine.memory()
        self._faults, self._restore, self._stream = faults, restore, stream
        self._known, self._clock = known, clock
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self._done = threading.Event()
        self._may_run = self._released = False
        self._recorded = ""
        self._running_ms = 0.0
        self._last: tuple[RestoreReport, FaultReport] | None = None
        self._watcher = threading.Thread(target=self._watch, name="pmig-restoring", daemon=True)

    def begin(self) -> None:
        """Handle faults: memory may be touched from now on.

        :raises EngineError: the kernel does not let us.
        """
        self._faults.start()
        self._restore.start()
        self._watcher.start()
        self._memory.lend(self.close, self.wait)

    def check(self) -> None:
        """:raises EngineError: memory will never be complete, and why."""
        if self.error is not None:
            raise self.error

    def allow_run(self) -> None:
        """The guest is about to run: from now on memory is not given up.

        :raises EngineError: it was already; the machine is of no use.
        """
        with self._lock:
            self.check()
            self._may_run = True

    def runs(self) -> None:
        """The guest does: bring also what it does not touch."""
        self._running_ms = self._clock.elapsed_ms()
        self._restore.fill()

    # ---- what becomes of it --------------------------------------------

    @property
    def complete(self) -> bool:
        """Nothing is missing, and memory is as any other. Any thread."""
        return self._done.is_set() and self.error is None

    @property
    def missing_pages(self) -> int:
        """Any thread."""
        with self._lock:
            return self._last[0].missing_pages if self._last else self._faults.missing_pages()

    def wait(self, timeout_ms: float | None = None) -> bool:
        """Until memory is complete; False: the time is over. Any thread.

        :raises EngineError: it never will be, and why.
        """
        done = self._done.wait(None if timeout_ms is None else timeout_ms / 1000)
        self.check()
        return done

    def report(self) -> RestoreReport:
        """How far it is. Any thread."""
        with self._lock:
            found = self._figures()[0]
        return replace(found, running_ms=self._running_ms, recorded=self._recorded)

    def faults(self) -> FaultReport:
        """What waiting for pages has cost so far. Any thread."""
        with self._lock:
            return self._figures()[1]

    def _figures(self) -> tuple[RestoreReport, FaultReport]:
        """With the lock held."""
        if self._last is not None:
            return self._last
        found, faults = self._restore.figures(), fault_report(self._faults)
        restore = RestoreReport(
            index_ms=found.index_ns / NS_PER_MS,
            complete_ms=faults.last_page_ms,
            stored_pages=found.stored_pages,
            missing_pages=self._faults.missing_pages(),
            answered_pages=found.answered_pages,
            prefetched_pages=found.prefetched_pages,
            filled_pages=found.filled_pages,
            prefetch_ms=found.prefetch_ns / NS_PER_MS if self._known.pages else 0.0,
            known_pages=len(self._known.pages),
            working_set=self._known.words,
            read_bytes=found.read_bytes,
        )
        return restore, faults

    # ---- the end -------------------------------------------------------

    def _watch(self) -> None:
        """The thread that waits for the last page."""
        try:
            self._restore.wait()
        except EngineError as error:
            self._fail(error)
        else:
            self._release()
        self._done.set()

    def _fail(self, error: EngineError) -> None:
        with self._lock:
            self.error = error
            abandoned = not self._may_run
        if abandoned:
            # Whoever loads the machine may wait for the very page.
            self._faults.abandon()

    def _release(self) -> None:
        """Nothing is read any more; idempotent."""
        with self._lock:
            if self._released:
                return
            self._released = True
            if self._may_run:
                self._record()
            self._last = self._figures()
            self._restore.close()
            self._faults.close()
            self._stream.close()
            self._machine = None

    def _record(self) -> None:
        """Write down what the guest touched first."""
        pages = merge_working_sets(self._known.pages, self._faults.touched())
        new = len(pages) - len(self._known.pages)
        try:
            if new:
                save_working_set(self._known.path, self._memory.describe(), pages)
            self._recorded = f"{len(pages)} pages, {new} of them new"
        except WorkingSetError as error:
            self._recorded = f"not saved: {error}"

    def close(self) -> None:
        """Read nothing more; idempotent. A guest whose memory is not complete
        is paused before, and cannot run any more.
        """
        with self._closing:
            machine = self._machine
            if machine is not None and self._may_run and not self._released:
                PatientPause(machine)
            self._restore.cancel()
            if self._watcher.ident is not None:
                self._watcher.join()
            if not self._may_run:
                self._faults.abandon()
            self._release()
            self._done.set()

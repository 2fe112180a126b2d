#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The least that can be migrated: memory, something that writes to it, state.

    .venv/bin/python examples/python/embed.py

An embedder gives pymigrate a machine.  This one is an mmap, a thread that
counts in its pages as a guest would, and the number of the page that it will
count in next.  It migrates from this process to another one while it counts.
The pages prove that nothing was lost: as long as one thread counts through
them in order, those before the next page are one ahead of the others.
"""

from __future__ import annotations

import mmap
import multiprocessing
import sys
import tempfile
import threading
from multiprocessing.connection import Connection
from typing import Any

from pymigrate import (
    CallableMachine,
    Destination,
    Memory,
    Options,
    Outcome,
    Region,
    Report,
    Source,
    StateItem,
    StateList,
)

MEMORY_BYTES = 64 << 20
PAGE_BYTES = 4096
COUNTED_PAGES = 512
BETWEEN_COUNTS_S = 0.0001
STATE_ITEM = "example/next-page"


class Counter:
    """The machine: each hook that pymigrate needs is a method."""

    def __init__(self) -> None:
        self.ram = mmap.mmap(-1, MEMORY_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.next_page = 0
        self.rounds_done = threading.Semaphore(0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def as_machine(self) -> CallableMachine:
        """What Source and Destination take."""
        return CallableMachine(
            Memory([Region.of_buffer(self.ram)]),
            pause=self.pause,
            resume=self.resume,
            save_state=self.save_state,
            load_state=self.load_state,
            description={"kind": "counter"},
        )

    def resume(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._count, name="counter")
        self._thread.start()

    def pause(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def save_state(self) -> bytes:
        with StateList() as state:
            state.add(StateItem(STATE_ITEM, self.next_page.to_bytes(8, "little")))
            return state.encode()

    def load_state(self, data: bytes) -> None:
        with StateList.decode(data) as state:
            item = state.find(STATE_ITEM)
        if item is None:
            raise ValueError(f"the state has no item {STATE_ITEM}")
        self.next_page = int.from_bytes(item.data, "little")

    def _count(self) -> None:
        while not self._stop.wait(BETWEEN_COUNTS_S):
            at = self.next_page * PAGE_BYTES
            count = int.from_bytes(self.ram[at : at + 8], "little") + 1
            self.ram[at : at + 8] = count.to_bytes(8, "little")
            self.next_page = (self.next_page + 1) % COUNTED_PAGES
            if self.next_page == 0:
                self.rounds_done.release()

    def is_whole(self) -> bool:
        """Whether the pages agree with each other; to be asked while paused."""
        places = range(0, COUNTED_PAGES * PAGE_BYTES, PAGE_BYTES)
        counts = [int.from_bytes(self.ram[at : at + 8], "little") for at in places]
        ahead = counts[-1] + 1
        return counts == [
            ahead if page < self.next_page else counts[-1] for page in range(len(counts))
        ]


def receive(address: str, parent: Connection) -> None:
    """The destination process: receive, run for a while, look."""
    counter = Counter()

    def build(description: dict[str, Any]) -> CallableMachine:
        if description.get("kind") != "counter":
            raise ValueError("this host runs counters only")
        return counter.as_machine()

    with Destination(address, build) as destination:
        parent.send("listening")
        destination.serve_one()
        with destination.take_machine() as machine:
            counter.rounds_done.acquire()
            machine.pause()
            parent.send(counter.is_whole())


def show(report: Report) -> None:
    """What a person wants to know."""
    for done in report.rounds:
        print(f"{done.kind:7} {done.sent_pages:6} pages {done.wire_bytes:9} bytes")
    if report.downtime is None or report.verify is None:
        print(f"{report.outcome.value}: {report.error}")
        return
    print(
        f"{report.outcome.value}: downtime {report.downtime.total_ms:.1f} ms, predicted "
        f"{report.predicted_downtime_ms:.1f} ms; {report.verify.pages} pages compared, "
        f"{report.verify.mismatches} mismatches"
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:{directory}/migrate"
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("spawn").Process(
            target=receive, args=(address, theirs), daemon=True
        )
        child.start()
        ours.recv()
        counter = Counter()
        with counter.as_machine() as machine:
            machine.resume()
            counter.rounds_done.acquire()
            with Source(machine, address, Options(channels=2, verify=True)) as source:
                report = source.migrate()
            machine.pause()
        show(report)
        if report.outcome is not Outcome.COMPLETED:
            return 1
        whole = ours.recv()
        child.join()
    print(f"destination: the pages are {'whole' if whole else 'TORN'}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

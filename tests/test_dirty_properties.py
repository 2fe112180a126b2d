# SPDX-License-Identifier: Apache-2.0
"""The bitmaps of views against a model of Python sets, whatever the order."""

from __future__ import annotations

import mmap

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pymigrate import TrackerKind
from pymigrate._engine import BLOCK_PAGES, PAGE_BYTES, DirtyTracker, Memory, Region, View

# Two whole blocks and a partial one, then a region with a block of its own.
LOW_PAGES, HIGH_PAGES = 2 * BLOCK_PAGES + 5, 3
HIGH_GPA = 1 << 32
VIEWS = 2

Page = tuple[int, int]  # block, bit
views = st.integers(0, VIEWS - 1)


def page_of(number: int) -> Page:
    """Of page number of both regions, one after the other."""
    if number < LOW_PAGES:
        return divmod(number, BLOCK_PAGES)
    return LOW_PAGES // BLOCK_PAGES + 1, number - LOW_PAGES


ALL = {page_of(number) for number in range(LOW_PAGES + HIGH_PAGES)}


def pages(bitmap: list[int]) -> set[Page]:
    return {
        (block, bit) for block, word in enumerate(bitmap) for bit in range(64) if word >> bit & 1
    }


class ViewsAgainstSets(RuleBasedStateMachine):
    """No written page is ever lost to a view, and none is invented."""

    @initialize()
    def open(self) -> None:
        self.low = mmap.mmap(-1, LOW_PAGES * PAGE_BYTES, flags=mmap.MAP_PRIVATE)
        self.high = mmap.mmap(-1, HIGH_PAGES * PAGE_BYTES, flags=mmap.MAP_PRIVATE)
        self.memory = Memory(
            [
                Region.of_buffer(self.low, name="low"),
                Region.of_buffer(self.high, gpa=HIGH_GPA, name="high"),
            ]
        )
        self.tracker = DirtyTracker(self.memory, TrackerKind.MARKED)
        self.tracker.start()
        self.views = [View(self.tracker) for _ in range(VIEWS)]
        self.marked: set[Page] = set()
        self.pending = [set(ALL) for _ in range(VIEWS)]
        self.taken: list[set[Page]] = [set() for _ in range(VIEWS)]

    @rule(first=st.integers(0, LOW_PAGES - 1), count=st.integers(1, LOW_PAGES))
    def mark_low(self, first: int, count: int) -> None:
        count = min(count, LOW_PAGES - first)
        self.tracker.mark(first * PAGE_BYTES, count * PAGE_BYTES)
        self.marked |= {page_of(first + i) for i in range(count)}

    @rule(page=st.integers(0, HIGH_PAGES - 1), byte=st.integers(0, PAGE_BYTES - 1))
    def mark_one_byte_high(self, page: int, byte: int) -> None:
        self.tracker.mark(HIGH_GPA + page * PAGE_BYTES + byte, 1)
        self.marked.add(page_of(LOW_PAGES + page))

    @rule(index=views)
    def harvest(self, index: int) -> None:
        self.views[index].harvest()
        for pending in self.pending:
            pending |= self.marked
        self.marked.clear()

    @rule(index=views, first=st.integers(0, 3), count=st.integers(1, 4))
    def take(self, index: int, first: int, count: int) -> None:
        count = min(count, self.memory.blocks - first)
        self.views[index].rearm(first, count)
        bitmap = [0] * first + [self.views[index].take(first + i) for i in range(count)]
        due = {page for page in self.pending[index] if first <= page[0] < first + count}
        assert pages(bitmap) == due
        self.pending[index] -= due
        self.taken[index] |= due

    @rule(index=views)
    def commit(self, index: int) -> None:
        self.views[index].commit()
        self.taken[index].clear()

    @rule(index=views)
    def rollback(self, index: int) -> None:
        self.views[index].rollback()
        self.pending[index] |= self.taken[index]
        self.taken[index].clear()

    @invariant()
    def pending_is_what_the_model_says(self) -> None:
        for view, pending in zip(self.views, self.pending, strict=True):
            assert view.pending_pages() == len(pending)
            assert pages(view.peek(0, self.memory.blocks)) == pending

    def teardown(self) -> None:
        for view in self.views:
            view.close()
        self.tracker.close()
        self.memory.close()


TestViews = ViewsAgainstSets.TestCase

# SPDX-License-Identifier: Apache-2.0
"""Random streams that are right: a machine's pages over several epochs.

A history keeps what memory holds, so it can tell a page by any encoding that
gives it: by itself, by what it was, or by another page of the epoch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import stream_pages as sp
from stream_builder import (
    BLOCK,
    FUZZY,
    LATE,
    PAGE,
    SEALED,
    Frame,
    Region,
    Writer,
    config,
    end,
    item,
    ranges,
    served,
    state,
)
from stream_pages import Entry

ZEROS = bytes(PAGE)
Place = tuple[int, int]


class History:
    """A machine whose pages change, and the stream that says so.

    :ivar memory: what is not zero, by region and page number.
    """

    def __init__(self, regions: tuple[Region, ...], chosen: random.Random) -> None:
        self._chosen, self._regions = chosen, regions
        self.memory: dict[Place, bytes] = {}
        self._described: list[Place] = []
        self.writer = Writer(regions)

    def epoch(self, kind: int, blocks: int = 3) -> None:
        """Some blocks of the machine change in some pages."""
        self._described.clear()
        self.writer.begin(kind)
        places = self._places()
        for region, offset in self._chosen.sample(places, self._chosen.randint(0, blocks)):
            n_pages = self._n_pages(region, offset)
            count = self._chosen.choice([1, 2, 5, min(20, n_pages)])
            self._block(region, offset, self._chosen.sample(range(n_pages), count))
        self.writer.finish()

    def _places(self) -> list[Place]:
        """Region and offset of every block."""
        return [
            (number, offset)
            for number, region in enumerate(self._regions)
            for offset in range(0, region.size, BLOCK)
        ]

    def _n_pages(self, region: int, offset: int) -> int:
        """How many a block has."""
        return min(64, (self._regions[region].size - offset) // PAGE)

    def leave(self) -> None:
        """Name pages as outstanding, in two epochs; then they come late."""
        missing: dict[Place, int] = {}
        for kind in (FUZZY, SEALED):
            self.writer.begin(kind)
            for number, region in enumerate(self._regions):
                self._name_outstanding(number, region, missing)
            self.writer.finish()
        self.writer.begin(LATE)
        while missing:
            self._late_block(missing)
        self.writer.finish()

    def _name_outstanding(self, number: int, region: Region, missing: dict[Place, int]) -> None:
        offsets = range(0, region.size, BLOCK)
        masks = [
            self._chosen.choice([0, 1, (1 << 64) - 1, self._chosen.getrandbits(64)])
            & (1 << self._n_pages(number, offset)) - 1
            for offset in offsets
        ]
        # A few words are no smaller for being compressed.
        squeeze = len(masks) > 3 and len(set(masks)) == 1
        self.writer.outstanding(masks, region=number, squeeze=squeeze)
        for offset, mask in zip(offsets, masks, strict=True):
            if mask:
                missing[number, offset] = missing.get((number, offset), 0) | mask

    def _late_block(self, missing: dict[Place, int]) -> None:
        """Some pages of a block, and some that are here already, in vain."""
        place = self._chosen.choice(sorted(missing))
        here = [page for page in range(self._n_pages(*place)) if not missing[place] >> page & 1]
        left = [page for page in range(64) if missing[place] >> page & 1]
        count = self._chosen.choice([1, 2, 5, len(left)])
        pages = self._chosen.sample(left, min(count, len(left)))
        vain = self._chosen.sample(here, min(self._chosen.choice([0, 0, 0, 1, 5]), len(here)))
        if vain and self._chosen.random() < 0.2:
            pages = []
        if self._chosen.random() < 0.2:
            self.writer.add(served(self._chosen.getrandbits(40)))
        if pages and self._chosen.random() < 0.2:
            self._stale(place, pages[0])
        with self._set_aside(place, vain):
            self._block(*place, pages + vain)
        missing[place] &= ~sum(1 << page for page in pages)
        if not missing[place]:
            del missing[place]

    def _stale(self, place: Place, page: int) -> None:
        """A page that rests on something else than what is here; it is sent again."""
        entry = sp.unchanged(self.memory.get((place[0], place[1] // PAGE + page), ZEROS))
        self.writer.block({page: replace(entry, hash=entry.hash ^ 1)}, *place)

    @contextmanager
    def _set_aside(self, place: Place, pages: list[int]) -> Iterator[None]:
        """A frame has these pages, resting on zeros, and leaves them as they are."""
        region, first = place[0], place[1] // PAGE
        before = {
            (region, first + page): self.memory.pop((region, first + page), None) for page in pages
        }
        self._described.clear()
        yield
        for spot, content in before.items():
            self.memory.pop(spot, None)
            if content is not None:
                self.memory[spot] = content

    def _block(self, region: int, offset: int, chosen: list[int]) -> None:
        first, pages = offset // PAGE, sorted(chosen)
        zeros = {page for page in pages if self._chosen.random() < 0.2}
        for page in zeros:
            self.memory.pop((region, first + page), None)
        self._described += [(region, first + page) for page in sorted(zeros)]
        contents: dict[int, bytes | Entry | None] = dict.fromkeys(zeros)
        rest = [page for page in pages if page not in zeros]
        while rest:
            span = min(self._chosen.choice([1, 1, 1, 2, 4, 64]), len(rest))
            run, rest = rest[:span], rest[span:]
            contents |= zip(run, self._entries(region, first, run), strict=True)
        self.writer.block(dict(sorted(contents.items())), region, offset)

    def _entries(self, region: int, first: int, run: list[int]) -> list[Entry]:
        """New contents for pages that follow each other in the frame."""
        places = [(region, first + page) for page in run]
        if len(run) > 1:
            after = [self._content(place) for place in places]
            entries = self._group(after)
        else:
            after, entries = self._single(places[0])
        self.memory |= dict(zip(places, after, strict=True))
        self._described += places
        return entries

    def _group(self, pages: list[bytes]) -> list[Entry]:
        if self._chosen.random() < 0.5:
            entries = sp.lz4_group(*pages)
        else:
            entries = sp.zstd_group(*pages, level=self._chosen.choice([-5, 1, 7]))
        if len(entries[0].body) <= PAGE * len(pages):
            return entries
        return [sp.raw(page) for page in pages]

    def _single(self, place: Place) -> tuple[list[bytes], list[Entry]]:
        before = self.memory.get(place, ZEROS)
        way = self._chosen.choice(["raw", "unchanged", "delta", "delta", "copy", "copy", "group"])
        if way == "unchanged":
            return [before], [sp.unchanged(before)]
        if way == "copy" and self._described:
            region, page = self._chosen.choice(self._described)
            after = self.memory.get((region, page), ZEROS)
            return [after], [sp.copy(after, page * PAGE, region)]
        after = self._content(place)
        if way == "delta" and after != before:
            mask = sp.changed_lines(before, after) | self._chosen.getrandbits(64) & (1 << 63 | 1)
            return [after], [sp.delta(before, after, mask)]
        return [after], self._group([after]) if way == "group" else [sp.raw(after)]

    def _content(self, place: Place) -> bytes:
        """Noise, text, the page before with a few lines changed, or zeros."""
        kind = self._chosen.randrange(8)
        if kind == 0:
            return self._chosen.randbytes(PAGE)
        if kind == 1:
            return ZEROS
        if kind < 4:
            return (b"%d bottles. " % self._chosen.randrange(99) * PAGE)[:PAGE]
        page = bytearray(self.memory.get(place, ZEROS))
        for _ in range(self._chosen.choice([1, 1, 3, 20])):
            page[self._chosen.randrange(PAGE)] = self._chosen.randrange(256)
        return bytes(page)

    def pages(self) -> dict[Place, bytes]:
        return {place: page for place, page in self.memory.items() if page != ZEROS}


def random_history(regions: tuple[Region, ...], seed: int) -> History:
    """A whole channel but for its END; its last epoch may be sealed, or late."""
    chosen = random.Random(seed)
    history = History(regions, chosen)
    if chosen.random() < 0.3:
        history.writer.add(ranges([(0, BLOCK, PAGE), (1, 0, 2 * PAGE)]))
    if chosen.random() < 0.3:
        history.writer.add(config({"x": chosen.randrange(9)}))
    for _ in range(chosen.randint(1, 4)):
        history.epoch(chosen.choice([FUZZY, FUZZY, SEALED]))
        if chosen.random() < 0.2:
            history.writer.add(state(item(b"x", chosen.randbytes(5))))
    if chosen.random() < 0.4:
        history.leave()
    return history


def frames_of(history: History) -> list[Frame]:
    frames = history.writer.frames
    return [*frames, end(len(frames))]

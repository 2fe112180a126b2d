# SPDX-License-Identifier: Apache-2.0
"""Pages that were sent before: a delta of lines, or of bytes from a cache of copies."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.native import PAGE, Pages, Round, library

PAGES = 16384
ROUNDS = 5
PRINTS_BYTES = 256
# Of a slot of the cache, beside the page: its number and age.
TAG_BYTES = 8
# What a cache keeps of each page when the others want its place.
KEEP = {"replace": 0, "keep 2 rounds": 2}


@dataclass(frozen=True)
class Dirtier:
    """What the guest writes into each page, once a round."""

    name: str
    runs: int
    run_bytes: int


DIRTIERS = (
    Dirtier("4 bytes", 1, 4),
    Dirtier("64 bytes", 1, 64),
    Dirtier("512 bytes", 1, 512),
    Dirtier("2 KiB", 1, 2048),
    Dirtier("16 words", 16, 4),
    Dirtier("64 words", 64, 4),
    Dirtier("all", 1, 4096),
)

Send = Callable[[Pages, int | None, Round], None]


def comparison() -> list[dict[str, Any]]:
    """Every dirtier with all pages remembered, then a cache that is too small."""
    found = []
    for dirtier in DIRTIERS:
        found.append(_rounds("lines", dirtier, PRINTS_BYTES, _lines()))
        found.append(_rounds("cache", dirtier, PAGE + TAG_BYTES, _cached(PAGES, 0)))
    for share in (0.25, 0.5, 0.75):
        for policy, keep in KEEP.items():
            slots = int(PAGES * share)
            one = _rounds("cache", DIRTIERS[0], (PAGE + TAG_BYTES) * share, _cached(slots, keep))
            found.append({**one, "cache_share": share, "policy": policy})
    return found


def _lines() -> Send:
    prints = Pages(PAGES * PRINTS_BYTES)

    def send(pages: Pages, peer: int | None, counts: Round) -> None:
        library().bench_lines(pages.at, pages.n, prints.at, peer, ctypes.byref(counts))

    return send


def _cached(slots: int, keep: int) -> Send:
    lib = library()
    cache = lib.bench_cache_new(slots, keep)
    if not cache:
        raise MemoryError("no memory for the cache of pages")

    def send(pages: Pages, peer: int | None, counts: Round) -> None:
        lib.bench_cached(cache, pages.at, pages.n, peer, ctypes.byref(counts))

    return send


def _rounds(name: str, dirtier: Dirtier, memory: float, send: Send) -> dict[str, Any]:
    """A round that fills what is remembered, one that is checked, then timed ones.

    :param memory: bytes held for each page of the working set.
    :raises RuntimeError: the other side would not have had the pages.
    """
    lib, pages = library(), Pages.of("executable", PAGES * PAGE)
    send(pages, None, Round())
    peer = Pages(PAGES * PAGE)
    peer.map[:] = pages.map[:]
    times = []
    for turn in range(ROUNDS + 1):
        lib.bench_dirty(pages.at, pages.n, dirtier.runs, dirtier.run_bytes, turn + 1)
        counts = Round()
        start = time.thread_time_ns()
        send(pages, peer.at if turn == 0 else None, counts)
        times.append((time.thread_time_ns() - start) / PAGES)
        if counts.wrong:
            raise RuntimeError(f"{name}: {counts.wrong} pages arrived wrong")
    return {
        "encoder": name,
        "dirtier": dirtier.name,
        "min_ns": min(times[1:]),
        "median_ns": statistics.median(times[1:]),
        "bytes_per_page": counts.stored_bytes / PAGES,
        "raw_share": counts.raw_pages / PAGES,
        "hit_share": counts.hits / PAGES,
        "memory_per_page_bytes": memory,
    }

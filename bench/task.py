# SPDX-License-Identifier: Apache-2.0
"""What one run is to do, the same for every contender, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MIB = 1 << 20
GIB = 1 << 30


class Dirtying(str, Enum):
    """What the guest does with its working set."""

    IDLE = "idle"
    WORD = "word"  # one word of a page, at most 8 bytes and mostly 4
    SCATTERED = "scattered"  # the same in pages chosen at random
    PAGE = "page"  # a page from end to end


@dataclass(frozen=True)
class Task:
    """A guest, a link, and the limits.

    :ivar layout: what guest memory holds, in order, as (content, bytes); the
        contents are those of contents.py, and ``untouched``, which stays
        unallocated.
    :ivar rate_pages_per_s: None: as fast as the guest can.
    :ivar link_bits_per_s: of a shaped veth pair; 0: plain loopback.
    :ivar downtime_limit_ms: what every contender is asked to keep.
    :ivar time_limit_s: after this the migration is cancelled and counts as not
        converged.
    :ivar backing: thp (anonymous, with transparent huge pages where there are
        any), memfd or hugetlbfs; the same on both sides and for all.
    """

    memory_bytes: int
    layout: tuple[tuple[str, int], ...]
    dirtying: Dirtying = Dirtying.IDLE
    working_set_bytes: int = 0
    rate_pages_per_s: int | None = 0
    link_bits_per_s: int = 0
    downtime_limit_ms: float = 300.0
    time_limit_s: float = 60.0
    backing: str = "thp"

    @property
    def touched_bytes(self) -> int:
        """How much of guest memory is allocated."""
        return sum(size for content, size in self.layout if content != "untouched")


@dataclass
class Run:
    """One migration, or one move of as many bytes. None: not known, not so.

    :ivar outcome: completed, not-converged or failed.
    :ivar total_ms: from the wish to migrate until the guest ran at the
        destination; None unless completed.
    :ivar downtime_ms: from stopping it at the source until it ran at the
        destination.
    :ivar own_downtime_ms: as the contender itself reports it.
    :ivar predicted_downtime_ms: what the contender expected last.
    :ivar wire_bytes: as the contender counts them.
    :ivar link_bytes: what the source's interface sent, on a shaped link.
    :ivar source_cpu_s: of the whole process, its vCPU included, in total_ms.
    :ivar setup_ms: starting the destination, before the clock of total_ms.
    :ivar dirty_pages_per_s: steps that the guest did while it was measured.
    :ivar rounds: for pictures only: one dictionary for each round, or for each
        look at a contender that does not tell its rounds.
    :ivar extra: what only this contender has to say.
    """

    outcome: str = "completed"
    total_ms: float | None = None
    downtime_ms: float | None = None
    own_downtime_ms: float | None = None
    predicted_downtime_ms: float | None = None
    wire_bytes: int | None = None
    link_bytes: int | None = None
    source_cpu_s: float | None = None
    destination_cpu_s: float | None = None
    setup_ms: float | None = None
    dirty_pages_per_s: float | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

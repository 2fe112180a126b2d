# SPDX-License-Identifier: Apache-2.0
"""What a report says of a guest that ran before its memory had been read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RestoreReport"]


@dataclass(frozen=True)
class RestoreReport:
    """Memory that came from a file while the guest ran.

    :ivar running_ms: from the call until the guest ran.
    :ivar index_ms: of it, to find what the file holds.
    :ivar complete_ms: from when the guest could fault until nothing was
        missing; 0: something is.
    :ivar stored_pages: that the file holds; the others are zeros.
    :ivar missing_pages: that have not come.
    :ivar answered_pages: that came because they were touched, and those that
        came along with them.
    :ivar prefetched_pages: that came because the guest touched them early
        the last time, likewise.
    :ivar filled_pages: all others.
    :ivar prefetch_ms: from the start until those were there; 0: they are
        not, or there are none.
    :ivar known_pages: in the working set that was found beside the file.
    :ivar working_set: what became of it, in words.
    :ivar recorded: what was saved for the next time, in words; empty: not yet.
    :ivar read_bytes: of the file, without finding what it holds.
    """

    running_ms: float = 0.0
    index_ms: float = 0.0
    complete_ms: float = 0.0
    stored_pages: int = 0
    missing_pages: int = 0
    answered_pages: int = 0
    prefetched_pages: int = 0
    filled_pages: int = 0
    prefetch_ms: float = 0.0
    known_pages: int = 0
    working_set: str = ""
    recorded: str = ""
    read_bytes: int = 0

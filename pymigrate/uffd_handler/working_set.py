# SPDX-License-Identifier: Apache-2.0
"""The working set of a handler: read before, or written as the guest runs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from pymigrate._engine import Faults
from pymigrate.errors import MigrateError
from pymigrate.uffd_handler.supply import Note
from pymigrate.working_set import load_working_set, merge_working_sets, save_working_set

__all__ = ["Recorder", "first_pages"]

# What is lost at most when the handler is killed.
SAVE_EVERY_S = 2.0


def first_pages(path: str | None, memory: list[dict[str, Any]], note: Note) -> tuple[int, ...]:
    """The pages to prefetch; none, where they are not known.

    A guest that waits is served without them rather than not at all.
    """
    if path is None or not os.path.exists(path):
        return ()
    try:
        return tuple(load_working_set(path, memory))
    except MigrateError as error:
        note(f"nothing is prefetched: {error}")
        return ()


class Recorder:
    """Writes down the pages that are asked for, in their order.

    :param path: where to; None: nowhere.
    :param before: what another handler of this guest wrote down.
    """

    def __init__(
        self, path: str | None, memory: list[dict[str, Any]], note: Note, before: Sequence[int]
    ) -> None:
        self._path, self._memory, self._note = path, memory, note
        self._before = list(before)
        self._saved: int | None = None
        self._due = time.monotonic() + SAVE_EVERY_S

    @property
    def saved_pages(self) -> int | None:
        """Of the working set that was written; None: none was."""
        return self._saved

    def tick(self, faults: Faults) -> None:
        """Write it now and then; to be called often."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + SAVE_EVERY_S
            self.save(faults)

    def save(self, faults: Faults) -> None:
        """Write it, if there is more than before."""
        if self._path is None:
            return
        pages = merge_working_sets(self._before, faults.touched())
        if not pages or len(pages) == self._saved:
            return
        try:
            save_working_set(self._path, self._memory, pages)
            self._saved = len(pages)
        except MigrateError as error:
            self._note(f"no working set is written: {error}")
            self._path = None

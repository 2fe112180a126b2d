# SPDX-License-Identifier: Apache-2.0
"""The states of a destination whose guest runs, or is about to, without all its pages."""

from __future__ import annotations

import threading

from pymigrate.states import DestinationState, StateTrack

__all__ = ["LateStates"]


class LateStates:
    """Those that come before the guest runs are held back until it does.

    The machine's hooks may wait for a page, and the source may be lost and
    found again meanwhile. What on_state raises fails nothing here: the
    guest's pages matter more.
    """

    def __init__(self, track: StateTrack[DestinationState]) -> None:
        self._track = track
        self._lock = threading.Lock()
        self._held: list[DestinationState] = []
        self.running = False
        self.latest = DestinationState.POSTCOPY

    def to(self, state: DestinationState) -> None:
        """Enter it, now or once the guest runs. Any thread."""
        with self._lock:
            self.latest = state
            if self.running:
                self._track.to(state, strict=False)
            else:
                self._held.append(state)

    def runs(self) -> None:
        """The guest runs. Any thread."""
        with self._lock:
            self.running = True
            for state in (DestinationState.POSTCOPY, *self._held):
                self._track.to(state, strict=False)

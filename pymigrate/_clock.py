# SPDX-License-Identifier: Apache-2.0
"""Milliseconds that passed."""

from __future__ import annotations

import time

__all__ = ["Stopwatch"]


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._start = self._lap = time.monotonic()

    def elapsed_ms(self) -> float:
        """Since the start."""
        return 1000 * (time.monotonic() - self._start)

    def lap_ms(self) -> float:
        """Since the last lap, or the start."""
        now = time.monotonic()
        lap, self._lap = now - self._lap, now
        return 1000 * lap

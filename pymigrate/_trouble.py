# SPDX-License-Identifier: Apache-2.0
"""The first thing that went wrong, and whom to wake for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pymigrate.errors import MigrateError, TooLateError

__all__ = ["Trouble"]


class Trouble:
    """Collects failures from all threads of one migration; the first wins.

    Whoever may block registers a way to be woken. After seal() nothing can
    stop the migration any more: later reports are refused.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: MigrateError | None = None
        self._happened = threading.Event()
        self._sealed = False
        self._wakers: list[Callable[[MigrateError], object]] = []

    @property
    def error(self) -> MigrateError | None:
        return self._error

    def on_trouble(self, wake: Callable[[MigrateError], object]) -> None:
        """Call wake(error) once there is trouble; at once if there is."""
        with self._lock:
            self._wakers.append(wake)
            error = self._error
        if error is not None:
            wake(error)

    def report(self, error: MigrateError) -> bool:
        """Say what went wrong; any thread.

        :returns: False after seal().
        """
        with self._lock:
            if self._sealed:
                return False
            if self._error is not None:
                return True
            self._error = error
            wakers = list(self._wakers)
        self._happened.set()
        for wake in wakers:
            wake(error)
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait until there is trouble."""
        self._happened.wait(timeout_s)

    def check(self) -> None:
        """Raise what was reported, if anything was."""
        if self._error is not None:
            raise self._error

    def seal(self) -> None:
        """Pass the point of no return, unless there is trouble already."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._sealed = True

    def cancel(self, error: MigrateError) -> None:
        """As report().

        :raises TooLateError: after seal().
        """
        if not self.report(error):
            raise TooLateError("too late to cancel: the destination was told to run the guest")

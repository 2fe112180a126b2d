# SPDX-License-Identifier: Apache-2.0
"""The tuning of one migration, which may change while it runs."""

from __future__ import annotations

import threading
from dataclasses import replace

from pymigrate._engine import Sender
from pymigrate.errors import NotRunningError
from pymigrate.options import Options
from pymigrate.tuning import Choice, Tuning

__all__ = ["Tuner"]


class Tuner:
    """Keeps the tuning, and passes it on once there is a sender.

    :param n_channels: connections that the migration has.
    """

    def __init__(self, options: Options, n_channels: int) -> None:
        self._options, self._n_channels = options, n_channels
        wanted = options.tuning
        if wanted.active_channels is not None:
            wanted = replace(wanted, active_channels=min(wanted.active_channels, n_channels))
        self._current = wanted
        self._lock = threading.Lock()
        self._sender: Sender | None = None
        self._runs = False

    @property
    def current(self) -> Tuning:
        return self._current

    def begin(self) -> None:
        """The migration begins; from now on it can be tuned."""
        self._runs = True

    def attach(self, sender: Sender) -> None:
        """The sender was made, with what was current then."""
        with self._lock:
            self._sender = sender
            sender.tune(self._current)

    def end(self) -> None:
        """The migration is over; idempotent."""
        with self._lock:
            self._runs, self._sender = False, None

    def tune(self, tuning: Tuning) -> None:
        """Change it; any thread.

        :raises NotRunningError: the migration has not begun, or is over.
        :raises ValueError: it does not fit this migration.
        """
        self._check(tuning)
        with self._lock:
            if not self._runs:
                raise NotRunningError(
                    "nothing is tuned: no migration runs; the options say how one begins"
                )
            if self._sender is not None:
                self._sender.tune(tuning)
            self._current = tuning

    def _check(self, tuning: Tuning) -> None:
        if (tuning.active_channels or 0) > self._n_channels:
            raise ValueError(
                f"active_channels is {tuning.active_channels}, "
                f"the migration has {self._n_channels} connections"
            )
        if tuning.delta is Choice.ON and self._options.delta_memory_bytes == 0:
            raise ValueError("delta cannot be switched on: delta_memory_bytes is 0")

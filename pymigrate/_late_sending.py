# SPDX-License-Identifier: Apache-2.0
"""Pages that follow the guest, sent on threads of the engine."""

from __future__ import annotations

import threading

from pymigrate._engine import LateStats, Push, RoundStats, Sender
from pymigrate._trouble import Trouble
from pymigrate.errors import EngineError

__all__ = ["LateSending"]


class LateSending:
    """Sends what a sender has outstanding, until the last page has arrived.

    It goes on whatever becomes of who started it.

    :param trouble: learns of a failure.
    :param push: what is sent at first without being asked for; None: what the
        sender was told before.
    """

    def __init__(self, sender: Sender, trouble: Trouble, push: Push | None = None) -> None:
        self._sender, self._trouble = sender, trouble
        if push is not None:
            sender.push(push)
        self._over = threading.Event()
        self.error: EngineError | None = None
        self._thread = threading.Thread(target=self._run, name="pmig-late", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._sender.late()
        except EngineError as error:
            self.error = error
            self._trouble.report(error)
        finally:
            self._over.set()

    @property
    def figures(self) -> tuple[RoundStats, LateStats] | None:
        """Once it is over."""
        return self._sender.late_figures

    def push_all(self) -> None:
        """From now on; any thread."""
        self._sender.push(Push.ALL)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it is over; then error says how."""
        return self._over.wait(timeout_s)

    def cancel(self) -> None:
        """End it; any thread."""
        self._sender.cancel()

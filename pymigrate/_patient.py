# SPDX-License-Identifier: Apache-2.0
"""Pausing a guest whose vCPUs may wait for pages that do not come."""

from __future__ import annotations

import contextlib
import threading

from pymigrate._guest import hook
from pymigrate.errors import MachineError
from pymigrate.machine import Machine

__all__ = ["PatientPause"]

# A vCPU that waits in the kernel may not be stoppable before its page comes.
PATIENCE_S = 5.0


class PatientPause:
    """Pauses the guest, on a thread that may wait for as long as it takes.

    :param patience_s: to wait here.
    :ivar words: what came of it soon, the continuation of a sentence.
    """

    def __init__(self, machine: Machine, patience_s: float = PATIENCE_S) -> None:
        self._machine = machine
        self.words = "it will pause once the page comes that it waits for"
        self._thread = threading.Thread(target=self._pause, name="pmig-pause", daemon=True)
        self._thread.start()
        self._thread.join(patience_s)

    def _pause(self) -> None:
        try:
            hook("pausing the guest", self._machine.pause)
            self.words = "it is paused"
        except MachineError as error:
            self.words = str(error)

    def undo(self) -> None:
        """Let it run again, as soon as it is paused; does not wait."""
        threading.Thread(target=self._resume, name="pmig-resume", daemon=True).start()

    def _resume(self) -> None:
        self._thread.join()
        with contextlib.suppress(MachineError):
            hook("resuming the guest", self._machine.resume)

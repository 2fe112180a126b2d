# SPDX-License-Identifier: Apache-2.0
"""The machine's hooks, timed, with their exceptions named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pymigrate._clock import Stopwatch
from pymigrate.errors import MachineError
from pymigrate.machine import Machine

__all__ = ["SourceGuest", "hook"]

T = TypeVar("T")


def hook(name: str, call: Callable[[], T]) -> T:
    """Call a hook of the machine.

    :raises MachineError: it raised; the cause is chained.
    """
    try:
        return call()
    except Exception as error:
        detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise MachineError(f"{name} failed: {detail}") from error


class SourceGuest:
    """Pauses and resumes the guest at the source, and remembers which.

    :ivar throttle_percent: how much of its time it is kept from running.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.paused = False
        self.throttle_percent = 0

    def pause(self) -> float:
        """:returns: milliseconds until no vCPU ran."""
        watch = Stopwatch()
        # Also a pause() that raised may have stopped vCPUs.
        self.paused = True
        hook("pausing the guest", self._machine.pause)
        return watch.elapsed_ms()

    def capture(self) -> tuple[bytes, float]:
        """:returns: the state, and the milliseconds it took."""
        watch = Stopwatch()
        state = hook("capturing the guest's state", self._machine.save_state)
        return state, watch.elapsed_ms()

    def throttle(self, percent: int) -> None:
        """Keep it from running for percent of its time; 0 lets it run freely.

        :raises MachineError: it cannot be throttled, or the hook raised.
        """
        done = hook("throttling the guest", lambda: self._machine.throttle(percent))
        if not done:
            raise MachineError("this machine cannot be throttled: leave throttling off")
        self.throttle_percent = percent

    def release(self) -> None:
        """Let it run freely, where it was throttled; idempotent.

        :raises MachineError: the hook raised.
        """
        if self.throttle_percent:
            self.throttle(0)

    def resume(self) -> float:
        """Resume if paused; milliseconds."""
        watch = Stopwatch()
        if self.paused:
            hook("resuming the guest at the source", self._machine.resume)
            self.paused = False
        return watch.elapsed_ms()

# SPDX-License-Identifier: Apache-2.0
"""The time in which the guest does not run, as far as pages and state go.

Order matters: the state is captured before the last harvest, because
capturing it can itself write guest memory (pvclock pages, virtqueues).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pymigrate._clock import Stopwatch
from pymigrate._engine import FrameType, RoundStats
from pymigrate._guest import SourceGuest
from pymigrate._outgoing import Outgoing
from pymigrate._rounds import Rounds
from pymigrate._trouble import Trouble
from pymigrate.errors import EngineError, StepTimeoutError
from pymigrate.policy import PolicyOptions, SwitchoverCosts
from pymigrate.states import SourceState, StateTrack

__all__ = ["Blackout", "Captured", "limit_blackout"]

# Pausing is taken back when this many times the limit is left, and so often.
EXCESS = 2.0
MAX_RETAKES = 3


@dataclass(frozen=True)
class Captured:
    """Everything of the paused guest was sent.

    :ivar round_ms: of the sealed round alone.
    """

    quiesce_ms: float
    capture_ms: float
    round_ms: float
    stats: RoundStats


def limit_blackout(trouble: Trouble, limit_ms: int) -> threading.Timer:
    """A started timer; cancel it once the destination is prepared."""
    late = StepTimeoutError(f"switching over: not prepared within {limit_ms / 1000:g} s")
    timer = threading.Timer(limit_ms / 1000, trouble.report, (late,))
    timer.daemon = True
    timer.start()
    return timer


class Blackout:
    """Pauses the guest and sends what is left of it."""

    def __init__(
        self,
        guest: SourceGuest,
        out: Outgoing,
        rounds: Rounds,
        track: StateTrack[SourceState],
        options: PolicyOptions,
    ) -> None:
        self._guest, self._out, self._rounds = guest, out, rounds
        self._track, self._options = track, options
        self._retakes = 0

    def capture(self, costs: SwitchoverCosts) -> Captured | None:
        """Pause, capture, send; None when pausing was taken back."""
        self._track.to(SourceState.QUIESCING)
        watch = Stopwatch()
        self._guest.pause()
        if self._is_too_much(costs):
            self._guest.resume()
            self._track.to(SourceState.PRECOPY)
            return None
        return self._capture(watch, self._rounds.sealed)

    def leave(self) -> Captured:
        """The same without sending the pages that are left: they are named."""
        self._track.to(SourceState.QUIESCING)
        watch = Stopwatch()
        self._guest.pause()
        return self._capture(watch, self._rounds.leave)

    def _capture(self, watch: Stopwatch, seal: Callable[[], RoundStats]) -> Captured:
        # Nothing that comes now, nor a way back, needs it any more.
        self._guest.release()
        quiesce_ms = watch.lap_ms()
        self._track.to(SourceState.CAPTURING)
        state, _ = self._guest.capture()
        capture_ms = watch.lap_ms()
        self._track.to(SourceState.FINAL_ROUND)
        self._put(state)
        stats = seal()
        return Captured(quiesce_ms, capture_ms, watch.lap_ms(), stats)

    def _is_too_much(self, costs: SwitchoverCosts) -> bool:
        """Did the guest dirty far more than was counted before the pause?

        It happens when pausing takes long or a burst begins; running on and
        trying again is then better than a long blackout.
        """
        if self._retakes >= MAX_RETAKES:
            return False
        left = self._rounds.pending_pages()
        excess_ms = EXCESS * self._options.downtime_limit_ms
        if self._rounds.downtime_ms(costs, left) <= excess_ms:
            return False
        self._retakes += 1
        return True

    def _put(self, state: bytes) -> None:
        try:
            self._out.sender.put(FrameType.STATE, state)
        except EngineError as error:
            raise self._out.explain(error) from error

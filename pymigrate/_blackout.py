# SPDX-License-Identifier: Apache-2.0
"""The time in which the guest does not run, as far as pages and state go.

Order matters: the state is captured before the last harvest, because
capturing it can itself write guest memory (pvclock pages, virtqueues).
"""

from __future__ import annotations

import threading
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

__all__ = ["Blackout", "Captured"]

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


class Blackout:
    """Pauses the guest and sends what is left of it."""

    def __init__(
        self,
        guest: SourceGuest,
        out: Outgoing,
        rounds: Rounds,
        track: StateTrack[SourceState],
        trouble: Trouble,
        options: PolicyOptions,
    ) -> None:
        self._guest, self._out, self._rounds = guest, out, rounds
        self._track, self._trouble, self._options = track, trouble, options
        self._retakes = 0

    def limit(self, limit_ms: int) -> threading.Timer:
        """A started timer; cancel it once the destination is prepared."""
        late = StepTimeoutError(f"switching over: not prepared within {limit_ms / 1000:g} s")
        timer = threading.Timer(limit_ms / 1000, self._trouble.report, (late,))
        timer.daemon = True
        timer.start()
        return timer

    def capture(self, costs: SwitchoverCosts) -> Captured | None:
        """Pause, capture, send; None when pausing was taken back."""
        self._track.to(SourceState.QUIESCING)
        watch = Stopwatch()
        self._guest.pause()
        if self._is_too_much(costs):
            self._guest.resume()
            self._track.to(SourceState.PRECOPY)
            return None
        # Nothing that comes now, nor a way back, needs it any more.
        self._guest.release()
        quiesce_ms = watch.lap_ms()
        self._track.to(SourceState.CAPTURING)
        state, _ = self._guest.capture()
        capture_ms = watch.lap_ms()
        self._track.to(SourceState.FINAL_ROUND)
        stats = self._send(state)
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

    def _send(self, state: bytes) -> RoundStats:
        try:
            self._out.sender.put(FrameType.STATE, state)
        except EngineError as error:
            raise self._out.explain(error) from error
        return self._rounds.sealed()

# SPDX-License-Identifier: Apache-2.0
"""The trial of state capture and load, while pages flow.

The guest is paused for as long as its state takes to capture, and resumed;
the destination loads the state into its machine, which does not run. What
cannot work fails here, before the blackout; what works was timed.
"""

from __future__ import annotations

import threading

from pymigrate._clock import Stopwatch
from pymigrate._guest import SourceGuest
from pymigrate._link import Link
from pymigrate._trouble import Trouble
from pymigrate.errors import MachineError, MigrateError
from pymigrate.policy import SwitchoverCosts
from pymigrate.protocol import Rehearse, Rehearsed
from pymigrate.report import Rehearsal

__all__ = ["RehearsalThread", "costs_of", "shortest"]


class RehearsalThread:
    """Runs one rehearsal beside a round; trouble in it ends the round."""

    def __init__(self, guest: SourceGuest, link: Link, trouble: Trouble, timeout_ms: int) -> None:
        self._guest, self._link, self._trouble = guest, link, trouble
        self._timeout_ms = timeout_ms
        self._result: Rehearsal | None = None
        self._thread = threading.Thread(target=self._run, name="pmig-rehearsal", daemon=True)
        self._thread.start()

    def join(self) -> Rehearsal | None:
        """Wait for the end; None when there was trouble."""
        self._thread.join()
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._rehearse()
        except MigrateError as error:
            self._trouble.report(error)

    def _rehearse(self) -> Rehearsal:
        watch = Stopwatch()
        try:
            quiesce_ms = self._guest.pause()
            state, capture_ms = self._guest.capture()
        finally:
            resume_ms = self._guest.resume()
        pause_ms = watch.elapsed_ms()
        return Rehearsal(
            pause_ms=pause_ms,
            quiesce_ms=quiesce_ms,
            capture_ms=capture_ms,
            resume_ms=resume_ms,
            load_ms=self._load(state),
            round_trip_ms=self._link.round_trip_ms or 0.0,
            state_bytes=len(state),
        )

    def _load(self, state: bytes) -> float:
        """Milliseconds that the destination took to load the state."""
        with self._link.expecting(Rehearsed):
            self._link.send(Rehearse(body=state))
            answer = self._link.receive("the rehearsal", self._timeout_ms, Rehearsed)
        if answer.error:
            raise MachineError(f"rehearsal: the destination cannot load the state: {answer.error}")
        return answer.load_ms


def shortest(first: Rehearsal | None, second: Rehearsal) -> Rehearsal:
    """The shortest of each time: the least disturbed measurement.

    Pages that flow and a guest that runs take turns on the processors with
    what is being timed; in the blackout there are neither.
    """
    if first is None:
        return second
    return Rehearsal(
        pause_ms=min(first.pause_ms, second.pause_ms),
        quiesce_ms=min(first.quiesce_ms, second.quiesce_ms),
        capture_ms=min(first.capture_ms, second.capture_ms),
        resume_ms=min(first.resume_ms, second.resume_ms),
        load_ms=min(first.load_ms, second.load_ms),
        round_trip_ms=min(first.round_trip_ms, second.round_trip_ms),
        state_bytes=second.state_bytes,
        repetitions=first.repetitions + second.repetitions,
    )


def costs_of(rehearsal: Rehearsal) -> SwitchoverCosts:
    """What the switchover is going to cost besides pages."""
    return SwitchoverCosts(
        quiesce_ms=rehearsal.quiesce_ms,
        capture_ms=rehearsal.capture_ms,
        state_bytes=rehearsal.state_bytes,
        load_ms=rehearsal.load_ms,
        resume_ms=rehearsal.resume_ms,
        round_trip_ms=rehearsal.round_trip_ms,
    )

# SPDX-License-Identifier: Apache-2.0
"""The decision whether the destination runs the guest: made once, under one lock.

COMMIT and ABORT may come on the control connection, or on a query connection
after that was lost, or at the same time as the destination gives up waiting.
Whichever takes the lock first decides; the others learn what was decided.

Where pages are missing, the hooks that let the guest run may wait for one. They
have a thread of their own then, for it may take another set of connections to
bring the page, and the one who gave the word is the one who can make them.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from enum import Enum

from pymigrate._arrival import Arrival
from pymigrate._clock import Stopwatch
from pymigrate._guest import hook
from pymigrate.errors import CancelledError
from pymigrate.machine import Machine
from pymigrate.states import DestinationState, StateTrack

__all__ = ["Fate", "Handover"]


class Fate(str, Enum):
    """The words of STATUS."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    COMMITTED = "committed"
    RUNNING = "running"
    ABORTED = "aborted"
    BROKEN = "broken"


# Resuming takes milliseconds; who asks meanwhile waits so long for the end.
SETTLE_S = 5.0
# And so long where a page that is needed could not come.
CUT_OFF_SETTLE_S = 0.2


class Handover:
    """The fate of one session's machine.

    :param on_decided: called when somebody else than the owner decided.
    """

    def __init__(self, session: str, track: StateTrack[DestinationState]) -> None:
        self.session = session
        self.token = secrets.token_hex(16)
        self.track = track
        self.reason = ""
        self.resume_ms = 0.0
        self.source_knows = threading.Event()
        self.on_decided: Callable[[], None] | None = None
        self._arrival: Arrival | None = None
        self._machine: Machine | None = None
        self._fate = Fate.PREPARING
        self._forbidden = ""
        self._condition = threading.Condition()

    @property
    def arrival(self) -> Arrival | None:
        """Pages that are still missing while the guest runs, or may soon."""
        return self._arrival

    def expect(self, arrival: Arrival) -> None:
        """Pages may come late; before prepare()."""
        self._arrival = arrival
        arrival.on_cut_off = self._notice

    @property
    def _late(self) -> Arrival | None:
        """Where pages are missing: what brings them."""
        return self._arrival if self._arrival is not None and self._arrival.begun else None

    @property
    def fate(self) -> Fate:
        return self._fate

    @property
    def runs_or_will(self) -> bool:
        """It is decided that the guest runs here. Any thread."""
        return self._fate in (Fate.COMMITTED, Fate.RUNNING)

    @property
    def has_everything(self) -> bool:
        """No page is missing here, and none was given up. Any thread."""
        arrival = self.arrival
        return arrival is None or not arrival.begun or arrival.complete

    def prepare(self, machine: Machine) -> None:
        """Pages and state are in place: from now on it can be decided.

        :raises CancelledError: it was given up before.
        """
        with self._condition:
            if self._fate is not Fate.PREPARING:
                raise CancelledError(self.reason)
            self._machine = machine
            self._fate = Fate.PREPARED
            self.track.advance(DestinationState.PREPARED)
        self.track.notify(DestinationState.PREPARED)

    def commit(self) -> Fate:
        """Run the guest, if that is still possible.

        :returns: what became of it, as settled().
        """
        with self._condition:
            mine = self._fate is Fate.PREPARED
            if mine:
                self._fate = Fate.COMMITTED
                self.track.advance(DestinationState.COMMITTED)
        if mine:
            if self.on_decided is not None:
                self.on_decided()
            self._start()
        return self.settled()

    def abort(self, reason: str) -> Fate:
        """Never run the guest, if that is still possible."""
        with self._condition:
            if self._fate in (Fate.PREPARING, Fate.PREPARED):
                self._settle(Fate.ABORTED, reason)
        if self.on_decided is not None:
            self.on_decided()
        return self._fate

    def abort_unprepared(self, reason: str) -> bool:
        """Never run the guest, unless it could run already; whether so."""
        with self._condition:
            if self._fate is Fate.PREPARING:
                self._settle(Fate.ABORTED, reason)
                return True
            return False

    def wait_for_word(self, timeout_ms: int) -> Fate:
        """The control connection is lost: wait until somebody decides."""
        with self._condition:
            waiting = self._fate is Fate.PREPARED
            if waiting:
                self.track.advance(DestinationState.WAITING)
        if waiting:
            self.track.notify(DestinationState.WAITING)
        with self._condition:
            self._condition.wait_for(lambda: self._fate is not Fate.PREPARED, timeout_ms / 1000)
            return self._fate

    def settled(self) -> Fate:
        """Wait until a decision that was made is carried out, for a while.

        :returns: COMMITTED where that takes longer, or needs pages that cannot
            come as things are.
        """
        with self._condition:
            if not self._condition.wait_for(self._is_settled, CUT_OFF_SETTLE_S):
                self._condition.wait_for(lambda: self._is_settled() or self._is_cut_off(), SETTLE_S)
            return self._fate

    def ended(self) -> Fate:
        """Wait until a decision that was made is carried out."""
        with self._condition:
            self._condition.wait_for(self._is_settled)
            return self._fate

    def forbid(self, reason: str) -> None:
        """Never run the guest, unless resuming it has begun. Any thread."""
        with self._condition:
            self._forbidden = reason

    def _is_settled(self) -> bool:
        return self._fate is not Fate.COMMITTED

    def _is_cut_off(self) -> bool:
        return self._late is not None and self._late.is_cut_off

    def _notice(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _start(self) -> None:
        if self._late is None:
            self._run()
        else:
            threading.Thread(target=self._run, name="pmig-run", daemon=True).start()

    def _check_wanted(self) -> None:
        with self._condition:
            if self._forbidden:
                raise CancelledError(self._forbidden)

    def _run(self) -> None:
        """COMMITTED, by us alone: before_run and resume, once."""
        machine = self._machine
        assert machine is not None
        watch = Stopwatch()
        try:
            self.track.notify(DestinationState.COMMITTED)
            hook("preparing to run", machine.before_run)
            self._check_wanted()
        except Exception as error:
            # Not one instruction was run: the source may have it back.
            self._fail(Fate.ABORTED, str(error))
            return
        try:
            hook("resuming the guest", machine.resume)
        except Exception as error:
            self.track.to(DestinationState.BROKEN)
            self._fail(Fate.BROKEN, str(error))
            return
        self.resume_ms = watch.elapsed_ms()
        if self._late is None:
            self.track.to(DestinationState.RUNNING)
        else:
            self._late.runs()
        with self._condition:
            self._settle(Fate.RUNNING, "")

    def _fail(self, fate: Fate, reason: str) -> None:
        with self._condition:
            self._settle(fate, reason)
        if self._late is not None:
            self._late.never_ran()

    def _settle(self, fate: Fate, reason: str) -> None:
        self._fate, self.reason = fate, reason
        # Fates are remembered for long; machines must not be.
        self._machine = None
        if fate is Fate.ABORTED:
            self.track.advance(DestinationState.DISCARDING)
        self._condition.notify_all()

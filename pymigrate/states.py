# SPDX-License-Identifier: Apache-2.0
"""The states of both sides, and which may follow which.

The diagrams are in docs/protocol.md. The tables here are the only place
that says what is legal; :class:`StateTrack` refuses everything else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Generic, TypeVar

__all__ = [
    "DESTINATION_TRANSITIONS",
    "FILE_TRANSITIONS",
    "SOURCE_TRANSITIONS",
    "DestinationState",
    "SourceState",
    "State",
    "StateTrack",
]


class SourceState(str, Enum):
    """Where the source is. The guest runs here unless said otherwise."""

    NEW = "new"
    CONNECTING = "connecting"  # opening the control connection
    HANDSHAKE = "handshake"  # described the machine, waiting for accept
    CHANNELS = "channels"  # opening the data channels
    PRECOPY = "pre-copy"  # rounds
    REHEARSING = "rehearsing"  # rounds, and a trial of state capture and load
    QUIESCING = "quiescing"  # the guest is being paused
    CAPTURING = "capturing"  # paused; its state is being captured
    FINAL_ROUND = "final-round"  # paused; the sealed epoch is on its way
    PREPARING = "preparing"  # paused; waiting for PREPARED
    PREPARED = "prepared"  # paused; the destination could run it
    VERIFYING = "verifying"  # paused; every page is compared
    COMMITTING = "committing"  # paused for good: COMMIT may have been sent
    RESOLVING = "resolving"  # paused; asking what became of COMMIT
    IN_DOUBT = "in-doubt"  # paused; nobody could be asked
    POSTCOPY = "post-copy"  # the destination runs the guest; pages follow it
    RECOVERING = "recovering"  # likewise, and it is out of reach
    INCOMPLETE = "incomplete"  # likewise, and nobody tries to reach it
    ROLLING_BACK = "rolling-back"  # the guest is being resumed here
    COMPLETED = "completed"  # the destination runs the guest
    FAILED = "failed"  # the source runs the guest
    CANCELLED = "cancelled"  # likewise
    NOT_CONVERGED = "not-converged"  # likewise


class DestinationState(str, Enum):
    """Where the destination is. The guest runs here from RUNNING or POSTCOPY on."""

    LISTENING = "listening"
    HANDSHAKE = "handshake"  # building and checking the machine
    CHANNELS = "channels"  # waiting for the data channels
    RECEIVING = "receiving"
    REHEARSING = "rehearsing"  # receiving, and loading a trial state
    LOADING = "loading"  # the sealed epoch is complete; loading its state
    PREPARED = "prepared"  # could run; waiting for COMMIT
    WAITING = "waiting"  # prepared, and the source is out of reach
    COMMITTED = "committed"  # COMMIT came: about to run
    RUNNING = "running"
    POSTCOPY = "post-copy"  # runs; pages are missing, and come
    RECOVERING = "recovering"  # runs; pages are missing, the source is out of reach
    LOST = "lost"  # likewise, and was waited for in vain
    DISCARDING = "discarding"  # will never run this machine
    FAILED = "failed"  # discarded
    BROKEN = "broken"  # committed, and resuming failed half-way


S, D = SourceState, DestinationState

SOURCE_TRANSITIONS: Mapping[SourceState, frozenset[SourceState]] = {
    S.NEW: frozenset({S.CONNECTING, S.ROLLING_BACK}),
    S.CONNECTING: frozenset({S.HANDSHAKE, S.ROLLING_BACK}),
    S.HANDSHAKE: frozenset({S.CHANNELS, S.ROLLING_BACK}),
    S.CHANNELS: frozenset({S.PRECOPY, S.ROLLING_BACK}),
    S.PRECOPY: frozenset({S.REHEARSING, S.QUIESCING, S.ROLLING_BACK}),
    S.REHEARSING: frozenset({S.PRECOPY, S.ROLLING_BACK}),
    # Back to PRECOPY when more is left than was predicted.
    S.QUIESCING: frozenset({S.CAPTURING, S.PRECOPY, S.ROLLING_BACK}),
    S.CAPTURING: frozenset({S.FINAL_ROUND, S.ROLLING_BACK}),
    S.FINAL_ROUND: frozenset({S.PREPARING, S.ROLLING_BACK}),
    # Back to FINAL_ROUND when pages are asked for again.
    S.PREPARING: frozenset({S.PREPARED, S.FINAL_ROUND, S.ROLLING_BACK}),
    S.PREPARED: frozenset({S.VERIFYING, S.COMMITTING, S.ROLLING_BACK}),
    S.VERIFYING: frozenset({S.COMMITTING, S.ROLLING_BACK}),
    # The point of no return: from here the destination's word decides.
    S.COMMITTING: frozenset({S.COMPLETED, S.POSTCOPY, S.RESOLVING}),
    S.RESOLVING: frozenset({S.COMPLETED, S.RECOVERING, S.IN_DOUBT, S.ROLLING_BACK}),
    S.IN_DOUBT: frozenset({S.RESOLVING}),
    S.POSTCOPY: frozenset({S.COMPLETED, S.RECOVERING}),
    # RESOLVING where the destination says that it did not run it after all.
    S.RECOVERING: frozenset({S.POSTCOPY, S.COMPLETED, S.INCOMPLETE, S.RESOLVING}),
    S.INCOMPLETE: frozenset({S.RECOVERING}),
    S.ROLLING_BACK: frozenset({S.FAILED, S.CANCELLED, S.NOT_CONVERGED}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
    S.NOT_CONVERGED: frozenset(),
}

# A file or the null sink answers nothing: what is written is final.
FILE_TRANSITIONS: Mapping[SourceState, frozenset[SourceState]] = {
    S.NEW: frozenset({S.CONNECTING, S.ROLLING_BACK}),
    S.CONNECTING: frozenset({S.PRECOPY, S.ROLLING_BACK}),
    S.PRECOPY: frozenset({S.QUIESCING, S.ROLLING_BACK}),
    S.QUIESCING: frozenset({S.CAPTURING, S.PRECOPY, S.ROLLING_BACK}),
    S.CAPTURING: frozenset({S.FINAL_ROUND, S.ROLLING_BACK}),
    S.FINAL_ROUND: frozenset({S.COMPLETED, S.ROLLING_BACK}),
    S.ROLLING_BACK: frozenset({S.FAILED, S.CANCELLED, S.NOT_CONVERGED}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
    S.NOT_CONVERGED: frozenset(),
}

DESTINATION_TRANSITIONS: Mapping[DestinationState, frozenset[DestinationState]] = {
    D.LISTENING: frozenset({D.HANDSHAKE, D.DISCARDING}),
    D.HANDSHAKE: frozenset({D.CHANNELS, D.DISCARDING}),
    D.CHANNELS: frozenset({D.RECEIVING, D.DISCARDING}),
    D.RECEIVING: frozenset({D.REHEARSING, D.LOADING, D.DISCARDING}),
    D.REHEARSING: frozenset({D.RECEIVING, D.DISCARDING}),
    D.LOADING: frozenset({D.PREPARED, D.DISCARDING}),
    D.PREPARED: frozenset({D.WAITING, D.COMMITTED, D.DISCARDING}),
    D.WAITING: frozenset({D.COMMITTED, D.DISCARDING}),
    # DISCARDING only as long as resume() was not called.
    D.COMMITTED: frozenset({D.RUNNING, D.POSTCOPY, D.DISCARDING, D.BROKEN}),
    D.RUNNING: frozenset(),
    D.POSTCOPY: frozenset({D.RUNNING, D.RECOVERING}),
    D.RECOVERING: frozenset({D.POSTCOPY, D.RUNNING, D.LOST}),
    D.LOST: frozenset({D.RECOVERING}),
    D.DISCARDING: frozenset({D.FAILED}),
    D.FAILED: frozenset(),
    D.BROKEN: frozenset(),
}

State = SourceState | DestinationState
AnyState = TypeVar("AnyState", SourceState, DestinationState)


class StateTrack(Generic[AnyState]):
    """The state of one side; any thread may read it.

    :param on_state: called after every transition, on the thread that made
        it. What it raises fails the migration at that point, except in a
        state without successor, where nothing is left to fail.
    """

    def __init__(
        self,
        initial: AnyState,
        table: Mapping[AnyState, frozenset[AnyState]],
        on_state: Callable[[State], None] | None = None,
    ) -> None:
        self._table: Mapping[AnyState, frozenset[AnyState]] = table
        self._state: AnyState = initial
        self._on_state = on_state
        self._lock = threading.Lock()

    @property
    def state(self) -> AnyState:
        return self._state

    def to(self, state: AnyState, strict: bool = True) -> None:
        """Make a transition and tell the hook.

        :param strict: what the hook raises matters; False: the guest's pages
            matter more.
        :raises RuntimeError: the table does not allow it.
        """
        self.advance(state)
        try:
            self.notify(state)
        except Exception:
            if strict:
                raise

    def advance(self, state: AnyState) -> None:
        """Make a transition without telling the hook, for who holds a lock."""
        with self._lock:
            if state not in self._table[self._state]:
                raise RuntimeError(f"{self._state.value} -> {state.value} is not a transition")
            self._state = state

    def notify(self, state: AnyState) -> None:
        """Tell the hook of a transition that was made."""
        if self._on_state is None:
            return
        try:
            self._on_state(state)
        except Exception:
            if self._table[state]:
                raise

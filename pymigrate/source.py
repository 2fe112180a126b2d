# SPDX-License-Identifier: Apache-2.0
"""The source: sends a running machine away.

::

    with Source(machine, "tcp:backup:4444") as source:
        report = source.migrate()

migrate() does not raise for a migration that fails: the report says how it
ended, and who may run the guest now.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

from pymigrate._dial import Connector
from pymigrate._engine import Progress
from pymigrate._flow import Flow
from pymigrate._migration import Migration
from pymigrate._recording import Recording
from pymigrate.addresses import Address, parse_address
from pymigrate.errors import CancelledError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.report import Report, RoundReport
from pymigrate.states import SourceState
from pymigrate.tuning import Tuning

__all__ = ["Source", "SourceProgress"]


@dataclass(frozen=True)
class SourceProgress:
    """Where a migration is, at the moment of asking.

    :ivar live: figures of the round that is running, if one is.
    :ivar owed_pages: after a switchover that left pages behind, those that
        were not sent yet; None while they cannot be sent.
    """

    state: SourceState
    rounds: tuple[RoundReport, ...]
    predicted_downtime_ms: float | None
    live: Progress | None
    owed_pages: int | None = None


class Source:
    """One attempt to send a machine.

    :param machine: running; stays the caller's, also after it was sent.
    :param target: an address; ``file:`` and ``null:`` are targets, too. Or
        a function that makes one connected stream socket per call.
    """

    def __init__(
        self, machine: Machine, target: str | Address | Connector, options: Options | None = None
    ) -> None:
        options = options or Options()
        where = parse_address(target) if isinstance(target, (str, Address)) else target
        self._flow: Flow
        self._migration: Migration | None = None
        if isinstance(where, Address) and not where.is_socket:
            self._flow = Recording(machine, where, options)
        else:
            self._flow = self._migration = Migration(machine, where, options)
        self._started = False
        self._busy = threading.Lock()

    @property
    def session(self) -> str:
        """The session id, 32 hexadecimal digits."""
        return self._flow.session

    @property
    def state(self) -> SourceState:
        return self._flow.track.state

    def migrate(self) -> Report:
        """Send the machine; blocks until it is sent or stays here.

        :raises RuntimeError: called twice.
        """
        if self._started:
            raise RuntimeError("a Source migrates once; make another for another attempt")
        self._started = True
        with self._busy:
            return self._flow.run()

    def cancel(self) -> None:
        """End the migration; the guest goes on at the source. Any thread.

        :raises TooLateError: the destination was told to run the guest.
        """
        self._flow.trouble.cancel(CancelledError("the migration was cancelled"))

    def tune(self, tuning: Tuning) -> None:
        """Change how the running migration sends, from its next block on.

        Any thread.

        :raises NotRunningError: none runs; nothing is changed.
        :raises ValueError: it does not fit this migration.
        """
        self._flow.tuner.tune(tuning)

    @property
    def tuning(self) -> Tuning:
        """What is in effect, or was last. Any thread."""
        return self._flow.tuner.current

    def resolve(self, abort: bool = False) -> Report:
        """Ask the destination again, after an outcome of in-doubt.

        :param abort: if the destination has not decided yet, make it abort,
            so that the guest goes on here; otherwise it is told to run it.
        :raises RuntimeError: nothing is in doubt.
        """
        if self._migration is None or self.state is not SourceState.IN_DOUBT:
            raise RuntimeError(f"nothing to resolve in state {self.state.value}")
        with self._busy:
            return self._migration.resolve(abort)

    def recover(self, target: str | Address | Connector | None = None) -> Report:
        """Try to reach the destination again, after an outcome of incomplete.

        :param target: where it is to be looked for from now on; None: where
            it was.
        :raises RuntimeError: nothing is incomplete.
        """
        if self._migration is None or self.state is not SourceState.INCOMPLETE:
            raise RuntimeError(f"nothing to recover in state {self.state.value}")
        where = parse_address(target) if isinstance(target, (str, Address)) else target
        with self._busy:
            return self._migration.recover(where)

    def retarget(self, target: str | Address | Connector) -> None:
        """Look for the destination there from the next attempt on, while it is
        out of reach. Any thread.

        :raises RuntimeError: no pages have been left behind.
        """
        if self._migration is None or not self._migration.follows:
            raise RuntimeError(f"nothing to recover in state {self.state.value}")
        where = parse_address(target) if isinstance(target, (str, Address)) else target
        self._migration.retarget(where)

    def progress(self) -> SourceProgress:
        """Any thread."""
        flow = self._flow
        return SourceProgress(
            state=flow.track.state,
            rounds=tuple(flow.rounds.reports) if flow.rounds is not None else (),
            predicted_downtime_ms=flow.predicted_downtime_ms,
            live=flow.out.progress() if flow.out is not None else None,
            owed_pages=self._migration.owed_pages() if self._migration is not None else None,
        )

    def close(self) -> None:
        """End a resolve() that is under way, and waiting for a destination
        that is out of reach; idempotent. Any thread.

        Pages that the destination still misses are given up with it.
        """
        if self._migration is None:
            return
        self._migration.stop()
        # Else whoever uses it gives it back.
        if self._busy.acquire(blocking=False):
            self._migration.release()
            self._busy.release()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

# SPDX-License-Identifier: Apache-2.0
"""What an embedder gives to pymigrate: a machine.

Subclass :class:`Machine`, or build a :class:`CallableMachine` from functions.
The library never calls two hooks of one machine at the same time, except
that ``memory()`` is used by the transfer while the other hooks run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from pymigrate._engine import DirtyTracker, Memory, TrackerKind
from pymigrate.compatibility import memory_differences

__all__ = ["CallableMachine", "Machine"]

Self = TypeVar("Self", bound="Machine")


class Machine(ABC):
    """One virtual machine, at the source or at the destination."""

    @abstractmethod
    def memory(self) -> Memory:
        """Guest memory; the same object each time, closed by close()."""

    @abstractmethod
    def tracker(self, kind: TrackerKind) -> DirtyTracker:
        """A new tracker over memory(), not started; the caller closes it.

        Called at the source only.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What this machine is, JSON-able.

        ``kind``: the word that says which factory can rebuild it;
        ``machine``: how; ``memory``: ``memory().describe()``; ``kvm``: what
        the host must offer, or None.
        """

    @abstractmethod
    def check(self, description: dict[str, Any]) -> list[str]:
        """Destination: why this machine cannot run the described one.

        One sentence for each difference; empty when there is none.
        """

    @abstractmethod
    def pause(self) -> None:
        """Return when no vCPU runs and pending I/O is complete; idempotent."""

    @abstractmethod
    def resume(self) -> None:
        """Let the vCPUs run; idempotent."""

    @abstractmethod
    def save_state(self) -> bytes:
        """Capture the paused machine: an encoded state list."""

    @abstractmethod
    def load_state(self, data: bytes) -> None:
        """Load a machine that has never run, or is paused.

        May be called more than once: for the rehearsal, then for real.
        """

    def throttle(self, percent: int) -> bool:
        """Keep vCPUs that write from running for percent of the time; any thread.

        A few milliseconds at a time, and without making pause() wait. Called
        again and again while a migration does not converge, and with 0 when
        it ends without the machine having moved.

        :param percent: 0 (run freely) to 99.
        :return: whether that was done; the default is a machine that cannot.
        """
        return False

    def before_run(self) -> None:  # noqa: B027 - an optional hook
        """Called once at the destination, just before its first resume()."""

    @abstractmethod
    def close(self) -> None:
        """Destroy the machine and its memory; idempotent."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class CallableMachine(Machine):
    """A machine made of functions.

    pause and resume are called only when the machine is not already known
    to be paused or running.

    :param memory: guest memory; closed by close().
    :param tracker: makes a tracker; None offers what works without KVM.
    :param description: members added to describe(); ``memory`` is filled in.
    :param check: further differences, besides those of the memory map.
    :param throttle: called with a percentage; None: it cannot be throttled.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        save_state: Callable[[], bytes],
        load_state: Callable[[bytes], None],
        tracker: Callable[[TrackerKind], DirtyTracker] | None = None,
        description: Mapping[str, Any] | None = None,
        check: Callable[[dict[str, Any]], list[str]] | None = None,
        before_run: Callable[[], None] | None = None,
        throttle: Callable[[int], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._memory = memory
        self._pause, self._resume = pause, resume
        self._save_state, self._load_state = save_state, load_state
        self._tracker = tracker
        self._description = dict(description or {})
        self._check = check
        self._before_run = before_run
        self._throttle = throttle
        self._close = close
        self._running: bool | None = None
        self._closed = False

    def memory(self) -> Memory:
        return self._memory

    def tracker(self, kind: TrackerKind) -> DirtyTracker:
        if self._tracker is not None:
            return self._tracker(kind)
        return DirtyTracker(self._memory, kind)

    def describe(self) -> dict[str, Any]:
        base: dict[str, Any] = {"kind": "callable", "machine": {}, "kvm": None}
        return {**base, **self._description, "memory": self._memory.describe()}

    def check(self, description: dict[str, Any]) -> list[str]:
        found = memory_differences(description.get("memory"), self._memory.describe())
        if self._check is not None:
            found += self._check(description)
        return found

    def pause(self) -> None:
        if self._running is not False:
            self._pause()
            self._running = False

    def resume(self) -> None:
        if self._running is not True:
            self._resume()
            self._running = True

    def save_state(self) -> bytes:
        return self._save_state()

    def load_state(self, data: bytes) -> None:
        self._load_state(data)

    def throttle(self, percent: int) -> bool:
        if self._throttle is None:
            return False
        self._throttle(percent)
        return True

    def before_run(self) -> None:
        if self._before_run is not None:
            self._before_run()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._memory.close()
        if self._close is not None:
            self._close()

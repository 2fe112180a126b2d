# SPDX-License-Identifier: Apache-2.0
"""Where the pages come from; and which come without being asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pymigrate._engine import Faults, Memory, Push
from pymigrate.errors import MigrateError
from pymigrate.uffd_handler.handshake import GuestRegion

__all__ = ["Note", "OnExpected", "Plan", "Supply"]

# Says one sentence to whoever watches.
Note = Callable[[str], None]
# Is called once: pages are expected, and no fault has been served.
OnExpected = Callable[[], None]


@dataclass(frozen=True)
class Plan:
    """What is fetched before anybody waits for it.

    :ivar first_pages: by number, in this order, before all others.
    :ivar push: what comes after them.
    :ivar bytes_per_s: of that; 0: as fast as it goes.
    """

    first_pages: tuple[int, ...] = ()
    push: Push = Push.ALL
    bytes_per_s: int = 0


class Supply(ABC):
    """Pages of a memory file, here or elsewhere.

    :ivar name: for messages.
    :ivar contents: tells what is in it from what is in others.
    """

    name: str
    contents: str

    @abstractmethod
    def check(self, regions: Sequence[GuestRegion]) -> None:
        """Has it pages for these?

        :raises HandshakeError: no.
        """

    @abstractmethod
    def begin(self, memory: Memory, faults: Faults, plan: Plan, on_expected: OnExpected) -> None:
        """Expect pages, start the faults, and serve; returns soon.

        :param on_expected: may be called on another thread, and later.
        """

    @property
    @abstractmethod
    def failure(self) -> MigrateError | None:
        """Why no more pages will come. Any thread."""

    @property
    def interruptions(self) -> int:
        """Times that the way to the pages was lost and found again."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """End it, in order where nothing is missing; idempotent.

        Before the faults are closed.
        """

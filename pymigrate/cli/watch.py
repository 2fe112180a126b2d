# SPDX-License-Identifier: Apache-2.0
"""Run something on a thread, and watch it from the main thread.

A signal handler of Python runs on the main thread and between two steps of
the interpreter only. So the main thread never enters the engine: it waits in
short steps, shows what is new, and sees to interrupts.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Watch"]

_STEP_S = 0.1
_REMIND_S = 1.0

T = TypeVar("T")


class Watch:
    """What is new, from all threads, for the main thread to show."""

    def __init__(self) -> None:
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def tell(self, show: Callable[[], None]) -> None:
        """Something new, and how it is shown. Any thread."""
        self._news.put(show)

    def step(self) -> None:
        """Show what is new; wait a short while for it."""
        self._show(_STEP_S)

    def run(
        self,
        what: Callable[[], T],
        name: str,
        look: Callable[[], None],
        interrupt: Callable[[], None],
    ) -> T:
        """What it returns, or raises.

        :param name: of the thread.
        :param look: is called after every step.
        :param interrupt: is called for each, and must not show anything by
            itself; the thread goes on.
        """
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def call() -> None:
            try:
                results.append(what())
            except BaseException as error:
                errors.append(error)
            done.set()
            # So that nobody waits for a step to end.
            self.tell(lambda: None)

        thread = threading.Thread(target=call, name=name)
        thread.start()
        # A join() that is interrupted may take a living thread for an ended one.
        while not done.is_set():
            try:
                self.step()
                look()
            except KeyboardInterrupt:
                interrupt()
            except BaseException:
                # Nobody watches any more; what it works on must outlive it.
                interrupt()
                while not done.wait(_REMIND_S):
                    interrupt()
                raise
        thread.join()
        self._show(0)
        if errors:
            raise errors[0]
        return results[0]

    def _show(self, timeout_s: float) -> None:
        """Everything new; waits for the first piece of news only."""
        try:
            self._news.get(timeout_s > 0, timeout_s)()
            while True:
                self._news.get_nowait()()
        except queue.Empty:
            pass

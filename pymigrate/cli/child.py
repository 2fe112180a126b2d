# SPDX-License-Identifier: Apache-2.0
"""The child's end of the line between ``demo`` and the processes it starts.

A child is an ordinary ``send`` or ``recv`` with two hidden options. It
reports as JSON lines on a file descriptor and takes commands, one a line,
from its standard input: ``cancel`` and ``tune KEY=VALUE ...`` at once;
``heartbeats``, ``prove MS`` and ``quit`` when the migration is over. A source
that was told to ``--hold`` begins with the migration on ``go``. When its input
ends the parent is gone, and the child cancels and goes.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
from collections.abc import Callable, Sequence

from pymigrate.cli.proof import heartbeat_count, prove
from pymigrate.cli.views import EventView
from pymigrate.network import enter_namespace
from pymigrate.vmm import Vm

__all__ = ["Child", "enter"]


def enter(args: argparse.Namespace) -> None:
    """Go to the namespace that demo chose, before any thread is made."""
    if args.netns is not None:
        enter_namespace(args.netns)


class Child:
    """A child of demo; ``view`` is where it reports to."""

    def __init__(self, events_fd: int) -> None:
        self.view = EventView(events_fd)
        self._commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._cancel: Callable[[str], None] | None = None
        self._cancelled = False
        self._tune: Callable[[Sequence[str]], None] | None = None
        self._thread = threading.Thread(target=self._read, name="pmig-commands", daemon=True)
        self._thread.start()

    def on_cancel(self, cancel: Callable[[str], None]) -> None:
        """Whom to tell; at once when it has come already."""
        self._cancel = cancel
        if self._cancelled:
            cancel("interrupted")

    def on_tune(self, tune: Callable[[Sequence[str]], None] | None) -> None:
        """Whom to hand changes of the tuning to; None: nobody."""
        self._tune = tune

    def hold(self) -> None:
        """Say that the guest runs, and wait until the parent wants it sent."""
        self.view.emit("held")
        if self._commands.get() == "quit":
            self._commands.put("quit")

    def serve(self, vm: Vm | None) -> None:
        """Answer commands until the parent has had enough."""
        while (command := self._commands.get()) != "quit":
            word, _, argument = command.partition(" ")
            if vm is not None and word == "heartbeats":
                self.view.emit("heartbeats", count=heartbeat_count(vm))
            elif vm is not None and word == "prove":
                self.view.emit("proof", proof=prove(vm, int(argument)).to_json())

    def _read(self) -> None:
        for line in sys.stdin:
            command = line.strip()
            if command == "cancel":
                self._tell()
            elif command.startswith("tune "):
                self._change(command.split()[1:])
            else:
                self._commands.put(command)
        self._tell()
        self._commands.put("quit")

    def _change(self, changes: Sequence[str]) -> None:
        if self._tune is None:
            self.view.note("not tuned: nothing is being sent")
        else:
            self._tune(changes)

    def _tell(self) -> None:
        self._cancelled = True
        if self._cancel is not None:
            self._cancel("interrupted")

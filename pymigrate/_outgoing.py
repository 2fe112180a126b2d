# SPDX-License-Identifier: Apache-2.0
"""What the source holds while it sends: tracker, view, channels, sender."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from pymigrate._engine import Channel, Memory, Progress, Sender, SenderOptions, TrackerKind, View
from pymigrate._trouble import Trouble
from pymigrate.errors import ChannelError, EngineCancelled, EngineError
from pymigrate.machine import Machine
from pymigrate.report import Tracker

__all__ = ["Outgoing"]

# A channel often breaks because the peer failed, and the peer says why.
EXPLANATION_S = 0.5


class Outgoing:
    """Owns the C objects of the sending side and closes them in order.

    The tracker and the view live as long as it does; channels and sender can
    be given up and replaced.
    """

    def __init__(self, machine: Machine, kind: TrackerKind, trouble: Trouble) -> None:
        self.memory: Memory = machine.memory()
        self.memory.settle()
        self._trouble = trouble
        self._stack = contextlib.ExitStack()
        self._tracker = self._stack.enter_context(machine.tracker(kind))
        self.facts = Tracker(self._tracker.kind.value, self._tracker.variant, self._tracker.reason)
        self._wires = contextlib.ExitStack()
        self._view: View | None = None
        self._sender: Sender | None = None

    @property
    def view(self) -> View:
        assert self._view is not None, "start() comes first"
        return self._view

    @property
    def sender(self) -> Sender:
        assert self._sender is not None, "start() comes first"
        return self._sender

    def start(self, channels: Sequence[Channel], session: bytes, options: SenderOptions) -> None:
        """Begin to track, and make the sender; takes over the channels."""
        for channel in channels:
            self._wires.enter_context(channel)
        self._stack.callback(self._stop)
        self._tracker.start()
        self._view = self._stack.enter_context(View(self._tracker))
        self._make_sender(channels, session, options)
        self._trouble.on_trouble(lambda _error: self.sender.cancel())

    def restart(self, channels: Sequence[Channel], session: bytes, options: SenderOptions) -> None:
        """Make another sender, after drop_sender(); takes over the channels."""
        for channel in channels:
            self._wires.enter_context(channel)
        self._make_sender(channels, session, options)

    def _make_sender(
        self, channels: Sequence[Channel], session: bytes, options: SenderOptions
    ) -> None:
        self._sender = self._wires.enter_context(
            Sender(self.memory, self.view, channels, session, options)
        )

    def drop_sender(self) -> None:
        """Give up the sender and its channels; idempotent."""
        if self._sender is not None:
            self._sender.cancel()
        # What broke may say so again.
        with contextlib.suppress(EngineError):
            self._wires.close()

    def own(self, sock: socket.socket) -> None:
        """Close sock after everything that uses it."""
        self._wires.callback(sock.close)

    def explain(self, error: EngineError) -> Exception:
        """The better explanation of an error of the sender."""
        if isinstance(error, ChannelError):
            self._trouble.wait(EXPLANATION_S)
        if isinstance(error, (ChannelError, EngineCancelled)) and self._trouble.error:
            return self._trouble.error
        return error

    def progress(self) -> Progress | None:
        """Live figures; any thread."""
        return self._sender.progress() if self._sender is not None else None

    def owed_pages(self) -> int | None:
        """Outstanding pages that were not sent; any thread."""
        return self._sender.owed_pages() if self._sender is not None else None

    def _stop(self) -> None:
        # Whatever goes wrong here, the guest's fate is decided already.
        with contextlib.suppress(EngineError):
            self._tracker.stop()

    def close(self) -> None:
        """Stop sending and tracking; idempotent."""
        self.drop_sender()
        self._stack.close()

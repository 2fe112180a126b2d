# SPDX-License-Identifier: Apache-2.0
"""Just enough of the QEMU Machine Protocol: commands, answers and events."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

_CHUNK_BYTES = 1 << 16


class QmpError(RuntimeError):
    """QEMU refused a command, went away, or fell silent."""


class Qmp:
    """One control connection. Calls must come from one thread.

    :ivar events: every event so far, oldest first, as QEMU sent it.
    """

    def __init__(self, sock: socket.socket, timeout_s: float = 30.0) -> None:
        self.events: list[dict[str, Any]] = []
        self._sock = sock
        self._timeout_s = timeout_s
        self._buffer = b""
        self._next("QMP", timeout_s)
        self.command("qmp_capabilities")

    def fileno(self) -> int:
        return self._sock.fileno()

    def command(self, name: str, **arguments: Any) -> Any:
        """Run a command and give its answer.

        :raises QmpError: QEMU's own words.
        """
        words = {
            "execute": name,
            "arguments": {k.replace("_", "-"): v for k, v in arguments.items()},
        }
        self._sock.sendall(json.dumps(words).encode())
        return self._next("return", self._timeout_s)["return"]

    def event(self, name: str, **data: Any) -> dict[str, Any] | None:
        """The first event of that name whose data has these members."""
        for event in self.events:
            found = event.get("data", {})
            if event["event"] == name and all(found.get(k) == v for k, v in data.items()):
                return event
        return None

    def poll(self) -> None:
        """Take in what has arrived."""
        while self._readable(0):
            for message in self._receive():
                self._keep(message)

    def close(self) -> None:
        self._sock.close()

    def _next(self, member: str, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while self._readable(deadline - time.monotonic()):
            answer = None
            for message in self._receive():
                if member in message:
                    answer = message
                else:
                    self._keep(message)
            if answer is not None:
                return answer
        raise QmpError(f"QEMU did not answer within {timeout_s:g} s")

    def _keep(self, message: dict[str, Any]) -> None:
        if "error" in message:
            raise QmpError(message["error"].get("desc", str(message)))
        if "event" in message:
            self.events.append(message)

    def _readable(self, timeout_s: float) -> bool:
        return bool(select.select([self._sock], [], [], max(0.0, timeout_s))[0])

    def _receive(self) -> Iterator[dict[str, Any]]:
        """The whole lines among what is there; at least a part of one is."""
        data = self._sock.recv(_CHUNK_BYTES)
        if not data:
            raise QmpError("QEMU went away")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)


def seconds_of(event: dict[str, Any]) -> float:
    """When QEMU saw an event, by the real-time clock."""
    stamp = event["timestamp"]
    return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6

# SPDX-License-Identifier: Apache-2.0
"""The parent's end of the line to the processes that ``demo`` starts."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pymigrate
from pymigrate.cli.exits import CommandError, Exit

__all__ = ["Event", "Inbox", "Process"]

Event = dict[str, Any]

_EXIT_TIMEOUT_S = 15


class Inbox:
    """Events of all processes, in the order of their arrival."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Process, Event]] = queue.SimpleQueue()

    def put(self, sender: Process, event: Event) -> None:
        self._queue.put((sender, event))

    def get(self, deadline: float | None = None) -> tuple[Process, Event]:
        """The next event. Waits in steps, so that an interrupt gets through.

        :raises CommandError: nothing came until the deadline.
        """
        while True:
            try:
                return self._queue.get(timeout=0.2)
            except queue.Empty:
                if deadline is not None and time.monotonic() > deadline:
                    words = "the processes of the demo fell silent"
                    raise CommandError(words, Exit.OPERATOR) from None


class Process:
    """One ``pymigrate send`` or ``recv`` in a process of its own.

    It has a session of its own, so that an interrupt from the terminal
    reaches this process only, which then asks the child to cancel.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], inbox: Inbox, netns_fd: int = -1
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._inbox = inbox
        read_fd, write_fd = os.pipe()
        line = [sys.executable, "-m", "pymigrate", *arguments, "--events", str(write_fd)]
        passed = [write_fd]
        if netns_fd >= 0:
            line += ["--netns", str(netns_fd)]
            passed.append(netns_fd)
        try:
            self._child = subprocess.Popen(
                line,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=passed,
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
        finally:
            os.close(write_fd)
        self._reader = threading.Thread(target=self._read, args=(read_fd,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def command(self, text: str) -> None:
        """Send a command; a child that is gone will be noticed elsewhere."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.write(text.encode() + b"\n")
            self._child.stdin.flush()

    def last_words(self) -> str:
        """What it wrote to stderr last, without the name of the program."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        spoken = [line for line in lines if line.strip()]
        return spoken[-1].removeprefix("pymigrate: ") if spoken else "it said nothing"

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self._child.wait(_EXIT_TIMEOUT_S)

    def close(self) -> None:
        """Let it go, and make it if it does not; idempotent."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join()
        self._errors.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, fd: int) -> None:
        with open(fd, encoding="utf-8") as lines:
            for line in lines:
                self._inbox.put(self, json.loads(line))
        self._inbox.put(self, {"event": "gone"})


def _environment() -> dict[str, str]:
    """Python looks into its working directory first: name our package instead."""
    ours = str(Path(pymigrate.__file__).resolve().parent.parent)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ours}{os.pathsep}{others}" if others else ours}

# SPDX-License-Identifier: Apache-2.0
"""A side in a process of its own, which stops at every state until told.

The process can so be killed exactly there, with a real SIGKILL. Processes are
forked from a server that has imported everything and runs no threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from fault_pair import (
    LIMIT_S,
    Attempt,
    MachineFactory,
    options,
    run_on,
)

from pymigrate import Destination
from pymigrate.states import State
from pymigrate.vmm import Vm, VmConfig

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["fault_child"])

OnState = Callable[[State], object]


class Side:
    """A child process; its words come as events, in order.

    :param on_state: called in this process at each state of the child,
        which goes on when it returns; what it returns is sent along.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any, on_state: OnState) -> None:
        self._pipe, theirs = context.Pipe()
        self._on_state = on_state
        self.said: dict[str, Any] = {}
        self._heard = threading.Condition()
        self._process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._thread = threading.Thread(target=self._listen, name="test-side", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                kind, value = self._pipe.recv()
                if kind == "state":
                    self._pipe.send(self._on_state(value))
                    continue
                with self._heard:
                    self.said[kind] = value
                    self._heard.notify_all()
        with self._heard:
            self.said["gone"] = True
            self._heard.notify_all()

    def wait(self, kind: str) -> Any:
        """What the child says of a kind."""
        with self._heard:
            self._heard.wait_for(lambda: kind in self.said or "gone" in self.said, LIMIT_S)
        assert kind in self.said, f"the child did not say {kind}"
        return self.said[kind]

    def kill(self) -> None:
        """SIGKILL; any thread."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)

    def wait_killed(self) -> None:
        """Until kill() was called, and the kernel has closed everything."""
        self._process.join(LIMIT_S)
        assert self._process.exitcode == -signal.SIGKILL, "the child was not killed"

    def close(self) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join(LIMIT_S)
        self._thread.join(LIMIT_S)
        self._pipe.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Teller:
    """The child's on_state: says where it is, does what it is told."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self.attempt: Attempt | None = None

    def __call__(self, state: State) -> None:
        with self._lock:
            self._pipe.send(("state", state))
            told = self._pipe.recv()
        if told == "cancel" and self.attempt is not None:
            self.attempt.source.cancel()


def source(pipe: Connection, target: str, config: VmConfig, changes: dict[str, Any]) -> None:
    """Child: a source whose guest runs."""
    teller = _Teller(pipe)
    with Vm(config, populate=True) as vm:
        vm.resume()
        run_on(vm, 1)
        teller.attempt = Attempt(vm, target, options(**changes, on_state=teller))
        report = teller.attempt.migrate()
        pipe.send(("report", replace(report, host={}, config={})))


def destination(pipe: Connection, changes: dict[str, Any], factory: MachineFactory) -> None:
    """Child: a destination that serves one migration."""
    settings = options(**changes, on_state=_Teller(pipe))
    with Destination("tcp:127.0.0.1:0", factory, settings) as served:
        pipe.send(("address", str(served.address)))
        report = served.serve_one()
        pipe.send(("report", replace(report, host={}, config={})))

# SPDX-License-Identifier: Apache-2.0
"""Load a machine from a file so that it can run before its memory is here."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any, BinaryIO

from pymigrate._building import MachineFactory
from pymigrate._clock import Stopwatch
from pymigrate._engine import Faults, Restore
from pymigrate._guest import hook
from pymigrate._load_file import read_config
from pymigrate.errors import EngineError, MigrateError, RefusedError, StreamError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.restoring import KnownPages, Restoring

__all__ = ["LazyLoader"]


class LazyLoader:
    """Loads one file, but for its memory.

    :ivar restoring: brings that, after load().
    """

    def __init__(self, path: str, factory: MachineFactory, options: Options) -> None:
        self._path, self._factory, self._options = path, factory, options
        self._clock = Stopwatch()
        self._state = b""
        self.restoring: Restoring | None = None
        self.wire_bytes = 0

    def load(self) -> Machine:
        """Build the machine, find its memory, load its state.

        :raises MigrateError: with the reason; no machine is left then.
        """
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(open(self._path, "rb"))
            except OSError as error:
                raise MigrateError(f"file:{self._path}: {error.strerror}") from error
            description = read_config(stream)
            self.wire_bytes = os.fstat(stream.fileno()).st_size
            machine = hook("building the machine", lambda: self._factory(description))
            try:
                self.restoring = self._prepare(machine, description, stream)
                stack.pop_all()
                self._load_state(machine, self.restoring)
            except BaseException:
                if self.restoring is not None:
                    self.restoring.close()
                machine.close()
                raise
        return machine

    def _prepare(
        self, machine: Machine, description: dict[str, Any], stream: BinaryIO
    ) -> Restoring:
        """What brings the memory, and has begun to."""
        differences = hook("checking the machine", lambda: machine.check(description))
        if differences:
            raise RefusedError(differences)
        memory = machine.memory()
        known = KnownPages.beside(self._path, memory.describe())
        with contextlib.ExitStack() as stack:
            try:
                faults = stack.enter_context(Faults(memory))
                restore = stack.enter_context(
                    Restore(
                        memory,
                        faults,
                        stream.fileno(),
                        first_pages=known.pages,
                        fill=False,
                        fill_bytes_per_s=self._options.fill_limit_bytes_per_s or 0,
                    )
                )
                self._state = self._find_state(restore)
                restoring = Restoring(machine, faults, restore, stream, known, self._clock)
                restoring.begin()
            except EngineError as error:
                raise EngineError.of(error.code, f"file:{self._path}: {error}") from error
            stack.pop_all()
        return restoring

    def _find_state(self, restore: Restore) -> bytes:
        state = restore.state()
        if state is None:
            raise StreamError(-errno.EBADMSG, "the stream holds no state of the machine")
        return state

    def _load_state(self, machine: Machine, restoring: Restoring) -> None:
        try:
            hook("loading the state", lambda: machine.load_state(self._state))
        except MigrateError:
            # Memory that cannot be read is a better reason.
            restoring.check()
            raise

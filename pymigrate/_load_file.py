# SPDX-License-Identifier: Apache-2.0
"""Load a machine from a stream in a file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from typing import Any, BinaryIO

import xxhash

from pymigrate import _frames
from pymigrate._building import MachineFactory
from pymigrate._engine import BlobEvent, Channel, EndEvent, EpochEvent, EpochKind, Receiver
from pymigrate._engine import FrameType as Blob
from pymigrate._guest import hook
from pymigrate.errors import MigrateError, RefusedError, StreamError
from pymigrate.machine import Machine
from pymigrate.options import Options

__all__ = ["FileLoader", "read_config"]

# Frame types of docs/stream-format.md.
STREAM, CONFIG, RANGES = 1, 2, 8


def read_config(stream: BinaryIO) -> dict[str, Any]:
    """The description of the machine, from the frames that open a stream.

    :raises MigrateError: the file does not begin as a stream with CONFIG.
    """
    for sequence in range(3):
        header = _frames.parse(_exactly(stream, _frames.HEADER_BYTES))
        head = _exactly(stream, header.head_bytes)
        _frames.check_head(header, head, sequence)
        body = _exactly(stream, header.body_bytes)
        if header.type == CONFIG:
            return _config(head, body)
        if header.type != (STREAM if sequence == 0 else RANGES):
            break
    raise MigrateError("the file does not say what the machine is: no CONFIG frame at its start")


def _config(head: bytes, body: bytes) -> dict[str, Any]:
    if head != xxhash.xxh3_64_intdigest(body).to_bytes(8, "little"):
        raise MigrateError("the CONFIG frame of the file fails its hash")
    try:
        description = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MigrateError(f"the CONFIG frame of the file is not JSON: {error}") from None
    if not isinstance(description, dict):
        raise MigrateError("the CONFIG frame of the file is not a JSON object")
    return description


def _exactly(stream: BinaryIO, size_bytes: int) -> bytes:
    data = stream.read(size_bytes)
    if len(data) != size_bytes:
        raise MigrateError("the file ends within its first frames")
    return data


class FileLoader:
    """Loads one file.

    :ivar machine: loaded and not running, after load().
    :ivar restoring: None: all of its memory is there then.
    """

    restoring = None

    def __init__(self, path: str, factory: MachineFactory, options: Options) -> None:
        self._path, self._factory, self._options = path, factory, options
        self.machine: Machine | None = None
        self.wire_bytes = 0

    def load(self) -> Machine:
        """Build the machine, fill its memory, load its state.

        :raises MigrateError: with the reason; no machine is left then.
        """
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(open(self._path, "rb"))
            except OSError as error:
                raise MigrateError(f"file:{self._path}: {error.strerror}") from error
            description = read_config(stream)
            machine = hook("building the machine", lambda: self._factory(description))
            try:
                self._fill(machine, description, stream.fileno())
            except BaseException:
                machine.close()
                raise
        self.machine = machine
        return machine

    def _fill(self, machine: Machine, description: dict[str, Any], fd: int) -> None:
        differences = hook("checking the machine", lambda: machine.check(description))
        if differences:
            raise RefusedError(differences)
        os.lseek(fd, 0, os.SEEK_SET)
        with (
            Channel.from_file(fd) as channel,
            Receiver(
                machine.memory(),
                [channel],
                stall_timeout_ms=self._options.stall_timeout_ms,
                cpus=self._options.cpus,
            ) as receiver,
        ):
            state = self._pump(receiver)
        hook("loading the state", lambda: machine.load_state(state))

    def _pump(self, receiver: Receiver) -> bytes:
        """Take in the whole stream; returns the state of its sealed epoch."""
        state: bytes | None = None
        sealed, stale_pages = False, 0
        while True:
            event = receiver.wait()
            if isinstance(event, BlobEvent) and event.frame is Blob.STATE:
                state = event.data
            elif isinstance(event, EpochEvent):
                sealed, stale_pages = event.kind is EpochKind.SEALED, event.stale_pages
                self.wire_bytes = event.wire_bytes
            elif isinstance(event, EndEvent):
                break
        if not sealed or state is None:
            raise StreamError(
                -errno.EBADMSG, f"file:{self._path}: no sealed epoch with state at its end"
            )
        if stale_pages:
            raise StreamError(
                -errno.EBADMSG,
                f"file:{self._path}: {stale_pages} pages cannot be built from what it holds: "
                "it was recorded from a migration, and only its source could complete it",
            )
        return state

# SPDX-License-Identifier: Apache-2.0
"""What a handler leaves behind when it is killed: the state file.

It lies beside the socket, named after it with ``.state`` appended, from the
handshake until all of memory has arrived or the VMM has ended. Whoever serves
has it locked; the kernel takes the lock away from who is killed. It holds

    one line of JSON    the VMM, its memory, where the pages come from
    a record            which pages are to come from there; the engine keeps
                        it up to date (csrc/fault/foreign.h)

and is mapped, so that all of it is in the page cache at any time. It need not
survive the host, since neither does the VMM.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pymigrate._engine import BLOCK_BYTES, ffi, lib
from pymigrate.errors import HandshakeError, TakeoverError
from pymigrate.uffd_handler.handshake import GuestRegion, parse_regions
from pymigrate.uffd_handler.vmm_process import VmmIdentity

__all__ = ["HandlerState", "Served", "state_path"]

MAGIC = "pymigrate.uffd-handler-state/1"
PAGE_BYTES = 4096
RECORD_BYTES: int = lib.PMIG_FAULTS_RECORD_BYTES
# A process that was killed may take a moment to be gone.
LOCK_TIMEOUT_S = 5.0
LOCK_STEP_S = 0.02


def state_path(socket_path: str) -> str:
    """Where the state of the handler at that socket lies."""
    return f"{socket_path}.state"


@dataclass(frozen=True)
class Served:
    """Whom a handler serves, and with what.

    :ivar memory: the file or page server that the pages come from.
    :ivar contents: tells the contents of that from others.
    """

    vmm: VmmIdentity
    regions: tuple[GuestRegion, ...]
    memory: str
    contents: str

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": MAGIC,
            "vmm": asdict(self.vmm),
            "regions": [region.to_json() for region in self.regions],
            "memory": self.memory,
            "contents": self.contents,
        }

    @staticmethod
    def from_json(found: Any) -> Served:
        """The inverse.

        :raises ValueError: it is something else.
        """
        if not isinstance(found, Mapping) or found.get("schema") != MAGIC:
            raise ValueError("it is of another kind or version")
        try:
            return Served(
                VmmIdentity(**{name: int(value) for name, value in found["vmm"].items()}),
                parse_regions(json.dumps(found["regions"]).encode()),
                str(found["memory"]),
                str(found["contents"]),
            )
        except (KeyError, TypeError, AttributeError, HandshakeError) as error:
            raise ValueError(str(error)) from error


class HandlerState:
    """A state file, locked and mapped.

    :ivar served: what it says.
    :ivar record: for :class:`pymigrate._engine.Faults`; until close().
    """

    def __init__(self, path: str, fd: int, served: Served, record_at: int) -> None:
        self._path, self._fd, self.served = path, fd, served
        self._map = mmap.mmap(fd, 0)
        self._view = ffi.from_buffer(self._map)
        self.record = self._view + record_at
        _keep_resident(self.record)

    @staticmethod
    def create(path: str, served: Served) -> HandlerState:
        """Of a VMM that was just met: every page is to come.

        :raises OSError: the file cannot be written.
        """
        head = json.dumps(served.to_json()).encode() + b"\n"
        record_at = -(-len(head) // PAGE_BYTES) * PAGE_BYTES
        words = _words(served)
        fresh = f"{path}.new"
        # Others may be able to write to the directory: use nothing of theirs.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            body = head.ljust(record_at, b"\0") + bytes(RECORD_BYTES) + words
            with open(fd, "wb", closefd=False) as file:
                file.write(body)
            state = HandlerState(path, fd, served, record_at)
            # From here on whoever comes after us finds all of it, or nothing.
            os.rename(fresh, path)
        except BaseException:
            os.close(fd)
            raise
        return state

    @staticmethod
    def adopt(path: str) -> HandlerState | None:
        """Of a handler that was killed; None: there is no VMM to go on with.

        :raises TakeoverError: it still runs, or what it left is unreadable.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TakeoverError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            _check_owner(fd, path)
            _lock(fd, path)
            served, record_at = _read(fd, path)
            if not served.vmm.is_there:
                os.unlink(path)
                os.close(fd)
                return None
            return HandlerState(path, fd, served, record_at)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise

    def remove(self) -> None:
        """Nobody has to go on with it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def close(self) -> None:
        """Let another one have it; idempotent. Close the faults before."""
        if self._fd < 0:
            return
        ffi.release(self._view)
        self._map.close()
        os.close(self._fd)
        self._fd = -1


def _words(served: Served) -> bytes:
    """A bit for each page, set; regions begin with a word of their own."""
    found = bytearray()
    for region in served.regions:
        pages = region.size_bytes // PAGE_BYTES
        blocks = -(-region.size_bytes // BLOCK_BYTES)
        found += ((1 << pages) - 1).to_bytes(8 * blocks, "little")
    return bytes(found)


def _check_owner(fd: int, path: str) -> None:
    """It says whose memory is written to: do not believe just anybody."""
    status = os.fstat(fd)
    private = stat.S_IMODE(status.st_mode) & 0o077 == 0
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or not private:
        raise TakeoverError(
            f"{path} was not written by a handler of this user: remove it if no VMM waits"
        )


def _lock(fd: int, path: str) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TakeoverError(f"another handler serves here: it has {path} locked") from None
            # The kernel tells nobody when a lock of this kind is free.
            time.sleep(LOCK_STEP_S)


def _read(fd: int, path: str) -> tuple[Served, int]:
    size = os.fstat(fd).st_size
    head = os.pread(fd, min(size, 1 << 20), 0).partition(b"\n")[0]
    record_at = -(-(len(head) + 1) // PAGE_BYTES) * PAGE_BYTES
    try:
        served = Served.from_json(json.loads(head))
        if size != record_at + RECORD_BYTES + len(_words(served)):
            raise ValueError(f"it has {size} bytes")
    except (ValueError, RecursionError) as error:
        raise TakeoverError(
            f"{path} is not the state of a handler ({error}): remove it if no VMM waits"
        ) from None
    return served, record_at


def _keep_resident(record: Any) -> None:
    """Events are read into its first page: that must not wait for a disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p(int(ffi.cast("uintptr_t", record)))
    # Without the permission it is as resident as anything that is in use.
    libc.mlock(address, ctypes.c_size_t(RECORD_BYTES))

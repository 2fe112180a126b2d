# SPDX-License-Identifier: Apache-2.0
"""The process whose page faults are handled: is it alive, and its descriptor.

A process is known again by its pid and the time it started at. A userfaultfd
is known again by its inode, which it has for itself (Linux 5.12).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pymigrate.errors import TakeoverError

__all__ = ["VmmIdentity", "VmmProcess", "fetch_uffd", "reports_removals"]

# pidfd_getfd(2), Linux 5.6; the same number on every architecture.
# From closing its files to being a process that has ended.
_ENDING_MS = 200
SYS_PIDFD_GETFD = 438
# <linux/userfaultfd.h>: _IOWR(0xAA, 0x04, struct uffdio_zeropage)
UFFDIO_ZEROPAGE = 0xC020AA04
ZEROPAGE = struct.Struct("4Q")
UFFD_FEATURE_EVENT_REMOVE = 1 << 3
# vm.mmap_min_addr as it usually is: no program has memory there that it
# would register.
NOBODYS_ADDRESS = 1 << 16
NOBODYS_BYTES = 4096
# Where nothing tells that the process ended, it is looked for so often.
LOOK_S = 1.0


@dataclass(frozen=True)
class VmmIdentity:
    """What tells a VMM and its userfaultfd from others; pid 0: not known."""

    pid: int
    started: int
    uffd_inode: int

    @staticmethod
    def of(pid: int, uffd: int) -> VmmIdentity:
        """Of a process that has sent its userfaultfd."""
        return VmmIdentity(pid, _started(pid) or 0, os.fstat(uffd).st_ino)

    @property
    def is_there(self) -> bool:
        """Does the process still exist?"""
        return self.pid > 0 and _started(self.pid) == self.started


class VmmProcess:
    """Watches over a process; close() ends that.

    :param uffd: borrowed.
    """

    def __init__(self, identity: VmmIdentity, uffd: int) -> None:
        self.identity, self._uffd = identity, uffd
        self._pidfd = -1
        self._looked = time.monotonic()
        if identity.is_there:
            try:
                self._pidfd = os.pidfd_open(identity.pid)
            except OSError:
                self._pidfd = -1

    @property
    def name(self) -> str:
        """For messages."""
        return f"the VMM (pid {self.identity.pid})" if self.identity.pid else "the VMM"

    def has_ended(self) -> bool:
        """Is its memory gone? Does not wait."""
        if self._pidfd >= 0:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            if not poller.poll(0):
                return False
            # Who sent the descriptor may not be whose memory it is for.
            self._forget()
        elif time.monotonic() < self._looked + LOOK_S:
            return False
        self._looked = time.monotonic()
        return _is_orphaned(self._uffd)

    def _forget(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1
        self._looked = 0.0

    def close(self) -> None:
        """Idempotent."""
        self._forget()


def reports_removals(uffd: int) -> bool:
    """Has the VMM asked the kernel to tell of memory that it gives back?"""
    with open(f"/proc/self/fdinfo/{uffd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("API:"):
                # fs/userfaultfd.c: version, features in use, ioctls
                features = int(line.split()[1].split(":")[1], 16)
                return bool(features & UFFD_FEATURE_EVENT_REMOVE)
    return False


def fetch_uffd(identity: VmmIdentity) -> int:
    """A descriptor of the userfaultfd that the VMM keeps.

    :raises TakeoverError: it does not keep it, or we may not have it.
    """
    name = f"the VMM (pid {identity.pid})"
    if not identity.pid:
        raise TakeoverError("the VMM lives in another pid namespace, and cannot be found")
    if not identity.is_there:
        raise TakeoverError(f"{name} has ended")
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError as error:
        raise TakeoverError(f"{name} cannot be watched: {error.strerror}") from error
    try:
        return _fetch(identity, pidfd, name)
    except TakeoverError:
        if _is_ending(pidfd):
            raise TakeoverError(f"{name} has ended") from None
        raise
    finally:
        os.close(pidfd)


def _fetch(identity: VmmIdentity, pidfd: int, name: str) -> int:
    for number in _uffd_numbers(identity, name):
        fd = _pidfd_getfd(pidfd, number, name)
        if os.fstat(fd).st_ino == identity.uffd_inode:
            os.set_inheritable(fd, False)
            return fd
        os.close(fd)
    raise TakeoverError(f"{name} does not keep its userfaultfd open: nobody can go on with it")


def _is_ending(pidfd: int) -> bool:
    """One that ends has closed its files before it is known to have ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(_ENDING_MS))


def _uffd_numbers(identity: VmmIdentity, name: str) -> Iterator[int]:
    """Of the VMM's descriptors, those that are its userfaultfd."""
    directory = f"/proc/{identity.pid}/fd"
    try:
        numbers = [int(entry) for entry in os.listdir(directory)]
        for number in sorted(numbers):
            if "userfaultfd" not in os.readlink(f"{directory}/{number}"):
                continue
            if os.stat(f"{directory}/{number}").st_ino == identity.uffd_inode:
                yield number
    except OSError as error:
        raise _not_allowed(name, error) from error


def _pidfd_getfd(pidfd: int, number: int, name: str) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
    if fd >= 0:
        return int(fd)
    code = ctypes.get_errno()
    raise _not_allowed(name, OSError(code, os.strerror(code)))


def _not_allowed(name: str, error: OSError) -> TakeoverError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return TakeoverError(
            f"the userfaultfd of {name} cannot be fetched: it takes the VMM's user, and "
            "permission to trace it (kernel.yama.ptrace_scope 0), or CAP_SYS_PTRACE"
        )
    return TakeoverError(f"the userfaultfd of {name} cannot be fetched: {error.strerror}")


def _started(pid: int) -> int | None:
    """When it started, in ticks since the boot; None: there is no such one.

    A process that ended and was not waited for is no process any more.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    # proc_pid_stat(5): state is field 3, starttime field 22
    return None if fields[0] in "ZX" else int(fields[19])


def _is_orphaned(uffd: int) -> bool:
    """Is the memory that it is for gone?"""
    # Places nothing: no process has registered memory there.
    request = bytearray(ZEROPAGE.pack(NOBODYS_ADDRESS, NOBODYS_BYTES, 0, 0))
    try:
        fcntl.ioctl(uffd, UFFDIO_ZEROPAGE, request)
    except OSError as error:
        return error.errno == errno.ESRCH
    return False

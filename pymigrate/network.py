# SPDX-License-Identifier: Apache-2.0
"""Two hosts that are not hosts: namespaces joined by a link of a given speed.

The namespaces have no names. Each lives as long as a file descriptor or a
process holds it, so the kernel takes everything back whatever way this
process ends, and two runs beside each other cannot collide. Addresses exist
inside of them only. Both ends of the veth pair are shaped by ``tbf``.

pyroute2 takes 200 ms to import and is imported only when a link is made.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from pymigrate.errors import MigrateError

__all__ = [
    "MAX_RATE_BITS_PER_S",
    "Endpoint",
    "NetworkError",
    "NetworkNamespace",
    "enter_namespace",
    "shaped_link",
]

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_INTERFACE = "pmig0"
# From the block that RFC 2544 sets aside for measurements.
_ADDRESSES = ("198.18.0.1", "198.18.0.2")
_PREFIX_BITS = 30

# What passes unshaped after a pause: enough for one offloaded segment of
# 64 KiB, and a millisecond's worth so that timer slack costs no bandwidth.
_MIN_BURST_BYTES = 128 << 10
_BURST_MS = 1
# A router's worth of queue; more would add its length to every round trip.
_QUEUE_MS = 10
# tbf's plain rate attribute is 32 bits of bytes per second.
MAX_RATE_BITS_PER_S = 32_000_000_000


class NetworkError(MigrateError):
    """The link cannot be made here; the sentence says what to do."""


class NetworkNamespace:
    """A nameless network namespace, held by ``fd``."""

    def __init__(self) -> None:
        self.fd = _in_thread(_unshare)

    def run(self, function: Callable[[], T]) -> T:
        """Call a function on a thread inside the namespace."""

        def inside() -> T:
            enter_namespace(self.fd)
            return function()

        return _in_thread(inside)

    def close(self) -> None:
        """Let go of it; it ends with the last process inside. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> NetworkNamespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Endpoint:
    """One end of a link. A child process gets there by
    ``Popen(..., pass_fds=[end.namespace.fd])`` and :func:`enter_namespace`.
    """

    namespace: NetworkNamespace
    address: str


@contextlib.contextmanager
def shaped_link(rate_bits_per_s: int) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Two namespaces joined by a link of this rate in each direction.

    :raises NetworkError: not root, or the kernel lacks veth or tbf.
    """
    if not 0 < rate_bits_per_s <= MAX_RATE_BITS_PER_S:
        raise NetworkError("a link is shaped to at most 32gbit")
    with contextlib.ExitStack() as stack:
        ends = []
        for address in _ADDRESSES:
            namespace = stack.enter_context(NetworkNamespace())
            ends.append(Endpoint(namespace, address))
        left, right = ends
        left.namespace.run(partial(_add_pair, right.namespace.fd))
        for end in ends:
            end.namespace.run(partial(_set_up, end.address, rate_bits_per_s))
        yield left, right


def enter_namespace(fd: int) -> None:
    """Move the calling thread, and those it will start, into a namespace."""
    _libc_call("setns", fd, _CLONE_NEWNET)


def _unshare() -> int:
    try:
        _libc_call("unshare", _CLONE_NEWNET)
    except PermissionError as error:
        raise NetworkError(
            "a shaped link needs network namespaces, which take root: "
            "run it as root, or without --link"
        ) from error
    except OSError as error:
        raise NetworkError(
            f"this kernel makes no network namespace ({error.strerror}): run without --link"
        ) from error
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _add_pair(other_fd: int) -> None:
    with _netlink("veth (CONFIG_VETH)") as ip:
        peer = {"ifname": _INTERFACE, "net_ns_fd": other_fd}
        ip.link("add", ifname=_INTERFACE, kind="veth", peer=peer)


def _set_up(address: str, rate_bits_per_s: int) -> None:
    rate_bytes_per_s = rate_bits_per_s // 8
    burst = max(_MIN_BURST_BYTES, rate_bytes_per_s * _BURST_MS // 1000)
    with _netlink("the tbf queueing discipline (CONFIG_NET_SCH_TBF)") as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        (index,) = ip.link_lookup(ifname=_INTERFACE)
        ip.addr("add", index=index, address=address, prefixlen=_PREFIX_BITS)
        ip.link("set", index=index, state="up")
        ip.tc(
            "add",
            "tbf",
            index=index,
            handle=0x10000,
            rate=f"{rate_bits_per_s}bit",
            burst=burst,
            limit=burst + rate_bytes_per_s * _QUEUE_MS // 1000,
        )


@contextlib.contextmanager
def _netlink(needed: str) -> Iterator[Any]:
    """A netlink socket of the calling thread's namespace."""
    from pyroute2 import IPRoute  # type: ignore[import-untyped]
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        if error.code in (errno.ENOENT, errno.EOPNOTSUPP):
            words = f"this kernel lacks {needed}: use another kernel, or run without --link"
            raise NetworkError(words) from error
        raise NetworkError(f"the shaped link cannot be made: {error}") from error


def _in_thread(function: Callable[[], T]) -> T:
    """Call on a thread of its own, whose namespace ends with it."""
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, name="pmig-netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _libc_call(name: str, *arguments: int) -> None:
    """os.setns() and os.unshare() exist from Python 3.12 on only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

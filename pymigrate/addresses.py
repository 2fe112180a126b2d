# SPDX-License-Identifier: Apache-2.0
"""Addresses: ``tcp:host:port``, ``tcp:[v6]:port``, ``unix:path``, ``file:path``, ``null:``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pymigrate.errors import AddressError

__all__ = ["Address", "Scheme", "connect", "hasten", "listen", "parse_address", "tune"]

# Linux: fail a connection whose data stays unacknowledged for so long.
TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)
# socket(7): the most that takes no privilege.
PRIORITY_INTERACTIVE = 6
TCP_CONGESTION = getattr(socket, "TCP_CONGESTION", 13)


class Scheme(str, Enum):
    TCP = "tcp"
    UNIX = "unix"
    FILE = "file"
    NULL = "null"


@dataclass(frozen=True)
class Address:
    """A parsed address; str() gives its text back."""

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_socket(self) -> bool:
        return self.scheme in (Scheme.TCP, Scheme.UNIX)

    def __str__(self) -> str:
        if self.scheme is Scheme.TCP:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp:{host}:{self.port}"
        return f"{self.scheme.value}:{self.path}"


def parse_address(text: str | Address) -> Address:
    """Read an address.

    :raises AddressError: with what is expected.
    """
    if isinstance(text, Address):
        return text
    scheme, separator, rest = text.partition(":")
    if not separator or scheme not in {s.value for s in Scheme}:
        raise AddressError(
            f"{text!r} is not an address: expected tcp:HOST:PORT, unix:PATH, file:PATH or null:"
        )
    if scheme == "tcp":
        return _parse_tcp(text, rest)
    if scheme == "null":
        if rest:
            raise AddressError(f"{text!r}: null: takes nothing after the colon")
        return Address(Scheme.NULL)
    if not rest:
        raise AddressError(f"{text!r}: the path is missing")
    return Address(Scheme(scheme), path=rest)


def _parse_tcp(text: str, rest: str) -> Address:
    host, separator, port = rest.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit():
        raise AddressError(f"{text!r}: expected tcp:HOST:PORT")
    if int(port) > 65535:
        raise AddressError(f"{text!r}: port {port} is larger than 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"{text!r}: write an IPv6 address in brackets, tcp:[::1]:PORT")
    return Address(Scheme.TCP, host=host, port=int(port))


def connect(
    address: Address,
    timeout_ms: int,
    user_timeout_ms: int,
    opened: Callable[[socket.socket], None] | None = None,
) -> socket.socket:
    """A connected, blocking socket.

    :param opened: is shown each socket before it connects; shutting that
        down from another thread ends the attempt.
    :raises OSError: as the system reports it.
    """
    if address.scheme is Scheme.TCP:
        places = _look_up(address)
    elif address.scheme is Scheme.UNIX:
        places = [(socket.AF_UNIX, address.path)]
    else:
        raise AddressError(f"{address}: cannot be connected to")
    failure: OSError = OSError(f"{address}: no such host")
    for family, where in places:
        try:
            return _connect_to(family, where, timeout_ms, user_timeout_ms, opened)
        except OSError as error:
            failure = error
    raise failure


def _look_up(address: Address, flags: int = 0) -> list[tuple[int, object]]:
    """Families and socket addresses, the best first.

    A name in ASCII goes as it is: loading the codec for others takes 5 ms.

    :raises OSError: there is no such host, or it cannot be a name of one.
    """
    host = address.host
    try:
        name = host.encode("ascii" if host.isascii() else "idna")
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"{host!r} is not a host name: {error}") from error
    found = socket.getaddrinfo(name, address.port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, where) for family, _, _, _, where in found]


def _connect_to(
    family: int,
    where: object,
    timeout_ms: int,
    user_timeout_ms: int,
    opened: Callable[[socket.socket], None] | None,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if opened is not None:
            opened(sock)
        if _is_on_this_host(family, where):
            _choose_congestion_control(sock)
        sock.settimeout(timeout_ms / 1000)
        sock.connect(where)  # type: ignore[arg-type]
        sock.settimeout(None)
        tune(sock, user_timeout_ms)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_on_this_host(family: int, where: object) -> bool:
    """Does an Internet address lead back here? Nothing is sent to find out."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(where)  # type: ignore[arg-type]
            here, there = probe.getsockname()[0], probe.getpeername()[0]
    except OSError:
        return False
    both_loop = str(here).startswith("127.") and str(there).startswith("127.")
    return bool(here == there) or both_loop


def _choose_congestion_control(sock: socket.socket) -> None:
    """Before the socket connects: one that began with BBR is paced for ever.

    Within a host nothing can be congested, and pacing costs half of the
    speed. A path that leaves it keeps what its administrator chose.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, b"reno")


def tune(sock: socket.socket, user_timeout_ms: int) -> None:
    """No delay for small messages; notice a dead or black-holed peer."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms)


def hasten(sock: socket.socket) -> None:
    """Ahead of other connections, in the queue of this host's interface at
    least; where that is not to be had, not.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, PRIORITY_INTERACTIVE)


def listen(address: Address, backlog: int = 128) -> tuple[socket.socket, Address]:
    """A listening socket, and its address with the port the system chose.

    :raises AddressError: not an address to listen on.
    :raises OSError: as the system reports it.
    """
    if address.scheme is Scheme.TCP:
        return _listen_tcp(address, backlog)
    if address.scheme is Scheme.UNIX:
        _remove_stale(address.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        return _bound(sock, address.path, backlog), address
    raise AddressError(f"{address}: cannot be listened on")


def _listen_tcp(address: Address, backlog: int) -> tuple[socket.socket, Address]:
    family, where = _look_up(address, socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _bound(sock, where, backlog)
    return sock, Address(Scheme.TCP, host=address.host, port=sock.getsockname()[1])


def _bound(sock: socket.socket, where: object, backlog: int) -> socket.socket:
    try:
        sock.bind(where)  # type: ignore[arg-type]
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that no process listens on any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

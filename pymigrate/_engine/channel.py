# SPDX-License-Identifier: Apache-2.0
"""Channels: ordered byte streams that carry pages."""

from __future__ import annotations

import socket
from typing import Any

from pymigrate._engine.native import Handle, check, ffi, lib, new_error

__all__ = ["Channel", "channel_array"]


class Channel(Handle):
    """One channel; made by the class methods.

    The socket or fd behind it is kept open by this object's reference (a
    socket) or by the caller (an fd) and is not closed by it.
    """

    def __init__(self, pointer: Any, behind: Any = None) -> None:
        super().__init__(pointer, lib.pmig_channel_free)
        self.behind = behind

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Channel:
        """A connected stream socket, switched to non-blocking mode."""
        out, err = ffi.new("struct pmig_channel **"), new_error()
        check(lib.pmig_channel_from_socket(sock.fileno(), out, err), err)
        return cls(out[0], sock)

    @classmethod
    def from_file(cls, fd: int) -> Channel:
        """An open file, used from its current position on."""
        out, err = ffi.new("struct pmig_channel **"), new_error()
        check(lib.pmig_channel_from_file(fd, out, err), err)
        return cls(out[0])

    @classmethod
    def null(cls) -> Channel:
        """A sink that counts and forgets."""
        out, err = ffi.new("struct pmig_channel **"), new_error()
        check(lib.pmig_channel_null(out, err), err)
        return cls(out[0])

    @classmethod
    def memory(cls, data: bytes = b"") -> Channel:
        """A channel in memory that already holds data."""
        out, err = ffi.new("struct pmig_channel **"), new_error()
        check(lib.pmig_channel_memory(data, len(data), out, err), err)
        return cls(out[0])

    def memory_data(self) -> bytes:
        """A copy of what a memory channel holds."""
        size = ffi.new("size_t *")
        data = lib.pmig_channel_memory_data(self.pointer, size)
        return bytes(ffi.buffer(data, size[0])) if size[0] else b""


def channel_array(channels: list[Channel]) -> Any:
    """``struct pmig_channel *[]`` over open channels."""
    return ffi.new("struct pmig_channel *[]", [channel.pointer for channel in channels])

# SPDX-License-Identifier: Apache-2.0
"""The only module that imports the compiled library.

``check`` is the only place where an error code of C becomes an exception.
"""

from __future__ import annotations

import errno
import os
import threading
from types import TracebackType
from typing import Any, TypeVar

from pymigrate._native import ffi, lib
from pymigrate.errors import EngineError

__all__ = ["Handle", "check", "ffi", "lib", "new_error"]

Self = TypeVar("Self", bound="Handle")


def new_error() -> Any:
    """A zeroed ``struct pmig_error *`` for one call."""
    return ffi.new("struct pmig_error *")


def check(code: int, err: Any = None) -> int:
    """Raise for a negative code, with the sentence of err where it has one.

    :returns: code, for calls whose positive result means something.
    :raises EngineError: or one of its subclasses, chosen by the code.
    """
    if code >= 0:
        return code
    message = ""
    if err is not None:
        message = ffi.string(err.message).decode("utf-8", "replace")
    if not message:
        name = errno.errorcode.get(-code, str(code))
        message = f"{os.strerror(-code)} ({name})"
    raise EngineError.of(code, message)


class Handle:
    """Owner of one C object.

    Closing is idempotent and may race with the calls marked "any thread",
    which go through :meth:`_if_open`.
    """

    _free: Any

    def __init__(self, pointer: Any, free: Any) -> None:
        self._pointer = pointer
        self._free = free
        self._lock = threading.Lock()

    @property
    def pointer(self) -> Any:
        """The C pointer.

        :raises ValueError: after close().
        """
        if self._pointer is None:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._pointer

    @property
    def closed(self) -> bool:
        return self._pointer is None

    def _if_open(self, call: Any) -> None:
        """Do call(pointer) unless closed; close() waits for it."""
        with self._lock:
            if self._pointer is not None:
                call(self._pointer)

    def close(self) -> None:
        """Free the C object; idempotent."""
        with self._lock:
            pointer, self._pointer = self._pointer, None
        if pointer is not None:
            self._free(pointer)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

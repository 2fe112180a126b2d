# SPDX-License-Identifier: Apache-2.0
"""State items: the named, versioned parts of a machine's state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pymigrate._engine.native import Handle, check, ffi, lib, new_error

__all__ = ["StateItem", "StateList"]


@dataclass(frozen=True)
class StateItem:
    """One item.

    :ivar skippable: a reader that does not know it may leave it out.
    """

    name: str
    data: bytes
    version: int = 1
    skippable: bool = False


class StateList(Handle):
    """An ordered list of items with unique names."""

    def __init__(self, pointer: Any = None) -> None:
        if pointer is None:
            out, err = ffi.new("struct pmig_state **"), new_error()
            check(lib.pmig_state_new(out, err), err)
            pointer = out[0]
        super().__init__(pointer, lib.pmig_state_free)

    @classmethod
    def decode(cls, data: bytes) -> StateList:
        """Read an encoded list.

        :raises StreamError: it is malformed.
        """
        out, err = ffi.new("struct pmig_state **"), new_error()
        check(lib.pmig_state_decode(data, len(data), out, err), err)
        return cls(out[0])

    def encode(self) -> bytes:
        data, size, err = ffi.new("uint8_t **"), ffi.new("uint64_t *"), new_error()
        check(lib.pmig_state_encode(self.pointer, data, size, err), err)
        return bytes(ffi.buffer(data[0], size[0]))

    def add(self, item: StateItem) -> None:
        """Append an item; its name must be new."""
        flags = lib.PMIG_ITEM_SKIPPABLE if item.skippable else 0
        err = new_error()
        check(
            lib.pmig_state_add(
                self.pointer,
                item.name.encode(),
                item.version,
                flags,
                item.data,
                len(item.data),
                err,
            ),
            err,
        )

    def find(self, name: str) -> StateItem | None:
        out = ffi.new("struct pmig_item *")
        if lib.pmig_state_find(self.pointer, name.encode(), out) < 0:
            return None
        return _item(out)

    def __len__(self) -> int:
        return int(lib.pmig_state_count(self.pointer))

    def __iter__(self) -> Iterator[StateItem]:
        out = ffi.new("struct pmig_item *")
        for index in range(len(self)):
            check(lib.pmig_state_item(self.pointer, index, out))
            yield _item(out)


def _item(item: Any) -> StateItem:
    data = bytes(ffi.buffer(item.data, item.size_bytes)) if item.size_bytes else b""
    return StateItem(
        name=ffi.string(item.name).decode(),
        data=data,
        version=item.version,
        skippable=bool(item.flags & lib.PMIG_ITEM_SKIPPABLE),
    )

# SPDX-License-Identifier: Apache-2.0
"""The list of state items in the body of a STATE frame."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .wire import MAX_STATE_ITEMS, STATE_HEAD, STATE_ITEM, STATE_MAGIC, STATE_VERSION

_NAME = re.compile(rb"[a-z0-9./_-]{1,47}\Z")
_SKIPPABLE = 1
_ALIGN_BYTES = 8


@dataclass(frozen=True)
class StateItem:
    """One named, versioned piece of vCPU or device state."""

    name: str
    version: int
    skippable: bool
    data: bytes


class StateListError(ValueError):
    """The list is malformed; the message says where."""


def decode_items(body: bytes | memoryview) -> list[StateItem]:
    """Decode a list. Raises StateListError at the first error."""
    if len(body) < STATE_HEAD.size:
        raise StateListError(f"a state list of {len(body)} bytes has no room for its head")
    magic, version, count, reserved = STATE_HEAD.unpack_from(body)
    if magic != STATE_MAGIC:
        raise StateListError("a state list must begin with PMST")
    if version != STATE_VERSION:
        raise StateListError(f"state list version {version} is unknown")
    if reserved:
        raise StateListError("reserved bits of the state list are set")
    if count > MAX_STATE_ITEMS:
        raise StateListError(f"{count} state items are over the limit of {MAX_STATE_ITEMS}")
    items: dict[str, StateItem] = {}
    at = STATE_HEAD.size
    for index in range(count):
        item, at = _decode_item(body, at, index)
        if item.name in items:
            raise StateListError(f"state item {item.name} occurs twice")
        items[item.name] = item
    if at != len(body):
        raise StateListError(f"{len(body) - at} bytes follow the last state item")
    return list(items.values())


def _decode_item(body: bytes | memoryview, at: int, index: int) -> tuple[StateItem, int]:
    if len(body) - at < STATE_ITEM.size:
        raise StateListError(f"state item {index} is cut off")
    raw_name, version, flags, size = STATE_ITEM.unpack_from(body, at)
    at += STATE_ITEM.size
    name = _decode_name(raw_name, index)
    if flags & ~_SKIPPABLE:
        raise StateListError(f"reserved flags of state item {name} are set")
    if size > len(body) - at:
        raise StateListError(f"state item {name} claims {size} bytes, {len(body) - at} are left")
    data = bytes(body[at : at + size])
    padded = -(-size // _ALIGN_BYTES) * _ALIGN_BYTES
    padding = bytes(body[at + size : at + padded])
    if len(padding) != padded - size or any(padding):
        raise StateListError(f"state item {name} is not padded with zero bytes")
    return StateItem(name, version, bool(flags & _SKIPPABLE), data), at + padded


def _decode_name(raw: bytes, index: int) -> str:
    name = raw.rstrip(b"\0")
    if not _NAME.match(name):
        raise StateListError(f"the name of state item {index} is malformed")
    return name.decode("ascii")

# SPDX-License-Identifier: Apache-2.0
"""The list of stale pages in the body of EPOCH_ACK.

For each block that has any, ascending: its number and a mask of its pages.
Pure Python, no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pymigrate.errors import ProtocolError

__all__ = ["pack_stale", "unpack_stale"]

_ENTRY = struct.Struct("<QQ")


def pack_stale(stale: Sequence[tuple[int, int]]) -> bytes:
    """The body for these blocks and masks."""
    return b"".join(_ENTRY.pack(block, mask) for block, mask in stale)


def unpack_stale(body: bytes, stale_pages: int, n_blocks: int) -> list[tuple[int, int]]:
    """Blocks and masks of a body that came from a peer.

    :param stale_pages: how many pages the head says.
    :param n_blocks: of the memory; bounds what is allocated here.
    :raises ProtocolError: the list is malformed, or not what the head says.
    """
    if len(body) % _ENTRY.size:
        raise ProtocolError(f"a list of stale pages has {len(body)} bytes")
    if len(body) > n_blocks * _ENTRY.size:
        raise ProtocolError(
            f"{len(body) // _ENTRY.size} blocks have stale pages, memory has {n_blocks}"
        )
    last, pages, found = -1, 0, []
    for block, mask in _ENTRY.iter_unpack(body):
        if not last < block < n_blocks or not mask:
            raise ProtocolError(
                f"a list of stale pages names block {block} with mask {mask:#x} after block {last}"
            )
        last = block
        pages += mask.bit_count()
        found.append((block, mask))
    if pages != stale_pages:
        raise ProtocolError(f"{stale_pages} pages are said to be stale, {pages} are named")
    return found

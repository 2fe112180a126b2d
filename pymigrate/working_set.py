# SPDX-License-Identifier: Apache-2.0
"""The pages that a guest touched first, kept beside the file that holds it.

::

    8    the bytes ``PMIGWS`` and two zero bytes
    4    version, 1
    4    number of regions
    8    number of pages
    8    XXH3-64 of all that follows
    16   for each region: gpa, size in bytes
    8    for each page: its number, in the order of their first use

All integers are little-endian. Pages are numbered as everywhere in the
engine: block x 64 + page, where each region begins with a block of its own.
It is a hint and nothing else: without it, or with a wrong one, a restore
takes longer to bring what the guest needs.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from pymigrate.errors import WorkingSetError

__all__ = [
    "MAX_PAGES",
    "WorkingSetError",
    "load_working_set",
    "merge_working_sets",
    "save_working_set",
    "working_set_path",
]

MAGIC = b"PMIGWS\0\0"
VERSION = 1
_HEAD = struct.Struct("<8sIIQQ")
_REGION = struct.Struct("<QQ")
BLOCK_BYTES = 64 * 4096
BLOCK_PAGES = 64
# As many as the engine remembers: 1 GiB.
MAX_PAGES = 262_144
MAX_REGIONS = 1024


def working_set_path(memory_path: str) -> str:
    """Where the list of a file is kept."""
    return memory_path + ".ws"


def load_working_set(path: str, memory: Sequence[Mapping[str, Any]]) -> list[int]:
    """Page numbers in the order of their first use.

    :param memory: ``Memory.describe()``, to check that they belong to it.
    :raises WorkingSetError: there is no such list, or it cannot be used.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(_HEAD.size + MAX_REGIONS * _REGION.size + 8 * MAX_PAGES + 1)
    except OSError as error:
        raise WorkingSetError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    return _parse(path, data, _regions(memory))


def save_working_set(path: str, memory: Sequence[Mapping[str, Any]], pages: Sequence[int]) -> None:
    """Write the list, as a whole or not at all.

    :param pages: the first MAX_PAGES are kept.
    :raises WorkingSetError: it cannot be written.
    """
    regions = _regions(memory)
    body = b"".join(_REGION.pack(*region) for region in regions)
    body += _little_endian(array("Q", pages[:MAX_PAGES])).tobytes()
    count = min(len(pages), MAX_PAGES)
    head = _HEAD.pack(MAGIC, VERSION, len(regions), count, xxhash.xxh3_64_intdigest(body))
    # Two restores of one file may end at the same time.
    fresh = f"{path}.{os.getpid()}.new"
    try:
        with open(fresh, "wb") as stream:
            stream.write(head + body)
        os.replace(fresh, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise WorkingSetError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def merge_working_sets(known: Sequence[int], touched: Sequence[int]) -> list[int]:
    """What to keep after a restore that prefetched known.

    Pages that were prefetched in time did not fault, so touched does not
    have them; those that it has besides come behind.
    """
    return list(dict.fromkeys([*known, *touched]))[:MAX_PAGES]


def _regions(memory: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """What makes a page's number mean the same page."""
    return [(int(region["gpa"]), int(region["size_bytes"])) for region in memory]


def _parse(path: str, data: bytes, ours: list[tuple[int, int]]) -> list[int]:
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        raise WorkingSetError(f"{path}: not a list of pages")
    _, version, n_regions, n_pages, checksum = _HEAD.unpack_from(data)
    if version != VERSION:
        raise WorkingSetError(f"{path}: version {version}, known is {VERSION}")
    body = data[_HEAD.size :]
    if len(body) != n_regions * _REGION.size + 8 * n_pages:
        raise WorkingSetError(f"{path}: cut off, or with something behind its end")
    if xxhash.xxh3_64_intdigest(body) != checksum:
        raise WorkingSetError(f"{path}: damaged")
    split = n_regions * _REGION.size
    if list(_REGION.iter_unpack(body[:split])) != ours:
        raise WorkingSetError(f"{path}: of a machine with other memory")
    pages = list(_little_endian(array("Q", body[split:])))
    limit = BLOCK_PAGES * sum(-(-size // BLOCK_BYTES) for _, size in ours)
    if pages and max(pages) >= limit:
        raise WorkingSetError(f"{path}: page {max(pages)}, and memory has {limit}")
    return pages


def _little_endian(words: array[int]) -> array[int]:
    if sys.byteorder == "big":
        words.byteswap()
    return words

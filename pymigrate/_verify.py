# SPDX-License-Identifier: Apache-2.0
"""Compare every page of both sides while the guest is paused on both."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pymigrate._clock import Stopwatch
from pymigrate._engine import BLOCK_PAGES, PAGE_BYTES, Memory
from pymigrate._link import Link
from pymigrate.errors import ProtocolError
from pymigrate.protocol import VerifyHashes, VerifyPages
from pymigrate.report import Verify

__all__ = ["answer_verify", "hashes_of", "verify_pages"]

# 1 GiB of guest memory at a time: 2 MiB of hashes.
MAX_VERIFY_BLOCKS = 4096


def hashes_of(memory: Memory, first_block: int, n_blocks: int) -> bytes:
    """Hashes of the blocks' pages, or nothing when all pages are zero."""
    hashes = memory.hash(first_block, n_blocks)
    return hashes if any(hashes) else b""


def verify_pages(memory: Memory, link: Link, timeout_ms: int) -> tuple[Verify, str]:
    """Ask the destination for its hashes and compare them with ours.

    :returns: the counts, and where the first difference is, if any.
    """
    watch = Stopwatch()
    mismatches, where = 0, ""
    for first, count in _chunks(memory.blocks):
        link.send(VerifyPages(first_block=first, n_blocks=count))
        ours = hashes_of(memory, first, count)
        theirs = link.receive("verifying", timeout_ms, VerifyHashes)
        if (theirs.first_block, theirs.n_blocks) != (first, count):
            raise ProtocolError(f"{link.peer} hashed other blocks than asked for")
        different = _compare(ours, theirs.body, count)
        if different and not where:
            where = f"block {first + different[0] // BLOCK_PAGES}"
            where += f", page {different[0] % BLOCK_PAGES}"
        mismatches += len(different)
    pages = memory.size_bytes // PAGE_BYTES
    return Verify(pages, mismatches, watch.elapsed_ms()), where


def answer_verify(memory: Memory, link: Link, asked: VerifyPages) -> None:
    """The destination's part of it.

    :raises ProtocolError: there are no such blocks.
    """
    last = asked.first_block + asked.n_blocks
    if not 1 <= asked.n_blocks <= MAX_VERIFY_BLOCKS or last > memory.blocks:
        raise ProtocolError("verifying: the source asks for blocks that do not exist")
    hashes = hashes_of(memory, asked.first_block, asked.n_blocks)
    link.send(VerifyHashes(first_block=asked.first_block, n_blocks=asked.n_blocks, body=hashes))


def _chunks(blocks: int) -> Iterator[tuple[int, int]]:
    for first in range(0, blocks, MAX_VERIFY_BLOCKS):
        yield first, min(MAX_VERIFY_BLOCKS, blocks - first)


def _compare(ours: bytes, theirs: bytes, n_blocks: int) -> list[int]:
    """Indices of the pages that differ."""
    if ours == theirs:
        return []
    size = 8 * n_blocks * BLOCK_PAGES
    ours, theirs = ours or bytes(size), theirs or bytes(size)
    if len(theirs) != size:
        raise ProtocolError(f"{len(theirs)} bytes of hashes, expected {size}")
    layout = struct.Struct(f"<{n_blocks * BLOCK_PAGES}Q")
    pairs = zip(layout.unpack(ours), layout.unpack(theirs), strict=True)
    return [index for index, (a, b) in enumerate(pairs) if a != b]

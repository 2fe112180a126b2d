# SPDX-License-Identifier: Apache-2.0
"""What guest memory is filled with: random bytes, and what machines really hold.

Files that every Debian system has stand for text and for executable code, and
the heap of a live process full of objects stands for memory of pointers. A
sample is at most SAMPLE_BYTES; where more is wanted it comes again, shifted, so
that no two pages are equal for that reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

SAMPLE_BYTES = 64 << 20
# A multiple of a word, so that words stay aligned, and of no page.
_SHIFT_BYTES = 1032
_PIECE_BYTES = 8 << 20

NAMES = ("random", "zero", "text", "executable", "pointers")

# Builds some 100 MB of dictionaries, lists, tuples and strings, then waits.
_OBJECTS = """
import sys
kept = [{"name": f"object {i}", "next": (i, i + 1), "list": [i] * 7} for i in range(250000)]
for i, one in enumerate(kept):
    one["peer"] = kept[i * 7919 % len(kept)]
print(flush=True)
sys.stdin.read()
"""


def pieces(content: str, size_bytes: int) -> Iterator[memoryview]:
    """That many bytes of a content, in pieces.

    :raises RuntimeError: this system has not enough of it.
    """
    view = memoryview(_sample(content))
    left = size_bytes
    for turn in range(size_bytes // len(view) + 1):
        shift = turn * _SHIFT_BYTES % len(view)
        for part in (view[shift:], view[:shift]):
            for at in range(0, min(len(part), left), _PIECE_BYTES):
                piece = part[at : at + min(_PIECE_BYTES, left)]
                left -= len(piece)
                yield piece


def fill(
    write: Callable[[int, memoryview], None], layout: Iterable[tuple[str, int]], skipped_bytes: int
) -> None:
    """Lay contents out one behind the other, from 0 on.

    :param write: is given an offset and bytes.
    :param layout: (content, bytes); ``untouched`` is left alone.
    :param skipped_bytes: at the start, which belong to the guest's code.
    """
    at = 0
    for content, size in layout:
        offset = min(max(at, skipped_bytes), at + size)
        at += size
        if content == "untouched":
            continue
        for piece in pieces(content, at - offset):
            write(offset, piece)
            offset += len(piece)


@cache
def _sample(content: str) -> bytes:
    if content == "random":
        return os.urandom(SAMPLE_BYTES)
    if content == "zero":
        return bytes(_PIECE_BYTES)
    if content == "text":
        return _of_files(_text_files())
    if content == "executable":
        return _of_files(_executables())
    if content == "pointers":
        return _heap_of_a_process()
    raise ValueError(f"{content!r} is not a content: {', '.join(NAMES)}")


def _text_files() -> Iterator[Path]:
    """Licences, copyright notices, what packages consist of, and programs as text."""
    share = Path("/usr/share")
    return chain(
        sorted((share / "common-licenses").glob("*")),
        sorted((share / "doc").glob("*/copyright")),
        sorted(Path("/var/lib/dpkg/info").glob("*.list")),
        sorted((share / "perl").rglob("*.p[lm]")),
        sorted(Path("/usr/lib/python3").rglob("*.py")),
        sorted(Path("/usr/lib").glob("python3.*/**/*.py")),
    )


def _executables() -> Iterator[Path]:
    """Programs and libraries."""
    return chain(
        sorted(Path("/usr/bin").glob("*")),
        sorted(Path(f"/usr/lib/{os.uname().machine}-linux-gnu").glob("*.so*")),
        sorted(Path("/usr/sbin").glob("*")),
    )


def _of_files(paths: Iterable[Path]) -> bytes:
    """Up to SAMPLE_BYTES of the files, each once."""
    found, seen, size = [], set(), 0
    for path in paths:
        if not path.is_file() or path.resolve() in seen:
            continue
        seen.add(path.resolve())
        data = path.read_bytes()
        found.append(data)
        size += len(data)
        if size >= SAMPLE_BYTES:
            break
    return _whole_pages(b"".join(found)[:SAMPLE_BYTES])


def _heap_of_a_process() -> bytes:
    """What a Python process with many small objects has in its memory."""
    child = subprocess.Popen(
        [sys.executable, "-c", _OBJECTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        return _whole_pages(_private_memory(child.pid)[:SAMPLE_BYTES])
    finally:
        child.kill()
        child.communicate()


def _private_memory(pid: int) -> bytes:
    """Memory that no file is behind, the largest pieces first."""
    spans = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, rights, _, _, inode, *name = line.split()
        if rights.startswith("rw") and inode == "0" and name in ([], ["[heap]"]):
            first, last = (int(part, 16) for part in where.split("-"))
            spans.append((last - first, first))
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        found = []
        for size, first in sorted(spans, reverse=True):
            memory.seek(first)
            found.append(memory.read(size))
    return b"".join(found)


def _whole_pages(data: bytes) -> bytes:
    if len(data) < _PIECE_BYTES:
        raise RuntimeError(f"this system has only {len(data)} bytes of that content")
    return data[: len(data) // 4096 * 4096]

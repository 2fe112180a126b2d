# SPDX-License-Identifier: Apache-2.0
"""The codecs of the C core, which its public interface hides, for measuring.

``csrc/Makefile`` builds bench/c with them into one library.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from functools import cache
from pathlib import Path

from bench.contents import SAMPLE_BYTES, pieces

PAGE = 4096
BLOCK = 64 * PAGE
LZ4, ZSTD = 4, 5

_CSRC = Path(__file__).resolve().parent.parent / "csrc"
_u32, _u64, _ptr = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p


class Round(ctypes.Structure):
    """``struct bench_round`` of bench/c/resend.h."""

    stored_bytes: int
    raw_pages: int
    hits: int
    wrong: int
    _fields_ = [(name, _u64) for name in ("stored_bytes", "raw_pages", "hits", "wrong")]


_PAGES = (_ptr, ctypes.c_size_t, _u32)
_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "kernel": (ctypes.c_char_p, (ctypes.c_uint,)),
    "prints": (_u64, (ctypes.c_uint, *_PAGES)),
    "changes": (_u64, (_u32,)),
    "hash": (_u64, _PAGES),
    "sample": (_u64, (*_PAGES, _ptr)),
    "delta_encode": (_u64, (*_PAGES, _u64)),
    "delta_apply": (_u64, (*_PAGES, _u64)),
    "compress": (_u64, (ctypes.c_uint, ctypes.c_int, _ptr, _u32, _u32, _ptr, _ptr)),
    "decompress": (ctypes.c_int, (ctypes.c_uint, _ptr, _ptr, _u32, _u32, _ptr)),
    "touch": (ctypes.c_int, (_u32, ctypes.POINTER(_u64))),
    "dirty": (None, (_ptr, _u32, _u32, _u32, _u64)),
    "lines": (None, (_ptr, _u32, _ptr, _ptr, ctypes.POINTER(Round))),
    "cache_new": (_ptr, (_u32, _u32)),
    "cache_free": (None, (_ptr,)),
    "cached": (None, (_ptr, _ptr, _u32, _ptr, ctypes.POINTER(Round))),
}


@cache
def library() -> ctypes.CDLL:
    """Built if need be; its functions carry their types.

    :raises subprocess.CalledProcessError: it does not build.
    """
    subprocess.run(["make", "-s", "-j2", "-C", str(_CSRC), "bench"], check=True)
    loaded = ctypes.CDLL(str(_CSRC / "build" / "libbench.so"))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, f"bench_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded


def kernels() -> dict[str, int]:
    """What makes fingerprints on this processor, best first, and its number."""
    found = [library().bench_kernel(i) for i in range(3)]
    return {name.decode(): i for i, name in enumerate(found) if name}


class Pages:
    """Page-aligned memory, all of it populated.

    :ivar at: its address.
    :ivar n: how many pages.
    """

    def __init__(self, size_bytes: int) -> None:
        self.map = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.n = size_bytes // PAGE
        self.at = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        ctypes.memset(self.at, 0, size_bytes)

    @classmethod
    def of(cls, content: str, size_bytes: int) -> Pages:
        """Blocks of a content of bench/contents.py, from all over it."""
        made = cls(size_bytes)
        one_of = max(1, SAMPLE_BYTES // size_bytes)
        data = b"".join(pieces(content, size_bytes * one_of))
        for at in range(0, size_bytes, BLOCK):
            made.map[at : at + BLOCK] = data[at * one_of : at * one_of + BLOCK]
        return made

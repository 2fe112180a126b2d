# SPDX-License-Identifier: Apache-2.0
"""Pages that were compressed together, and other compressed contents.

Nothing is decompressed beyond the size that the group must have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import lz4.block
import zstandard

from .regions import Fail
from .wire import MAX_WINDOW_BYTES, Encoding

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def decompress(
    encoding: Encoding,
    stored: memoryview,
    size_bytes: int,
    fail: Fail,
    what: str = "a group of pages",
) -> bytes:
    """What was compressed, which makes up size_bytes."""

    def fail_so(reason: str) -> NoReturn:
        fail(f"{what} {reason}")

    data = _BY_ENCODING[encoding](bytes(stored), size_bytes, fail_so)
    if len(data) != size_bytes:
        fail_so(f"of {size_bytes} bytes decompresses to {len(data)}")
    return data


def _lz4(stored: bytes, size_bytes: int, fail: Fail) -> bytes:
    try:
        return bytes(lz4.block.decompress(stored, uncompressed_size=size_bytes))
    except lz4.block.LZ4BlockError as error:
        fail(f"is no LZ4 block of {size_bytes} bytes: {error}")


def _zstd(stored: bytes, size_bytes: int, fail: Fail) -> bytes:
    if not stored.startswith(_ZSTD_MAGIC):
        fail("is not a Zstandard frame")
    try:
        frame = zstandard.get_frame_parameters(stored)
        _check_frame(frame, size_bytes, fail)
        return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompress(
            stored, max_output_size=size_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        fail(f"is no Zstandard frame of {size_bytes} bytes: {error}")


def _check_frame(frame: zstandard.FrameParameters, size_bytes: int, fail: Fail) -> None:
    if frame.dict_id:
        fail("needs a dictionary")
    if frame.window_size > MAX_WINDOW_BYTES:
        fail(f"needs a window of {frame.window_size} bytes")
    known = frame.content_size != zstandard.CONTENTSIZE_UNKNOWN
    if known and frame.content_size != size_bytes:
        fail(f"of {size_bytes} bytes decompresses to {frame.content_size}")


_BY_ENCODING: dict[Encoding, Callable[[bytes, int, Fail], bytes]] = {
    Encoding.LZ4: _lz4,
    Encoding.ZSTD: _zstd,
}

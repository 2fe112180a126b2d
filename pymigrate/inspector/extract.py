# SPDX-License-Identifier: Apache-2.0
"""Write what a stream carries to files: sparse regions, config and state.

Names in a stream are not trusted: a file name is made of the number of the
thing and of the harmless characters of its name.
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

from .items import StateItem
from .regions import StreamInfo
from .wire import PAGE_BYTES

_ZERO_PAGE = bytes(PAGE_BYTES)
_UNSAFE = re.compile(r"[^a-z0-9_-]+")


def safe_name(name: str) -> str:
    """A name without separators, dots or control characters."""
    return _UNSAFE.sub("-", name.lower()).strip("-") or "unnamed"


class Extractor:
    """A sink that writes files into a directory that is new or empty.

    Raises FileExistsError where the directory holds something, and OSError
    where the file system cannot hold a region.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise FileExistsError(f"{directory} is not empty")
        self._directory = directory
        self._region_fds: list[int] = []
        self._state: list[StateItem] = []

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def stream(self, info: StreamInfo) -> None:
        for number, region in enumerate(info.regions):
            path = self._directory / f"region-{number}-{safe_name(region.name)}.bin"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            self._region_fds.append(fd)
            _make_hole(fd, number, region.size_bytes)

    def config(self, config: dict[str, Any]) -> None:
        text = json.dumps(config, indent=2) + "\n"
        (self._directory / "config.json").write_text(text)

    def state(self, items: list[StateItem]) -> None:
        self._state = items

    def page(self, region: int, offset: int, data: memoryview) -> None:
        os.pwrite(self._region_fds[region], data, offset)

    def read(self, region: int, offset: int) -> bytes:
        return os.pread(self._region_fds[region], PAGE_BYTES, offset)

    def zero(self, region: int, offset: int) -> None:
        """Writes only where there is something, so that holes stay holes."""
        fd = self._region_fds[region]
        if os.pread(fd, PAGE_BYTES, offset) != _ZERO_PAGE:
            os.pwrite(fd, _ZERO_PAGE, offset)

    def close(self) -> None:
        """Close the regions and write the last state that came."""
        while self._region_fds:
            os.close(self._region_fds.pop())
        if self._state:
            self._write_state()

    def _write_state(self) -> None:
        directory = self._directory / "state"
        directory.mkdir()
        for number, item in enumerate(self._state):
            name = f"{number:03}-{safe_name(item.name)}-v{item.version}.bin"
            (directory / name).write_bytes(item.data)
        self._state = []


def _make_hole(fd: int, number: int, size_bytes: int) -> None:
    try:
        os.truncate(fd, size_bytes)
    except (OSError, OverflowError) as error:
        raise OSError(
            errno.EFBIG, f"the file system cannot hold region {number} of {size_bytes} bytes"
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""A memory file, a VMM that restores from it, and the commands that serve it.

All three are processes of their own, which can be killed.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from commands import PYMIGRATE

SLOWDOWN = float(os.environ.get("PYMIGRATE_TEST_SLOWDOWN", "1"))
LIMIT_S = 60 * SLOWDOWN
PAGE_BYTES = 4096
HUGE_PAGES = 512
SUM_STRIDE = 256
COUNT_AT = 4092
ZERO = bytes(PAGE_BYTES)
ZERO_CRC = zlib.crc32(ZERO)
VMM = [sys.executable, str(Path(__file__).with_name("uffd_vmm.py"))]

# A page of guest memory: region and number.
Page = tuple[int, int]


# ---- what memory holds ------------------------------------------------------


def content(page: int, seed: int = 1) -> bytes:
    """A page of the file: noise, something compressible, or zeros."""
    rng = random.Random(seed << 32 | page)
    kind = rng.randrange(4)
    if kind == 0:
        return ZERO
    if kind == 1:
        return (b"page %8d of a guest\n" % page * 200)[:PAGE_BYTES]
    return rng.randbytes(PAGE_BYTES)


def page_sum(data: bytes) -> int:
    """What the guest makes of a page."""
    found = 0
    for at in range(0, PAGE_BYTES, SUM_STRIDE):
        found = (found + int.from_bytes(data[at : at + 4], "little")) & 0xFFFFFFFF
        found = (found << 1 | found >> 31) & 0xFFFFFFFF
    return found


def counted(data: bytes, times: int = 1) -> bytes:
    """A page whose last word the guest has counted up."""
    count = int.from_bytes(data[COUNT_AT:], "little") + times
    return data[:COUNT_AT] + (count & 0xFFFFFFFF).to_bytes(4, "little")


@dataclass(frozen=True)
class Layout:
    """Regions of a guest.

    :ivar pages: of each.
    :ivar huge: each has pages of 2 MiB.
    """

    pages: tuple[int, ...] = (1500, 700, 1200)
    huge: bool = False

    @property
    def offsets(self) -> list[int]:
        """Of each region in the file, bytes. They lie in another order."""
        at, found = 0, {}
        for region in reversed(range(len(self.pages))):
            found[region] = at
            at += self.pages[region] * PAGE_BYTES
        return [found[region] for region in range(len(self.pages))]

    @property
    def all_pages(self) -> list[Page]:
        return [(r, p) for r, count in enumerate(self.pages) for p in range(count)]

    def spec(self) -> list[tuple[int, bool, int]]:
        return [
            (pages, self.huge, offset)
            for pages, offset in zip(self.pages, self.offsets, strict=True)
        ]


class MemoryFile:
    """A snapshot's memory; pages of zeros are holes."""

    def __init__(self, path: Path, layout: Layout, seed: int = 1) -> None:
        self.path, self.layout, self._seed = path, layout, seed
        total = sum(layout.pages)
        with path.open("wb") as file:
            file.truncate(total * PAGE_BYTES)
            for page in range(total):
                if (data := content(page, seed)) != ZERO:
                    file.seek(page * PAGE_BYTES)
                    file.write(data)

    def page(self, page: Page) -> bytes:
        region, number = page
        return content(self.layout.offsets[region] // PAGE_BYTES + number, self._seed)

    @property
    def stored_pages(self) -> int:
        return sum(content(n, self._seed) != ZERO for n in range(sum(self.layout.pages)))


# ---- processes --------------------------------------------------------------


class VmmError(Exception):
    """The VMM could not do what it was told."""


class VmmProcess:
    """tests/uffd_vmm.py, and what it is told."""

    def __init__(self, layout: Layout, vcpus: int = 2) -> None:
        self.layout = layout
        self._process = subprocess.Popen(
            VMM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._next = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.call("new", layout.spec(), vcpus)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._answers[said["n"]].put(said)
        for waiting in self._answers.values():
            waiting.put({"error": "the VMM is gone"})

    def ask(self, name: str, *arguments: Any) -> int:
        """Begin something; returns what to give to answer()."""
        number, self._next = self._next, self._next + 1
        self._answers[number] = queue.SimpleQueue()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([number, name, *arguments]) + "\n")
        self._process.stdin.flush()
        return number

    def answer(self, number: int, limit_s: float = LIMIT_S) -> Any:
        """What came of it."""
        said = self._answers[number].get(timeout=limit_s)
        if said.get("error"):
            raise VmmError(said["error"])
        return said["value"]

    def has_answered(self, number: int) -> bool:
        return not self._answers[number].empty()

    def call(self, name: str, *arguments: Any) -> Any:
        return self.answer(self.ask(name, *arguments))

    def walk(self, pages: Sequence[Page], vcpu: int = 0, count: bool = False) -> list[int]:
        """The guest looks at pages; their sums."""
        found: list[int] = self.call("walk", vcpu, list(pages), count)
        return found

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._reader.join(LIMIT_S)

    def __enter__(self) -> VmmProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Command:
    """A long-running ``pymigrate`` command, with what it says on stderr."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*PYMIGRATE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.said: list[str] = []
        self._heard = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._heard:
                self.said.append(line.strip())
                self._heard.notify_all()
        with self._heard:
            self._over = True
            self._heard.notify_all()

    def wait_for(self, words: str) -> str:
        """The line that has these words."""

        def found() -> str | None:
            return next((line for line in self.said if words in line), None)

        with self._heard:
            self._heard.wait_for(lambda: found() or self._over, LIMIT_S)
            line = found()
        assert line is not None, f"it did not say {words!r}, but {self.said}"
        return line

    def kill(self) -> None:
        """SIGKILL, and until the kernel has closed everything."""
        self._process.kill()
        self._process.wait(LIMIT_S)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit code."""
        code = self._process.wait(limit_s)
        self._reader.join(limit_s)
        return code

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        self._reader.join(LIMIT_S)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Commands:
    """The commands that serve a memory file, in a directory.

    :ivar remote: pages come from a page server.
    """

    def __init__(self, path: Path, memory_path: Path, remote: bool) -> None:
        self.path, self.memory_path, self.remote = path, memory_path, remote
        self.socket = str(path / "uffd.sock")
        self.state = Path(self.socket + ".state")
        self.server: Command | None = None
        self.address = ""
        self._handlers = 0
        self._open: list[Command] = []

    def serve(self, *options: str, address: str = "tcp:127.0.0.1:0") -> None:
        """Start the page server, again at the same address if told so."""
        server = Command(
            "page-server", "--memory", str(self.memory_path), "--listen", address, *options
        )
        self._open.append(server)
        said = server.wait_for(" on ")
        self.server, self.address = server, said.rpartition(" on ")[2]

    @property
    def memory(self) -> str:
        if not self.remote:
            return str(self.memory_path)
        if self.server is None:
            self.serve()
        return self.address

    def handler(self, *options: str, memory: str | None = None, wait: bool = True) -> Command:
        """Start a handler; wait until it listens, or has taken over."""
        self._handlers += 1
        line = ["uffd-handler", "--socket", self.socket, "--memory", memory or self.memory]
        handler = Command(*line, "--json", str(self._report_path(self._handlers)), *options)
        self._open.append(handler)
        if wait:
            handler.wait_for("taking over" if self.state.exists() else "listening on")
        return handler

    def _report_path(self, number: int) -> Path:
        return self.path / f"report{number}.json"

    def report_of(self, number: int) -> dict[str, Any]:
        """Of the handler that was started as so manieth, from 1 on."""
        found: dict[str, Any] = json.loads(self._report_path(number).read_text())
        return found

    def report(self) -> dict[str, Any]:
        """Of the last handler."""
        return self.report_of(self._handlers)

    def missing_pages(self) -> int:
        """As the handler would leave them, were it killed now."""
        data = self.state.read_bytes()
        head = -(-(data.index(b"\n") + 1) // PAGE_BYTES) * PAGE_BYTES
        return int.from_bytes(data[head + PAGE_BYTES :], "little").bit_count()

    def await_missing(self, pages: int) -> None:
        """Until no more than so many are missing."""
        deadline = time.monotonic() + LIMIT_S
        while self.missing_pages() > pages:
            assert time.monotonic() < deadline, f"{self.missing_pages()} pages are missing"
            # Nothing tells when a word of shared memory changes.
            time.sleep(0.005)

    def let_go_on(self, pages: int) -> None:
        """Until so many pages have come, if they come soon."""
        deadline = time.monotonic() + 0.2
        with suppress(FileNotFoundError):
            goal = self.missing_pages() - pages
            while self.missing_pages() > goal and time.monotonic() < deadline:
                time.sleep(0.001)

    def connect(self, vmm: VmmProcess, handler: Command) -> None:
        """The VMM restores."""
        vmm.call("connect", self.socket)
        handler.wait_for("serving the page faults")

    def close(self) -> None:
        for command in reversed(self._open):
            with suppress(OSError):
                command.close()


class Bench(Commands):
    """With a memory file whose contents are known."""

    def __init__(self, path: Path, layout: Layout, remote: bool, seed: int = 1) -> None:
        self.layout = layout
        self.file = MemoryFile(path / "guest.mem", layout, seed)
        super().__init__(path, self.file.path, remote)


@contextmanager
def bench(
    path: Path, layout: Layout | None = None, *, remote: bool = False, seed: int = 1
) -> Iterator[Bench]:
    """A bench that leaves no process behind."""
    found = Bench(path, layout or Layout(), remote, seed)
    try:
        yield found
    finally:
        found.close()


def check_memory(
    vmm: VmmProcess,
    file: MemoryFile,
    zero: set[Page] | frozenset[Page] = frozenset(),
    counts: dict[Page, int] | None = None,
) -> None:
    """Every byte of guest memory, read by the VMM.

    :param zero: pages that were removed.
    :param counts: how often the guest counted in a page since.
    """
    counts = counts or {}
    for region in range(len(file.layout.pages)):
        found = vmm.call("checksums", region)
        for number, checksum in enumerate(found):
            page = (region, number)
            data = ZERO if page in zero else file.page(page)
            expected = zlib.crc32(counted(data, counts[page]) if page in counts else data)
            assert checksum == expected, describe_page(page, checksum, file, zero)


def describe_page(page: Page, checksum: int, file: MemoryFile, zero: Any) -> str:
    """What a page holds that is not as it should be."""
    kind = "zeros" if checksum == ZERO_CRC else "something else"
    if checksum == zlib.crc32(file.page(page)):
        kind = "what the file has"
    return f"page {page} holds {kind}, and was {'' if page in zero else 'not '}removed"


def scattered(pages: Sequence[Page], count: int, seed: int) -> list[Page]:
    """Some pages in an order that nobody can foresee."""
    return random.Random(seed).sample(list(pages), count)

# SPDX-License-Identifier: Apache-2.0
"""The decoders of the stream: the inspector in Python, the receiver in C.

Both get the same bytes and the same machine of two regions, and tell what
memory is afterwards, or why they refuse. The receiver is tried on memory of
its own and on that of files, where pages that come late take another way. The
restore from a file is a third decoder, which looks at the last version of each
page only.
"""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Any

import pytest
from stream_builder import BLOCK, EPOCH, LATE, PAGE, SEALED, Region

from pymigrate import _engine as engine
from pymigrate.errors import EngineError
from pymigrate.inspector import Decoder, StateItem, StreamError, StreamInfo

REGIONS = (Region(), Region(b"high", 1 << 32, 2 * BLOCK - 5 * PAGE))
BLOCKS = 6
HANG_MS = 20_000


@dataclass(frozen=True)
class Decoded:
    """What a stream gave.

    :ivar memory: of each region.
    :ivar stale: pages that were stale after each epoch.
    :ivar suspect: likewise.
    """

    memory: tuple[bytes, ...]
    stale: tuple[int, ...]
    suspect: tuple[int, ...]

    def pages(self) -> dict[tuple[int, int], bytes]:
        """Those that are not zero, by region and number."""
        return {
            (region, at // PAGE): memory[at : at + PAGE]
            for region, memory in enumerate(self.memory)
            for at in range(0, len(memory), PAGE)
            if any(memory[at : at + PAGE])
        }


class MemorySink:
    """Applies a stream to byte arrays; refuses a machine that is not ours."""

    def __init__(self) -> None:
        self.memory = [bytearray(region.size) for region in REGIONS]

    def stream(self, info: StreamInfo) -> None:
        ours = [(region.gpa, region.size) for region in REGIONS]
        if [(region.gpa, region.size_bytes) for region in info.regions] != ours:
            raise StreamError(0, 0, "other regions")
        if (info.channel_index, info.channel_count) != (0, 1):
            raise StreamError(0, 0, "another channel")

    def config(self, config: dict[str, Any]) -> None: ...

    def state(self, items: list[StateItem]) -> None: ...

    def page(self, region: int, offset: int, data: memoryview) -> None:
        self.memory[region][offset : offset + PAGE] = data

    def zero(self, region: int, offset: int) -> None:
        self.memory[region][offset : offset + PAGE] = bytes(PAGE)


def by_inspector(data: bytes) -> Decoded | str:
    """What the stream gives, or why it was refused."""
    sink = MemorySink()
    try:
        summary = Decoder(io.BytesIO(data), sink).run()
    except StreamError as error:
        return str(error)
    return Decoded(
        tuple(bytes(memory) for memory in sink.memory),
        tuple(epoch.stale_pages_left for epoch in summary.epochs),
        tuple(epoch.suspect_pages_left for epoch in summary.epochs),
    )


@dataclass(frozen=True)
class Backing:
    """What memory is of.

    :ivar of_files: each region is one, and shared.
    :ivar map_files: the kernel can place their pages by mapping them.
    """

    of_files: bool = False
    map_files: bool = True

    def region(self, stack: contextlib.ExitStack, region: Region) -> tuple[mmap.mmap, Any]:
        """A mapping, and what the engine knows of it."""
        name, fd, flags = region.name.decode(), -1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        if self.of_files:
            fd, flags = os.memfd_create(name), mmap.MAP_SHARED
            stack.callback(os.close, fd)
            os.ftruncate(fd, region.size)
        area = mmap.mmap(fd, region.size, flags=flags)
        shared = self.of_files
        return area, engine.Region.of_buffer(area, region.gpa, fd=fd, shared=shared, name=name)


ANONYMOUS = Backing()
FILES = Backing(of_files=True)
COPIED_FILES = Backing(of_files=True, map_files=False)


def by_receiver(*channels: bytes, backing: Backing = ANONYMOUS) -> Decoded | str:
    """The same by the C receiver, with what its users check on top."""
    with contextlib.ExitStack() as stack:
        maps, regions = zip(*(backing.region(stack, region) for region in REGIONS), strict=True)
        ends = [stack.enter_context(engine.Channel.memory(data)) for data in channels]
        try:
            with (
                engine.Memory(regions) as memory,
                engine.Faults(memory, map_files=backing.map_files) as faults,
                engine.Receiver(memory, ends, fresh=True, faults=faults) as receiver,
            ):
                epochs = drain(receiver, Departure(faults, sealed_before_late(channels[0])))
        except (EngineError, ValueError) as error:
            return str(error) or "refused"
        return Decoded(
            tuple(bytes(area) for area in maps),
            tuple(epoch.stale_pages for epoch in epochs),
            tuple(epoch.suspect_pages for epoch in epochs),
        )


def by_restore(data: bytes) -> tuple[bytes, ...] | str:
    """The memory of a machine that is restored lazily, or why it cannot be."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    maps = [mmap.mmap(-1, region.size, flags=private) for region in REGIONS]
    regions = [
        engine.Region.of_buffer(area, region.gpa, name=region.name.decode())
        for area, region in zip(maps, REGIONS, strict=True)
    ]
    fd = os.memfd_create("stream", os.MFD_CLOEXEC)
    try:
        os.pwrite(fd, data, 0)
        with (
            engine.Memory(regions) as memory,
            engine.Faults(memory, handlers=1) as faults,
            engine.Restore(memory, faults, fd, fresh=True) as restore,
        ):
            faults.start()
            restore.start()
            if not restore.wait(HANG_MS):
                pytest.fail(f"the restore hangs: not complete within {HANG_MS} ms")
    except EngineError as error:
        return str(error) or "refused"
    finally:
        os.close(fd)
    return tuple(bytes(area) for area in maps)


def sealed_before_late(data: bytes) -> int:
    """How many sealed epochs a stream has before its late one; 0: it has none.

    Looks no further than frames follow each other.
    """
    at, sealed = 0, 0
    while at + 40 <= len(data):
        kind = data[at + 16]
        head, body = struct.unpack_from("<II", data, at + 20)
        if kind == EPOCH and at + 52 <= len(data):
            (epoch,) = struct.unpack_from("<I", data, at + 48)
            if epoch == LATE:
                return sealed
            sealed += epoch == SEALED
        at += 40 + head + body
    return 0


@dataclass
class Departure:
    """Starts the faults of a machine when its last sealed epoch is here."""

    faults: engine.Faults
    sealed: int

    def note(self, epoch: engine.EpochEvent) -> None:
        if epoch.kind is engine.EpochKind.SEALED:
            self.sealed -= 1
            if self.sealed == 0:
                self.faults.start()

    def check_arrived(self) -> None:
        if missing := self.faults.missing_pages():
            raise ValueError(f"{missing} pages are missing")


def drain(receiver: engine.Receiver, departure: Departure) -> list[engine.EpochEvent]:
    """The epochs of a whole stream; as strict as one who cannot ask again."""
    epochs: list[engine.EpochEvent] = []
    while True:
        event = receiver.wait(HANG_MS)
        if event is None:
            pytest.fail(f"the receiver hangs: no event within {HANG_MS} ms")
        if isinstance(event, engine.EndEvent):
            if epochs:
                check_stale(receiver, epochs[-1])
            check_complete(epochs)
            departure.check_arrived()
            return epochs
        if isinstance(event, engine.BlobEvent):
            check_blob(event)
        if isinstance(event, engine.EpochEvent):
            epochs.append(event)
            departure.note(event)


def check_stale(receiver: engine.Receiver, last: engine.EpochEvent) -> None:
    """The list of stale pages has as many as the last epoch left, in order."""
    listed = receiver.stale(last)
    assert sum(pages.bit_count() for _, pages in listed) == last.stale_pages
    assert all(pages for _, pages in listed)
    numbers = [block for block, _ in listed]
    assert numbers == sorted(set(numbers)) and all(n < BLOCKS for n in numbers)


def check_complete(epochs: list[engine.EpochEvent]) -> None:
    """The last sealed epoch, if there is one, leaves no stale page."""
    sealed = [epoch for epoch in epochs if epoch.kind is engine.EpochKind.SEALED]
    if sealed and sealed[-1].stale_pages:
        raise ValueError(f"{sealed[-1].stale_pages} pages are stale")


def check_blob(event: engine.BlobEvent) -> None:
    if event.frame is engine.FrameType.STATE:
        engine.StateList.decode(event.data).close()
        return
    try:
        is_object = isinstance(json.loads(event.data.decode()), dict)
    except RecursionError as error:
        raise ValueError("CONFIG is nested too deep") from error
    if not is_object:
        raise ValueError("CONFIG is not an object")


def ends_sealed(data: bytes) -> bool:
    """Is the last epoch of a stream that was accepted a sealed one?"""
    at, kind = 0, 0
    while at + 40 <= len(data):
        head, body = struct.unpack_from("<II", data, at + 20)
        if data[at + 16] == EPOCH:
            (kind,) = struct.unpack_from("<I", data, at + 48)
        at += 40 + head + body
    return kind == SEALED


def restore_agrees(data: bytes) -> bool:
    """A restore gives what the receiver gives; returns whether it does.

    It has to refuse what ends without a sealed epoch, and may accept what the
    receiver refuses for something that a later epoch makes good.
    """
    received, restored = by_receiver(data), by_restore(data)
    if isinstance(received, Decoded) and ends_sealed(data):
        assert not isinstance(restored, str), f"the receiver accepts; restore: {restored}"
    if isinstance(received, Decoded) and not isinstance(restored, str):
        assert ends_sealed(data), "a machine without a sealed epoch was restored"
        assert restored == received.memory, "both accept, with different memory"
    return not isinstance(restored, str)


def agree(data: bytes) -> bool:
    """Both accept with the same memory, or both refuse; returns which."""
    inspector = by_inspector(data)
    backings = [ANONYMOUS, FILES, COPIED_FILES] if sealed_before_late(data) else [ANONYMOUS]
    return all([agree_on(inspector, by_receiver(data, backing=way)) for way in backings])


def agree_on(inspector: Decoded | str, receiver: Decoded | str) -> bool:
    if isinstance(inspector, str) or isinstance(receiver, str):
        assert isinstance(inspector, str) and isinstance(receiver, str), (
            f"inspector: {inspector if isinstance(inspector, str) else 'accepts'}; "
            f"receiver: {receiver if isinstance(receiver, str) else 'accepts'}"
        )
        return False
    assert inspector.memory == receiver.memory, "both accept, with different memory"
    assert inspector == receiver, "both accept, with other pages stale or suspect"
    return True

# SPDX-License-Identifier: Apache-2.0
"""Changes to the stream on its way, frame by frame.

A proxy carries bytes; here they are cut into frames again, so that a fault
can meet one page of one encoding in one kind of epoch. What is changed can
be the bytes of a page alone, or what the frame says of it with the checksum
made to fit: a source that lies.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import stream_pages as sp
from stream_builder import EPOCH, FUZZY, PAGES, Frame
from stream_mutations import HEAD, entries_of, with_entries
from stream_pages import Entry

HEADER = struct.Struct("<4sIQBBHIIIQ")


class Editor:
    """Cuts what one way carries into frames and lets an edit change PAGES.

    :param edit: is given each PAGES frame and the kind of its epoch; returns
        it, or another one.
    """

    def __init__(self, edit: Callable[[Frame, int], Frame]) -> None:
        self._edit = edit
        self._pending = bytearray()
        self._kind = FUZZY

    def feed(self, data: bytes) -> bytes:
        """What can go on, once this has come."""
        self._pending += data
        done = b""
        while (size := self._frame_bytes()) and size <= len(self._pending):
            done += self._edited(bytes(self._pending[:size]))
            del self._pending[:size]
        return done

    def _frame_bytes(self) -> int:
        if len(self._pending) < HEADER.size:
            return 0
        fields = HEADER.unpack_from(self._pending)
        return HEADER.size + int(fields[6]) + int(fields[7])

    def _edited(self, raw: bytes) -> bytes:
        _, _, _, kind, flags, _, head_bytes, _, _, sequence = HEADER.unpack_from(raw)
        end = HEADER.size + head_bytes
        frame = Frame(kind, raw[HEADER.size : end], raw[end:], flags)
        if kind == EPOCH:
            self._kind = struct.unpack_from("<QI", frame.head)[1]
        if kind != PAGES:
            return raw
        changed = self._edit(frame, self._kind)
        return raw if changed is frame else changed.encode(sequence)


@dataclass
class Damage:
    """An edit that changes one entry of a frame, in so many frames.

    :ivar change: what becomes of the entry.
    :ivar encodings: of entries that may be met.
    :ivar kind: of epoch.
    :ivar times: how many frames, at most; one frame of an epoch at most if
        once_an_epoch.
    :ivar fired: how many there were.
    """

    change: Callable[[Entry], Entry]
    encodings: tuple[int, ...]
    kind: int
    times: int = 1
    once_an_epoch: bool = False
    fired: int = 0
    _epochs: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, frame: Frame, kind: int) -> Frame:
        with self._lock:
            if kind != self.kind or self.fired == self.times:
                return frame
            epoch = HEAD.unpack_from(frame.head)[0]
            if self.once_an_epoch and epoch in self._epochs:
                return frame
            entries = entries_of(frame)
            for at, entry in enumerate(entries):
                if entry.encoding in self.encodings and (entry.body or entry.encoding == 1):
                    entries[at] = self.change(entry)
                    self.fired += 1
                    self._epochs.add(epoch)
                    return with_entries(frame, entries)
            return frame


def flipped(at: int | None = None) -> Callable[[Entry], Entry]:
    """Flip a bit of the byte at an offset of the body, or in its middle."""

    def change(entry: Entry) -> Entry:
        where = len(entry.body) // 2 if at is None else at
        byte = bytes([entry.body[where] ^ 0x10])
        return replace(entry, body=entry.body[:where] + byte + entry.body[where + 1 :])

    return change


def forgotten(entry: Entry) -> Entry:
    """Say that the page did not change, when it did."""
    return sp.Entry(sp.UNCHANGED, entry.hash)


def cut_short(entry: Entry) -> Entry:
    """The last line of a delta is missing."""
    return replace(entry, body=entry.body[:-64], stored=None)

# SPDX-License-Identifier: Apache-2.0
"""What a decoded stream amounts to; all of it can be turned into JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .items import StateItem
from .ledger import Verdict
from .pages import PagesHead
from .regions import StreamInfo
from .wire import HEADER, MASK64, Encoding, EpochKind, Header

SCHEMA = "pymigrate.inspect/1"


def _counter() -> Counter[str]:
    return Counter({name: 0 for name in (*(e.name.lower() for e in Encoding), "zero")})


@dataclass
class EpochSummary:
    """One epoch as this channel carried it. The digest includes state."""

    number: int
    kind: EpochKind
    frames: int = 0
    pages: int = 0
    zero_pages: int = 0
    suspect_pages: int = 0
    suspect_pages_left: int = 0
    stale_pages: int = 0
    stale_pages_left: int = 0
    outstanding_frames: int = 0
    outstanding_pages: int = 0
    wire_bytes: int = 0
    digest: int = 0
    pages_by_encoding: Counter[str] = field(default_factory=_counter)
    bytes_by_encoding: Counter[str] = field(default_factory=_counter)

    @property
    def raw_pages(self) -> int:
        return self.pages_by_encoding["raw"]

    def add(self, pages: PagesHead, header: Header, digest: int, verdict: Verdict) -> None:
        """Count one PAGES frame."""
        self.frames += 1
        self.pages += pages.page_count
        self.zero_pages += pages.zero_count
        self.suspect_pages += verdict.suspect.bit_count()
        self.stale_pages += verdict.stale.bit_count()
        self.pages_by_encoding["zero"] += pages.zero_count
        for entry in pages.entries:
            name = entry.encoding.name.lower()
            self.pages_by_encoding[name] += 1
            self.bytes_by_encoding[name] += entry.stored_bytes
        self.wire_bytes += frame_bytes(header)
        self.digest = self.digest + digest & MASK64

    def add_outstanding(self, header: Header, bitmap_hash: int) -> None:
        """Count one OUTSTANDING frame."""
        self.outstanding_frames += 1
        self.wire_bytes += frame_bytes(header)
        self.digest = self.digest + bitmap_hash & MASK64

    def to_json(self) -> dict[str, Any]:
        return {
            "epoch": self.number,
            "kind": self.kind.name.lower(),
            "frames": self.frames,
            "pages": self.pages,
            "zero_pages": self.zero_pages,
            "raw_pages": self.raw_pages,
            "suspect_pages": self.suspect_pages,
            "suspect_pages_left": self.suspect_pages_left,
            "stale_pages": self.stale_pages,
            "stale_pages_left": self.stale_pages_left,
            "outstanding_pages": self.outstanding_pages,
            "pages_by_encoding": dict(self.pages_by_encoding),
            "bytes_by_encoding": dict(self.bytes_by_encoding),
            "wire_bytes": self.wire_bytes,
            "digest": f"{self.digest:016x}",
        }


@dataclass(frozen=True)
class ItemSummary:
    """One state item without its contents."""

    name: str
    version: int
    skippable: bool
    size_bytes: int


@dataclass(frozen=True)
class StateSummary:
    """The last STATE frame that was read."""

    offset: int
    items: tuple[ItemSummary, ...]

    @classmethod
    def of(cls, items: list[StateItem], header: Header) -> StateSummary:
        return cls(
            header.offset,
            tuple(ItemSummary(i.name, i.version, i.skippable, len(i.data)) for i in items),
        )

    def to_json(self) -> dict[str, Any]:
        return {"offset": self.offset, "items": [vars(item).copy() for item in self.items]}


@dataclass
class Summary:
    """Everything there is to say about a channel."""

    stream: StreamInfo | None = None
    config: dict[str, Any] | None = None
    state: StateSummary | None = None
    epochs: list[EpochSummary] = field(default_factory=list)
    frames_by_type: Counter[str] = field(default_factory=Counter)
    skipped_frames: int = 0
    bytes: int = 0
    complete: bool = False

    @property
    def frames(self) -> int:
        return self.frames_by_type.total()

    @property
    def is_alone(self) -> bool:
        """Its channel is the whole stream."""
        return self.stream is not None and self.stream.channel_count == 1

    @property
    def _ends_a_machine(self) -> bool:
        """The last epoch is sealed, or brings what a sealed one left outstanding."""
        return self.complete and bool(self.epochs) and self.epochs[-1].kind is not EpochKind.FUZZY

    @property
    def loadable(self) -> bool:
        """A machine can be made from it, and no page is missing."""
        return self._ends_a_machine and not self.rests_on_others

    @property
    def rests_on_others(self) -> bool:
        """It ends a machine, with pages that need those of other channels."""
        if not self._ends_a_machine:
            return False
        last = self.epochs[-1]
        is_part = last.kind is EpochKind.LATE and not self.is_alone
        return is_part or bool(last.stale_pages_left or last.outstanding_pages)

    def count_frame(self, header: Header) -> None:
        self.frames_by_type[header.type_name] += 1

    def close_epoch(self, epoch: EpochSummary) -> None:
        self.epochs.append(epoch)

    def to_json(self) -> dict[str, Any]:
        """All figures; digests as 16 hex digits."""
        return {
            "schema": SCHEMA,
            "complete": self.complete,
            "loadable": self.loadable,
            "bytes": self.bytes,
            "frames": self.frames,
            "frames_by_type": dict(self.frames_by_type),
            "skipped_frames": self.skipped_frames,
            "stream": _stream_json(self.stream),
            "config": self.config,
            "epochs": [epoch.to_json() for epoch in self.epochs],
            "state": self.state.to_json() if self.state else None,
        }


def _stream_json(info: StreamInfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    return {
        "version": "{}.{}".format(*info.version),
        "channel_index": info.channel_index,
        "channel_count": info.channel_count,
        "session_id": info.session_id,
        "regions": [vars(region).copy() for region in info.regions],
    }


def frame_bytes(header: Header) -> int:
    """All bytes of a frame."""
    return HEADER.size + header.head_bytes + header.body_bytes

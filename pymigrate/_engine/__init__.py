# SPDX-License-Identifier: Apache-2.0
"""The C core as typed Python objects.

Every class owns one C object, is a context manager, and closes idempotently.
Blocking calls release the interpreter lock. Objects keep what they use
referenced, but do not own it: close the sender before its view, the view
before its tracker, the tracker before its memory.
"""

from __future__ import annotations

from pymigrate._engine.channel import Channel
from pymigrate._engine.dirty import DirtyFlags, DirtyTracker, KvmSlot, TrackerKind, View
from pymigrate._engine.faults import FaultFigures, Faults, Latency, pack_bitmap, unpack_bitmap
from pymigrate._engine.memory import BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES, Memory, Region
from pymigrate._engine.native import Handle, check, ffi, lib, new_error
from pymigrate._engine.receiver import (
    BlobEvent,
    EndEvent,
    EpochEvent,
    Event,
    PopulatedEvent,
    Receiver,
)
from pymigrate._engine.restore import Restore, RestoreFigures, RestoreFormat
from pymigrate._engine.sender import (
    EpochKind,
    FrameType,
    LateStats,
    Progress,
    Push,
    RoundStats,
    Sender,
    SenderOptions,
)
from pymigrate._engine.state import StateItem, StateList
from pymigrate._engine.tuning import ENCODING_NAMES, ENCODINGS_ALL

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_PAGES",
    "ENCODINGS_ALL",
    "ENCODING_NAMES",
    "PAGE_BYTES",
    "BlobEvent",
    "Channel",
    "DirtyFlags",
    "DirtyTracker",
    "EndEvent",
    "EpochEvent",
    "EpochKind",
    "Event",
    "FaultFigures",
    "Faults",
    "FrameType",
    "Handle",
    "KvmSlot",
    "LateStats",
    "Latency",
    "Memory",
    "PopulatedEvent",
    "Progress",
    "Push",
    "Receiver",
    "Region",
    "Restore",
    "RestoreFigures",
    "RestoreFormat",
    "RoundStats",
    "Sender",
    "SenderOptions",
    "StateItem",
    "StateList",
    "TrackerKind",
    "View",
    "check",
    "ffi",
    "lib",
    "new_error",
    "pack_bitmap",
    "unpack_bitmap",
]

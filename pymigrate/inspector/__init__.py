# SPDX-License-Identifier: Apache-2.0
"""An independent decoder of the pymigrate stream, in pure Python.

It is written from docs/stream-format.md alone and shares no code with the C
core, so that each can be the oracle of the other.
"""

from .contents import Contents, Nothing, Spool, rests_on_contents
from .decoder import Decoder, Sink
from .extract import Extractor
from .items import StateItem, StateListError, decode_items
from .regions import Region, StreamInfo
from .summary import EpochSummary, Summary
from .wire import EpochKind, FrameType, Header, StreamError

__all__ = [
    "Contents",
    "Decoder",
    "EpochKind",
    "EpochSummary",
    "Extractor",
    "FrameType",
    "Header",
    "Nothing",
    "Region",
    "Sink",
    "Spool",
    "StateItem",
    "StateListError",
    "StreamError",
    "StreamInfo",
    "Summary",
    "decode_items",
    "rests_on_contents",
]

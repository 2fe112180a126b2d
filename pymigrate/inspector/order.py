# SPDX-License-Identifier: Apache-2.0
"""Which frame may stand where.

    STREAM { CONFIG | RANGES | STATE | EPOCH { ... } EPOCH_END } END

Within a fuzzy or sealed epoch stand PAGES, STATE and OUTSTANDING, within a
late one PAGES, STATE and SERVED. Frames of unknown type that are marked
skippable may stand anywhere between STREAM and END.
"""

from __future__ import annotations

from .regions import Fail
from .summary import EpochSummary, Summary
from .wire import EpochKind, FrameType

WITH_BODY = (FrameType.CONFIG, FrameType.PAGES, FrameType.STATE, FrameType.OUTSTANDING)
_FIRST_CHANNEL_ONLY = (
    FrameType.CONFIG,
    FrameType.STATE,
    FrameType.RANGES,
    FrameType.OUTSTANDING,
)
_OUTSIDE = (FrameType.EPOCH, FrameType.CONFIG, FrameType.END)
_WITHIN = (FrameType.PAGES, FrameType.EPOCH_END, FrameType.OUTSTANDING, FrameType.SERVED)
# These go from the receiver to the sender.
_REQUESTS = (FrameType.REQUEST, FrameType.ARRIVED, FrameType.PLACED)


def check_order(kind: FrameType, epoch: EpochSummary | None, so_far: Summary, fail: Fail) -> None:
    """May a frame of this kind stand here?

    :param epoch: the one that is open.
    :param so_far: what the channel had before.
    """
    assert so_far.stream is not None
    if kind is FrameType.STREAM:
        fail("STREAM occurs a second time")
    if kind in _REQUESTS:
        fail(f"{kind.name} does not belong in a stream of pages")
    if kind in _FIRST_CHANNEL_ONLY and so_far.stream.channel_index:
        fail(f"{kind.name} is allowed on channel 0 only")
    if kind is FrameType.RANGES and (epoch or so_far.epochs):
        fail("RANGES is allowed before the first epoch only")
    if kind is FrameType.RANGES and so_far.frames_by_type[kind.name]:
        fail("RANGES occurs a second time")
    if epoch is None:
        if kind in _WITHIN:
            fail(f"{kind.name} is not allowed outside an epoch")
    elif kind in _OUTSIDE:
        fail(f"{kind.name} is not allowed within an epoch")
    else:
        _check_within(kind, epoch.kind is EpochKind.LATE, fail)


def _check_within(kind: FrameType, late: bool, fail: Fail) -> None:
    if kind is FrameType.OUTSTANDING and late:
        fail("OUTSTANDING is not allowed within a late epoch")
    if kind is FrameType.SERVED and not late:
        fail("SERVED is allowed within a late epoch only")


def check_follows(number: int, kind: EpochKind, so_far: Summary, fail: Fail) -> None:
    """May an epoch of this kind begin here?"""
    before = so_far.epochs[-1].kind if so_far.epochs else None
    if before is EpochKind.LATE:
        fail(f"epoch {number} follows a late one")
    goes_on = before is None and not so_far.is_alone
    if kind is EpochKind.LATE and before is not EpochKind.SEALED and not goes_on:
        fail(f"late epoch {number} follows no sealed one")


def check_none_described(epoch: EpochSummary, so_far: Summary, fail: Fail) -> None:
    """Once pages are outstanding they come late, and no others come before."""
    named = any(e.outstanding_frames for e in (*so_far.epochs, epoch))
    if named and epoch.pages and epoch.kind is not EpochKind.LATE:
        fail(f"epoch {epoch.number} has pages although they were named as outstanding")

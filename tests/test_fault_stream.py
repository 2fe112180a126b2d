# SPDX-License-Identifier: Apache-2.0
"""Pages are damaged, or lied about, on their way: every encoding.

A page that rests on what the destination has is asked for again; anything
else that is wrong fails the migration, and the guest goes on where it was.
Never does a guest run with a page that is not its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import stream_pages as sp
from fault_case import settle, stage_for
from fault_proxy import Way
from fault_routes import Route
from fault_stream import Damage, Editor, cut_short, flipped, forgotten
from fault_tunings import DELTA, LZ4, RAW, ZSTD, Tuning
from stream_builder import FUZZY, SEALED
from stream_pages import Entry

from pymigrate import Report
from pymigrate._preparation import MAX_REPAIRS
from pymigrate.report import Outcome

pytestmark = pytest.mark.uffd

KINDS = pytest.mark.parametrize("kind", [FUZZY, SEALED], ids=["fuzzy", "sealed"])


def migrate_damaged(damage: Damage, options: Tuning) -> Report:
    """A migration with damage on both channels; its owner has all pages."""
    with stage_for(Route(options=options)) as (stage, vm, receiver, attempt):
        assert stage.proxy is not None
        for channel in range(2):
            stage.proxy.edit(Way("data", channel), Editor(damage))
        report = attempt.migrate()
        settle(vm, receiver, attempt, report)
    assert damage.fired, "there was nothing to damage"
    return report


def stale(report: Report, kind: str) -> list[int]:
    return [r.stale_pages for r in report.rounds if r.kind == kind]


@KINDS
@pytest.mark.parametrize("times", [1, 20])
def test_damaged_lines_are_sent_again(kind: int, times: int) -> None:
    damage = Damage(flipped(8), (sp.DELTA,), kind, times)
    report = migrate_damaged(damage, DELTA)
    assert report.outcome is Outcome.COMPLETED, report.error
    assert report.verify is not None and report.verify.mismatches == 0
    assert sum(stale(report, "fuzzy" if kind == FUZZY else "sealed")) >= damage.fired
    assert stale(report, "sealed")[-1] == 0


@KINDS
@pytest.mark.parametrize("encoding", [sp.RAW, sp.DELTA])
def test_page_said_to_be_unchanged_is_sent_again(kind: int, encoding: int) -> None:
    damage = Damage(forgotten, (encoding,), kind)
    report = migrate_damaged(damage, RAW if encoding == sp.RAW else DELTA)
    assert report.outcome is Outcome.COMPLETED, report.error
    assert report.verify is not None and report.verify.mismatches == 0
    assert sum(stale(report, "fuzzy" if kind == FUZZY else "sealed")) >= 1


def test_lies_in_every_sealed_epoch_fail_the_migration() -> None:
    """What is sent again is lied about again, as often as it may be asked."""
    damage = Damage(
        forgotten, (sp.RAW, sp.DELTA, sp.UNCHANGED), SEALED, MAX_REPAIRS + 1, once_an_epoch=True
    )
    report = migrate_damaged(damage, DELTA)
    assert damage.fired == MAX_REPAIRS + 1
    assert report.outcome is Outcome.FAILED
    assert f"after they were sent again {MAX_REPAIRS} times" in str(report.error)


def test_last_repair_is_enough() -> None:
    damage = Damage(
        forgotten, (sp.RAW, sp.DELTA, sp.UNCHANGED), SEALED, MAX_REPAIRS, once_an_epoch=True
    )
    report = migrate_damaged(damage, DELTA)
    assert report.outcome is Outcome.COMPLETED, report.error
    assert len(stale(report, "sealed")) == MAX_REPAIRS + 1


FATAL = {
    "delta mask": (flipped(0), sp.DELTA, DELTA),
    "delta cut short": (cut_short, sp.DELTA, DELTA),
    "lz4": (flipped(0), sp.LZ4, LZ4),
    "zstd": (flipped(), sp.ZSTD, ZSTD),
    "zstd magic": (flipped(0), sp.ZSTD, ZSTD),
}


@KINDS
@pytest.mark.parametrize("name", FATAL)
def test_damage_that_cannot_be_mended(name: str, kind: int) -> None:
    change, encoding, options = FATAL[name]
    report = migrate_damaged(Damage(change, (encoding,), kind), options)
    assert report.outcome is Outcome.FAILED
    assert report.error


def test_damaged_raw_page_of_the_sealed_epoch() -> None:
    report = migrate_damaged(Damage(flipped(), (sp.RAW,), SEALED), RAW)
    assert report.outcome is Outcome.FAILED
    assert "does not match its hash" in str(report.error)


def copies(original: int) -> Callable[[Entry], Entry]:
    """The page is a copy of another one that may or may not be there."""
    return lambda entry: sp.Entry(sp.COPY, entry.hash, sp.copy(bytes(4096), original * 4096).body)


@KINDS
@pytest.mark.parametrize("original", [0, 17, 2000, 1 << 40])
def test_copies_that_are_none(original: int, kind: int) -> None:
    """Refused where that page was not sent, asked for again where it was."""
    report = migrate_damaged(Damage(copies(original), (sp.RAW, sp.DELTA), kind), DELTA)
    if report.outcome is Outcome.COMPLETED:
        assert sum(stale(report, "fuzzy") + stale(report, "sealed")) >= 1
    else:
        assert "copy" in str(report.error)

# SPDX-License-Identifier: Apache-2.0
"""Migrations through the API: plain memory, both sides in this process."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from migration_checks import assert_at_destination, at, usable, word
from migration_kit import FAST, Guest, Receiving, migrate, receiving, running_guest

from pymigrate import DestinationState, ExitCode, Outcome, Source, SourceState, TrackerKind
from pymigrate import Guest as Owner
from pymigrate.errors import MigrateError

S, D = SourceState, DestinationState

pytestmark = pytest.mark.usefixtures("nothing_leaks")


@pytest.mark.parametrize("kind", [TrackerKind.MARKED, TrackerKind.UFFD_WP], ids=word)
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
@pytest.mark.parametrize("channels", [1, 3])
def test_running_guest_moves(kind: TrackerKind, scheme: str, channels: int, tmp_path: Path) -> None:
    usable(kind)
    address = "tcp:127.0.0.1:0" if scheme == "tcp" else f"unix:{tmp_path}/socket"
    with running_guest() as guest, receiving(address) as side:
        report = migrate(guest, side.address, tracker=kind, channels=channels, verify=True)
        assert report.error is None
        assert side.join().outcome is Outcome.COMPLETED
        assert_at_destination(guest, side)
    assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
    assert report.verify is not None
    assert (report.verify.pages, report.verify.mismatches) == (1024, 0)
    assert report.tracker is not None and report.tracker.kind == kind.value


def test_report_says_it_all() -> None:
    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address)
        side.join()
    assert report.exit_code is ExitCode.DONE
    plain = json.loads(report.to_json())
    assert plain["schema"] == "pymigrate.report/1"
    assert {"outcome", "host", "config", "rounds", "downtime", "verify", "oracle"} <= set(plain)
    assert {"kernel", "cpu", "kvm"} <= set(plain["host"])
    parts = dict(plain["downtime"])
    total = parts.pop("total_ms")
    assert total == pytest.approx(sum(parts.values()))
    assert all(part >= 0 for part in parts.values())
    assert [r["epoch"] for r in plain["rounds"]] == list(range(1, len(plain["rounds"]) + 1))
    assert [r["kind"] for r in plain["rounds"]][-2:] == ["fuzzy", "sealed"]
    assert plain["wire_bytes"] == sum(r["wire_bytes"] for r in plain["rounds"])
    assert plain["predicted_downtime_ms"] > 0
    assert plain["rehearsal"]["state_bytes"] > 0


def test_encodings_add_up() -> None:
    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address)
        side.join()
    names = {"raw", "unchanged", "delta", "copy", "lz4", "zstd", "zero", "hole"}
    for done in report.rounds:
        pages = done.pages_by_encoding
        assert set(pages) == set(done.bytes_by_encoding) == names
        assert sum(pages.values()) - pages["hole"] == done.sent_pages
        assert (pages["raw"], pages["zero"]) == (done.raw_pages, done.zero_pages)
        assert done.bytes_by_encoding["raw"] == 4096 * done.raw_pages
        assert sum(done.bytes_by_encoding.values()) < done.wire_bytes
    total = report.total
    assert total is not None
    assert total.wire_bytes == report.wire_bytes
    assert total.raw_bytes == 4096 * sum(r.sent_pages for r in report.rounds)
    assert total.pages_by_encoding["raw"] == sum(r.raw_pages for r in report.rounds)


def test_idle_guest_takes_two_rounds_and_a_sealed_one() -> None:
    with running_guest(writes=False) as guest, receiving() as side:
        report = migrate(guest, side.address)
        side.join()
    assert [(r.kind, r.sent_pages) for r in report.rounds] == [
        ("fuzzy", 256),
        ("fuzzy", 0),
        ("sealed", 0),
    ]


def test_states_are_told_in_order() -> None:
    seen: list[Any] = []
    options = replace(FAST, on_state=seen.append)
    with running_guest(writes=False) as guest, receiving(options=options) as side:
        migrate(guest, side.address, options, verify=True)
        side.join()
    assert [s for s in seen if isinstance(s, S)] == [
        *[S.CONNECTING, S.HANDSHAKE, S.CHANNELS, S.PRECOPY, S.REHEARSING, S.PRECOPY],
        *[S.QUIESCING, S.CAPTURING, S.FINAL_ROUND, S.PREPARING, S.PREPARED, S.VERIFYING],
        *[S.COMMITTING, S.COMPLETED],
    ]
    assert [s for s in seen if isinstance(s, D)] == [
        *[D.HANDSHAKE, D.CHANNELS, D.RECEIVING, D.REHEARSING, D.RECEIVING],
        *[D.LOADING, D.PREPARED, D.COMMITTED, D.RUNNING],
    ]


def test_back_and_forth_many_times() -> None:
    """Two destinations; the guest goes to and fro, and nothing is lost."""
    sides = [Receiving(), Receiving()]
    first = Guest().fill().start()
    current = first
    try:
        for turn in range(10):
            side = sides[turn % 2].serve()
            assert migrate(current, side.address).error is None
            assert side.join().outcome is Outcome.COMPLETED
            current.machine.close()
            side.destination.take_machine()
            current = side.guest
            current.machine.pause()
            current.check_oracle()
            current.writes = True
            current.machine.resume()
    finally:
        current.machine.close()
        for side in sides:
            side.close()
    assert current.runs == 2 and current.steps > first.steps


def test_progress_and_rounds_are_told_while_it_runs() -> None:
    told: list[Any] = []
    with running_guest() as guest, receiving() as side:
        options = replace(FAST, on_round=told.append)
        with Source(guest.machine, side.address, options) as source:
            assert source.progress().state is S.NEW
            report = source.migrate()
            after = source.progress()
        side.join()
    assert tuple(told) == report.rounds == after.rounds
    assert after.state is S.COMPLETED


# ---- misuse ----------------------------------------------------------------


def test_source_migrates_once() -> None:
    with running_guest() as guest, Source(guest.machine, "null:", FAST) as source:
        source.migrate()
        with pytest.raises(RuntimeError, match="migrates once"):
            source.migrate()
        with pytest.raises(RuntimeError, match="nothing to resolve"):
            source.resolve()


def test_second_source_waits_for_its_turn() -> None:
    with running_guest() as one, running_guest() as two, receiving() as side:
        reports: list[Any] = []
        blocked = threading.Event()

        def late() -> None:
            reports.append(migrate(two, side.address, on_state=at(S.CONNECTING, blocked.set)))

        thread = threading.Thread(target=late)

        def start_second() -> None:
            thread.start()
            blocked.wait(5)

        assert migrate(one, side.address, on_state=at(S.PRECOPY, start_second)).error is None
        side.join()
        side.destination.take_machine().close()
        side.serve().join()
        thread.join(5)
        assert reports[0].error is None


@pytest.mark.parametrize("text", ["", "tcp:", "tcp:host", "tcp:h:99999", "tcp:::1:5", "x:y"])
def test_addresses_that_are_none(text: str) -> None:
    with running_guest() as guest, pytest.raises(MigrateError):
        Source(guest.machine, text, FAST)

# SPDX-License-Identifier: Apache-2.0
"""Reports: exit codes and JSON."""

from __future__ import annotations

import json

import pytest

from pymigrate.report import Downtime, ExitCode, Guest, Outcome, Report, RoundReport, Total


def report(outcome: Outcome, guest: Guest) -> Report:
    return Report(outcome=outcome, role="source", guest=guest, session="0" * 32, peer="tcp:h:1")


@pytest.mark.parametrize(
    ("outcome", "guest", "code"),
    [
        (Outcome.COMPLETED, Guest.DESTINATION, ExitCode.DONE),
        (Outcome.COMPLETED, Guest.FILE, ExitCode.DONE),
        (Outcome.FAILED, Guest.SOURCE, ExitCode.FAILED),
        (Outcome.NOT_CONVERGED, Guest.SOURCE, ExitCode.NOT_CONVERGED),
        (Outcome.CANCELLED, Guest.SOURCE, ExitCode.NOT_CONVERGED),
        (Outcome.IN_DOUBT, Guest.UNKNOWN, ExitCode.OPERATOR),
        # The source owns the guest, and could not resume it.
        (Outcome.FAILED, Guest.UNKNOWN, ExitCode.OPERATOR),
        (Outcome.CANCELLED, Guest.UNKNOWN, ExitCode.OPERATOR),
    ],
)
def test_exit_codes(outcome: Outcome, guest: Guest, code: ExitCode) -> None:
    assert report(outcome, guest).exit_code is code


def test_exit_codes_are_the_documented_numbers() -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4]


def test_json_is_plain() -> None:
    made = Report(
        outcome=Outcome.COMPLETED,
        role="source",
        guest=Guest.DESTINATION,
        session="0" * 32,
        peer="tcp:h:1",
        downtime=Downtime(6, 1, 2, 1, 1, 1),
    )
    plain = json.loads(made.to_json())
    assert plain["schema"] == "pymigrate.report/1"
    assert (plain["outcome"], plain["guest"]) == ("completed", "destination")
    assert plain["downtime"]["total_ms"] == 6
    assert plain["guest_gap_ms"] is None


def round_of(sent_pages: int, wire_bytes: int, **pages: int) -> RoundReport:
    return RoundReport(
        epoch=1,
        kind="fuzzy",
        dirty_pages=sent_pages,
        sent_pages=sent_pages,
        zero_pages=0,
        raw_pages=0,
        hole_pages=0,
        wire_bytes=wire_bytes,
        duration_ms=1,
        harvest_ms=0,
        bandwidth_bytes_per_s=1,
        pending_pages=0,
        predicted_downtime_ms=0,
        decision="continue",
        reason="",
        pages_by_encoding=pages,
        bytes_by_encoding={name: 100 * count for name, count in pages.items()},
    )


def test_total_is_the_sum_of_the_rounds() -> None:
    total = Total.of([round_of(3, 5000, raw=1, delta=2), round_of(4, 300, delta=1, zero=3)])
    assert (total.wire_bytes, total.raw_bytes) == (5300, 7 * 4096)
    assert total.pages_by_encoding == {"raw": 1, "delta": 3, "zero": 3}
    assert total.bytes_by_encoding == {"raw": 100, "delta": 300, "zero": 300}
    assert Total.of([]) == Total(0, 0, {}, {})

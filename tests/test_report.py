# SPDX-License-Identifier: Apache-2.0
"""Reports: exit codes and JSON."""

from __future__ import annotations

import json

import pytest

from pymigrate.report import Downtime, ExitCode, Guest, Outcome, Report


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

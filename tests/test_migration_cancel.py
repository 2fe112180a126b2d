# SPDX-License-Identifier: Apache-2.0
"""Migrations that do not converge, or are cancelled."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from migration_checks import BEFORE_COMMIT_SOURCE, assert_at_source, word
from migration_kit import FAST, Guest, migrate, patient, receiving, running_guest

from pymigrate import Destination, ExitCode, Outcome, Source, SourceState
from pymigrate.errors import CancelledError, StepTimeoutError, TooLateError

S = SourceState

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def test_limit_that_cannot_be_met_leaves_the_guest_running() -> None:
    options = patient(downtime_limit_ms=0.001, stall_rounds=3)
    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address, options)
        side.join()
        assert report.outcome is Outcome.NOT_CONVERGED
        assert report.exit_code is ExitCode.NOT_CONVERGED
        assert "not converged" in str(report.error) and "the link carries" in str(report.error)
        assert_at_source(guest, side)


@pytest.mark.parametrize("state", BEFORE_COMMIT_SOURCE, ids=word)
def test_cancel_at_every_state(state: SourceState) -> None:
    with running_guest() as guest, receiving() as side:
        sources: list[Source] = []

        def cancel(now: Any) -> None:
            if now is state:
                sources[0].cancel()

        options = replace(FAST, verify=True, on_state=cancel)
        with Source(guest.machine, side.address, options) as source:
            sources.append(source)
            report = source.migrate()
        assert report.outcome is Outcome.CANCELLED
        assert report.exit_code is ExitCode.NOT_CONVERGED
        if side.reports or state is not S.CONNECTING:
            side.join()
        assert_at_source(guest, side)


def test_cancel_after_the_commit_is_refused_with_words() -> None:
    refusals: list[Exception] = []

    def cancel(now: Any) -> None:
        if now is S.COMMITTING:
            with pytest.raises(TooLateError, match="told to run") as caught:
                source.cancel()
            refusals.append(caught.value)

    with running_guest() as guest, receiving() as side:
        options = replace(FAST, on_state=cancel)
        with Source(guest.machine, side.address, options) as source:
            assert source.migrate().outcome is Outcome.COMPLETED
        side.join()
    assert len(refusals) == 1


def test_destination_cancelled_while_it_waits() -> None:
    with Destination("tcp:127.0.0.1:0", lambda _d: Guest().machine, FAST) as destination:
        timer = threading.Timer(0.05, destination.cancel)
        timer.start()
        with pytest.raises(CancelledError):
            destination.serve_one()
        timer.join()


def test_no_source_comes() -> None:
    with (
        Destination("tcp:127.0.0.1:0", lambda _d: Guest().machine, FAST) as destination,
        pytest.raises(StepTimeoutError, match="no source came within"),
    ):
        destination.serve_one(timeout_ms=20)

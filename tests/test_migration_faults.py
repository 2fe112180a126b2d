# SPDX-License-Identifier: Apache-2.0
"""Connections cut and hooks that raise, at every state before the commit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from migration_checks import (
    BEFORE_COMMIT_DESTINATION,
    BEFORE_COMMIT_SOURCE,
    assert_at_destination,
    assert_at_source,
    at,
    raising,
    word,
)
from migration_kit import FAST, Guest, Receiving, Swamp, Wires, migrate, receiving, running_guest

from pymigrate import DestinationState, Outcome, SourceState
from pymigrate import Guest as Owner

S = SourceState

pytestmark = pytest.mark.usefixtures("nothing_leaks")


@pytest.mark.parametrize("state", BEFORE_COMMIT_SOURCE, ids=word)
@pytest.mark.parametrize("fault", ["cut", "raise"])
def test_fault_at_every_source_state(state: SourceState, fault: str) -> None:
    with running_guest() as guest, receiving() as side:
        wires = Wires(side.address)
        hook = at(state, raising if fault == "raise" else wires.cut)
        report = migrate(guest, wires, verify=True, on_state=hook)
        wires.close()
        if state is S.CONNECTING and fault == "cut":
            # Nothing was connected yet, so nothing was cut.
            assert report.outcome is Outcome.COMPLETED
            return
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert_at_source(guest, side)
        second_attempt(guest, side, served=state is not S.CONNECTING)


@pytest.mark.parametrize("state", BEFORE_COMMIT_DESTINATION, ids=word)
@pytest.mark.parametrize("fault", ["cut", "raise"])
def test_fault_at_every_destination_state(state: DestinationState, fault: str) -> None:
    actions: list[Any] = []
    options = replace(FAST, on_state=at(state, lambda: actions[0]()))
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        actions.append(raising if fault == "raise" else wires.cut)
        report = migrate(guest, wires)
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert_at_source(guest, side)
        second_attempt(guest, side, served=True)


def second_attempt(guest: Guest, side: Receiving, served: bool) -> None:
    if served:
        assert side.join().outcome is not Outcome.COMPLETED
        side.serve()
    report = migrate(guest, side.address, verify=True)
    assert report.error is None
    assert side.join().outcome is Outcome.COMPLETED
    assert_at_destination(guest, side)


@pytest.mark.parametrize("state", [S.PRECOPY, S.REHEARSING, S.FINAL_ROUND, S.PREPARED], ids=word)
def test_swallowed_packets_end_in_words(state: SourceState) -> None:
    quick = replace(FAST, peer_timeout_ms=400, prepared_timeout_ms=300)
    with running_guest() as guest, receiving(options=quick) as side:
        swamp = Swamp(side.address)
        hook = at(state, swamp.frozen.set)
        report = migrate(guest, swamp.address, quick, verify=True, on_state=hook)
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert "nothing came from" in str(report.error)
        assert side.join().outcome is Outcome.FAILED
        assert_at_source(guest, side)
        swamp.close()


def test_prepared_destination_need_not_wait_for_a_source_that_rolled_back() -> None:
    options = replace(FAST, prepared_timeout_ms=60_000)
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        report = migrate(guest, wires, verify=True, on_state=at(S.PREPARED, wires.cut))
        wires.close()
        assert report.guest is Owner.SOURCE
        second_attempt(guest, side, served=True)


def test_nobody_listens() -> None:
    with running_guest() as guest, receiving() as side:
        address = side.address
        side.close()
        report = migrate(guest, address)
        assert report.outcome is Outcome.FAILED
        assert f"connecting (control connection) to the destination {address}" in str(report.error)
        assert_at_source(guest)


def test_strangers_disturb_nobody() -> None:
    with running_guest() as guest, receiving() as side:
        strange = Wires(side.address)
        socks = [strange() for _ in range(3)]
        socks[0].sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        socks[1].close()
        report = migrate(guest, side.address)
        assert report.error is None
        side.join()
        for sock in socks:
            sock.close()
        strange.close()

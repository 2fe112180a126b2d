# SPDX-License-Identifier: Apache-2.0
"""What rules a migration out before the commit, and leaves the guest running."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from migration_checks import assert_at_source
from migration_kit import FAST, Guest, Receiving, migrate, receiving, running_guest

from pymigrate import ExitCode, Outcome
from pymigrate import Guest as Owner

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def refused(guest: Guest, side: Receiving) -> str:
    report = migrate(guest, side.address)
    there = side.join()
    assert report.outcome is there.outcome is Outcome.FAILED
    assert report.differences == there.differences != ()
    assert report.exit_code is ExitCode.FAILED
    assert_at_source(guest, side)
    return str(report.error)


def test_memory_map_that_differs_is_named() -> None:
    def smaller(_description: Any) -> Any:
        side.guests.append(Guest(1 << 20, writes=False))
        return side.guest.machine

    with running_guest() as guest, receiving(factory=smaller) as side:
        words = refused(guest, side)
        assert "size_bytes is 4194304 at the source, 1048576 at the destination" in words
        assert side.guest.closed


def test_factory_that_raises_is_the_refusal() -> None:
    def broken(_description: Any) -> Any:
        raise OSError("no huge pages left")

    with running_guest() as guest, receiving(factory=broken) as side:
        assert "no huge pages left" in refused(guest, side)


def test_too_many_channels_are_refused() -> None:
    with running_guest() as guest, receiving(options=replace(FAST, max_channels=1)) as side:
        assert "takes 1 to 1" in refused(guest, side)


def test_state_that_does_not_load_fails_the_rehearsal() -> None:
    with running_guest() as guest, receiving(fail={"load_state": "unknown device"}) as side:
        report = migrate(guest, side.address)
        side.join()
        assert "rehearsal" in str(report.error) and "unknown device" in str(report.error)
        assert report.downtime is None
        assert_at_source(guest, side)


@pytest.mark.parametrize("name", ["pause", "save_state"])
def test_source_hook_that_raises_leaves_the_guest_at_the_source(name: str) -> None:
    with running_guest() as guest, receiving() as side:
        guest.fail[name] = "broken hook"
        report = migrate(guest, side.address)
        guest.fail.clear()
        side.join()
        assert report.outcome is Outcome.FAILED and "broken hook" in str(report.error)
        assert_at_source(guest, side)


def test_guest_that_cannot_be_resumed_needs_an_operator() -> None:
    with running_guest() as guest, receiving() as side:
        guest.fail.update(save_state="broken", resume="dead vCPU")
        report = migrate(guest, side.address)
        side.join()
        assert report.guest is Owner.UNKNOWN
        assert report.exit_code is ExitCode.OPERATOR
        assert "dead vCPU" in str(report.error)


def test_verify_finds_a_page_that_differs() -> None:
    def corrupt(description: Any) -> Any:
        guest = Guest(description["machine"]["size_bytes"], writes=False)
        side.guests.append(guest)
        load = guest._load

        def load_and_spoil(data: bytes) -> None:
            load(data)
            guest.map[3 << 20] = 1

        guest.machine._load_state = load_and_spoil
        return guest.machine

    with running_guest(writes=False) as guest, receiving(factory=corrupt) as side:
        report = migrate(guest, side.address, verify=True)
        side.join()
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert "1 of 1024 pages differ, the first in block 12, page 0" in str(report.error)
        assert report.verify is not None and report.verify.mismatches == 1
        assert not any(other.runs for other in side.guests)
        assert guest.running

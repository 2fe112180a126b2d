# SPDX-License-Identifier: Apache-2.0
"""A machine sent into a file, and run from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from migration_checks import assert_at_destination, assert_at_source
from migration_kit import migrate, receiving, running_guest

from pymigrate import Guest as Owner
from pymigrate import Outcome, PolicyOptions
from pymigrate.policy import PostCopy

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def test_machine_goes_through_a_file(tmp_path: Path) -> None:
    address = f"file:{tmp_path}/machine"
    with running_guest() as guest:
        report = migrate(guest, address)
        assert report.error is None
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.FILE)
        assert not guest.running
        with receiving(address) as side:
            assert side.join().error is None
            assert_at_destination(guest, side)


def test_file_is_never_overwritten_and_never_left_half(tmp_path: Path) -> None:
    path = tmp_path / "machine"
    path.write_bytes(b"precious")
    with running_guest() as guest:
        assert "File exists" in str(migrate(guest, f"file:{path}").error)
        assert path.read_bytes() == b"precious"
        guest.fail["save_state"] = "broken"
        other = tmp_path / "other"
        assert "broken" in str(migrate(guest, f"file:{other}").error)
        assert not other.exists()
        guest.fail.clear()
        assert_at_source(guest)


@pytest.mark.parametrize("keep", [0, 39, 200, 5000, -1])
def test_cut_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "machine"
    with running_guest() as guest:
        assert migrate(guest, f"file:{path}").error is None
        path.write_bytes(path.read_bytes()[:keep])
        with receiving(f"file:{path}") as side:
            report = side.join()
            assert report.outcome is Outcome.FAILED and report.error
            assert not any(other.runs for other in side.guests)


def test_null_sink_leaves_the_guest_running() -> None:
    with running_guest() as guest:
        report = migrate(guest, "null:")
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.SOURCE)
        assert report.wire_bytes > 256 * 4096
        assert_at_source(guest)


@pytest.mark.parametrize("mode", list(PostCopy), ids=lambda mode: str(mode.value))
def test_file_holds_all_pages(mode: PostCopy, tmp_path: Path) -> None:
    """Nobody there could ask for those that were left behind."""
    with running_guest() as guest:
        policy = PolicyOptions(post_copy=mode)
        report = migrate(guest, f"file:{tmp_path}/guest", policy=policy)
        if mode in (PostCopy.NEVER, PostCopy.AUTO):
            assert report.outcome is Outcome.COMPLETED, report.error
            return
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert "post-copy takes a destination" in str(report.error)
        assert not (tmp_path / "guest").exists()
        assert_at_source(guest)

# SPDX-License-Identifier: Apache-2.0
"""Guests that run at the destination before their pages have come."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import pytest
from fault_pair import MIB, check_migrated, migrate, run_on
from late_case import Receiver, late_options, roaming, trip

from pymigrate.policy import PolicyOptions, PostCopy
from pymigrate.report import Outcome
from pymigrate.states import DestinationState, SourceState
from pymigrate.vmm import Backend, Backing, Content, Guest, Vm

pytestmark = [pytest.mark.kvm, pytest.mark.uffd]

MODES = [PostCopy.NOW, PostCopy.AFTER_FIRST_ROUND]
# Both ways to place pages, and both ways to leave.
LAB = [(PostCopy.NOW, Backing.ANONYMOUS), (PostCopy.AFTER_FIRST_ROUND, Backing.MEMFD)]


def cases() -> list[object]:
    return [
        pytest.param(
            mode,
            backing,
            marks=[pytest.mark.lab_subset] if (mode, backing) in LAB else [],
            id=f"{backing.value}-{mode.value}",
        )
        for backing in Backing
        for mode in MODES
    ]


@pytest.mark.parametrize(("mode", "backing"), cases())
def test_guest_goes_ahead_of_its_pages(
    mode: PostCopy, backing: Backing, request: pytest.FixtureRequest
) -> None:
    if backing is Backing.HUGETLBFS:
        request.getfixturevalue("hugepages")
    config = roaming(backing=backing, content=Content.MIXED, dirty_rate_pages_per_s=None)
    settings = late_options(mode)
    with Vm(config, populate=True) as vm:
        vm.resume()
        run_on(vm)
        with Receiver("tcp:127.0.0.1:0", settings) as receiver:
            report = migrate(vm, receiver.address, settings)
            check_migrated(vm, receiver, report)
    late = report.late
    assert late is not None and late.recoveries == 0
    assert late.outstanding_pages > 0
    # Each page at most once, but for those that could not be rebuilt there.
    assert late.sent_pages <= late.outstanding_pages + late.refused_pages
    assert report.faults is not None
    sent_before = sum(r.sent_pages for r in report.rounds if r.kind != "late")
    assert (sent_before == 0) == (mode is PostCopy.NOW)


@pytest.mark.parametrize("guest", list(Guest), ids=lambda guest: str(guest.value))
def test_every_guest_program(guest: Guest) -> None:
    with trip(roaming(guest=guest, dirty_rate_pages_per_s=None)) as made:
        report = made.start().join()
        made.check(report)
    assert report.faults is not None and report.faults.last_page_ms > 0


def test_pages_come_once_and_are_counted() -> None:
    with trip(rate_bytes_per_s=40 * MIB) as made:
        report = made.start().join()
        made.check(report)
    late, faults = report.late, report.faults
    assert late is not None and faults is not None
    assert late.outstanding_pages == 32 * MIB // 4096
    assert late.sent_pages == late.outstanding_pages
    assert faults.count > 0
    assert 0 < faults.p50_us <= faults.p90_us <= faults.p99_us <= faults.max_us
    assert faults.queueing.count == faults.network.count == faults.placement.count > 0
    assert faults.stalled_ms >= faults.longest_stalled_ms > 0
    assert len(faults.samples) > 0
    assert late.answered_pages <= late.requests


def test_policy_leaves_when_rounds_do_not_help() -> None:
    """More is written than the link carries: the prediction says so."""
    policy = PolicyOptions(downtime_limit_ms=20, post_copy=PostCopy.AUTO)
    config = roaming(memory_bytes=64 * MIB, working_set_bytes=32 * MIB, dirty_rate_pages_per_s=None)
    with trip(config, late_options(policy=policy), rate_bytes_per_s=40 * MIB) as made:
        report = made.start().join()
        made.check(report)
    assert report.late is not None
    assert report.late.reason != "as asked for"
    assert 0 < report.late.outstanding_pages < 64 * MIB // 4096


def test_policy_stays_when_rounds_are_enough() -> None:
    policy = PolicyOptions(post_copy=PostCopy.AUTO)
    with trip(settings=late_options(policy=policy)) as made:
        report = made.start().join()
        assert report.outcome is Outcome.COMPLETED, report.error
        made.receiver.join()
    assert report.late is None
    assert made.watch.count(SourceState.POSTCOPY) == 0
    assert made.watch.count(DestinationState.POSTCOPY) == 0


def test_threads_without_kvm_wait_as_well() -> None:
    with trip(roaming(backend=Backend.THREADS)) as made:
        made.check(made.start().join())


def test_delta_coding_goes_on() -> None:
    """What changed since the first round comes as lines, on what is there."""
    config = roaming(guest=Guest.PARTIAL, dirty_rate_pages_per_s=None)
    with trip(config, late_options(PostCopy.AFTER_FIRST_ROUND)) as made:
        report = made.start().join()
        made.check(report)
    late = [r for r in report.rounds if r.kind == "late"]
    assert len(late) == 1
    assert late[0].pages_by_encoding["delta"] > 0


def test_pages_come_while_the_interpreter_is_busy() -> None:
    """A controller that hangs, with the interpreter's lock, delays no page."""
    settings = late_options(bandwidth_limit_bytes_per_s=16 * MIB)
    with trip(roaming(dirty_rate_pages_per_s=None), settings, direct=True) as made:
        made.start().follow()
        destination = made.receiver.destination
        before = destination.missing_pages
        # A call that keeps the lock, unlike any of ours.
        ctypes.PyDLL(None).usleep(500_000)
        assert destination.missing_pages <= before - 4 * MIB // 4096
        made.check(made.join())


def test_a_cancelled_guest_stays() -> None:
    """Before COMMIT all is as ever, also with pages on their way."""
    with trip(rate_bytes_per_s=40 * MIB) as made:
        made.watch.at(SourceState.PREPARED, made.attempt.source.cancel)
        report = made.start().join()
        assert report.outcome is Outcome.CANCELLED, report.error
        made.receiver.join()
        assert made.receiver.take() is None
        assert made.vm.status().running
        run_on(made.vm)


def test_destination_without_late_pages_is_refused_or_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pymigrate import _arrival
    from pymigrate.errors import NotSupportedError

    def lacking(*_args: object) -> None:
        raise NotSupportedError(-95, "this kernel lacks something")

    monkeypatch.setattr(_arrival, "Faults", lacking)
    with trip() as made:
        report = made.start().join()
        assert report.outcome is Outcome.FAILED
        assert report.differences == ("post-copy: this kernel lacks something",)
        assert made.vm.status().running
    auto = PolicyOptions(downtime_limit_ms=3000, post_copy=PostCopy.AUTO)
    with trip(settings=replace(late_options(), policy=auto)) as made:
        report = made.start().join()
        assert report.outcome is Outcome.COMPLETED, report.error
        made.receiver.join()

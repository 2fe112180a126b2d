# SPDX-License-Identifier: Apache-2.0
"""Connections that break after the switchover, and are made again."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter

import pytest
from fault_pair import LIMIT_S, MIB, check_intact, run_on
from fault_routes import LATE_DESTINATION, LATE_SOURCE
from late_case import late_options, roaming, trip

from pymigrate import _frames
from pymigrate._link import Link
from pymigrate.addresses import parse_address
from pymigrate.protocol import Hello, Missing, Status, Welcome, encode
from pymigrate.report import ExitCode, Outcome
from pymigrate.report import Guest as Owner
from pymigrate.states import DestinationState, SourceState, State

S, D = SourceState, DestinationState

pytestmark = [pytest.mark.kvm, pytest.mark.uffd]

# Slow enough for something to happen meanwhile.
SLOW = 24 * MIB
CUTS_PER_TRIP = 20


def parse(address: str) -> tuple[str, int]:
    parsed = parse_address(address)
    return parsed.host, parsed.port


@pytest.mark.parametrize("seed", range(10))
def test_random_cuts(seed: int) -> None:
    """Of every channel, at every moment, again and again: no page is lost."""
    dice = random.Random(seed)
    cuts: Counter[str] = Counter()
    with trip(rate_bytes_per_s=SLOW) as made:
        made.start().follow()
        while sum(cuts.values()) < CUTS_PER_TRIP:
            assert made.proxy.wait_carried(dice.randrange(1, 256 << 10), LIMIT_S)
            way = made.proxy.cut_any(dice)
            cuts[str(way)] += way is not None
        report = made.join()
        made.check(report)
    assert report.late is not None
    assert report.late.recoveries > 0
    assert report.late.sent_pages >= report.late.outstanding_pages


@pytest.mark.parametrize("state", [*LATE_SOURCE, *LATE_DESTINATION], ids=repr)
def test_cut_at_every_state_after_the_switchover(state: State) -> None:
    """Also at those that only another cut leads to; then both sides are asked again."""
    settings = late_options(recover_timeout_ms=400)
    lasting = state in (S.INCOMPLETE, D.LOST)
    with trip(rate_bytes_per_s=SLOW, settings=settings) as made:
        made.watch.at(state, made.proxy.cut)
        made.start().follow()
        (made.proxy.vanish if lasting else made.proxy.cut)()
        report = made.join()
        if report.outcome is Outcome.INCOMPLETE:
            made.receiver.join()
            made.proxy.heal()
            made.receiver.recover()
            report = made.attempt.recover(None)
        assert made.watch.count(state) > 0
        made.check(report)


def test_cut_that_lasts_stalls_the_guest_and_does_not_kill_it() -> None:
    """The way swallows everything for ten seconds."""
    with trip(rate_bytes_per_s=SLOW) as made:
        made.start().follow()
        made.proxy.swallow()
        made.watch.wait(D.RECOVERING)
        made.watch.wait(S.RECOVERING)
        # What is tested is that it lasts.
        time.sleep(10)
        assert made.machine.status().running
        made.proxy.heal()
        report = made.join()
        made.check(report)
    assert report.late is not None and report.late.recovering_ms > 5000
    assert report.faults is not None and report.faults.longest_stalled_ms > 5000


def test_guest_goes_on_with_what_it_has() -> None:
    """It stalls on what is missing, and only on that."""
    config = roaming(working_set_bytes=MIB, memory_bytes=48 * MIB)
    with trip(config, rate_bytes_per_s=SLOW) as made:
        made.start().follow()
        # Its working set has come, asked for; most of the rest has not.
        run_on(made.machine, 50)
        made.proxy.vanish()
        made.watch.wait(D.RECOVERING)
        run_on(made.machine, 50)
        assert made.receiver.destination.missing_pages > 0
        made.proxy.heal()
        made.check(made.join())


def test_source_goes_on_from_another_address() -> None:
    with trip(rate_bytes_per_s=SLOW, settings=late_options(recover_timeout_ms=500)) as made:
        made.start().follow()
        made.proxy.vanish()
        report = made.join()
        assert report.outcome is Outcome.INCOMPLETE
        assert report.guest is Owner.DESTINATION
        assert report.exit_code is ExitCode.OPERATOR
        assert report.missing_pages > 0
        assert "out of reach" in str(report.error)
        assert not made.vm.status().running
        made.receiver.join()
        there = made.receiver.report
        assert there is not None
        assert (there.outcome, there.guest) == (Outcome.INCOMPLETE, Owner.DESTINATION)
        assert f"{there.missing_pages} pages of the guest are missing" in str(there.error)
        assert made.receiver.destination.state is D.LOST
        with pytest.raises(RuntimeError, match="pages of the machine are missing"):
            made.receiver.destination.take_machine()
        made.receiver.recover()
        report = made.attempt.recover(made.receiver.address)
        made.check(report)
    assert report.late is not None and report.late.recoveries == 1


@pytest.mark.parametrize("waits", [False, True], ids=["runs", "waits for a page"])
def test_guest_is_paused_when_the_source_is_lost(waits: bool) -> None:
    """At once, unless its vCPU waits in the kernel; and goes on later."""
    config = roaming(memory_bytes=48 * MIB, working_set_bytes=(16 if waits else 1) * MIB)
    settings = late_options(recover_timeout_ms=500)
    with trip(config, settings, rate_bytes_per_s=SLOW, pause_when_lost=True) as made:
        made.start().follow()
        if not waits:
            run_on(made.machine, 50)
        made.proxy.vanish()
        assert made.join().outcome is Outcome.INCOMPLETE
        made.receiver.join()
        assert made.receiver.report is not None
        error = str(made.receiver.report.error)
        if not waits:
            assert "it is paused" in error
            assert not made.machine.status().running
        assert "paused" in error or "will pause" in error
        made.proxy.heal()
        made.receiver.recover()
        made.check(made.attempt.recover(None))


def test_running_guest_whose_answer_was_lost_gets_its_pages() -> None:
    """RUNNING never arrives: the source asks, learns, and follows."""
    with trip(rate_bytes_per_s=SLOW) as made:
        made.watch.at(D.POSTCOPY, made.proxy.cut)
        report = made.start().join()
        made.check(report)
    assert made.watch.count(S.RESOLVING) == 1
    assert report.late is not None and report.late.recoveries >= 1


def test_commit_that_was_lost_is_sent_again() -> None:
    with trip(rate_bytes_per_s=SLOW) as made:
        made.watch.at(S.COMMITTING, made.proxy.cut)
        report = made.start().join()
        if report.outcome is Outcome.COMPLETED:
            made.check(report)
        else:
            # The pages broke off before the decision: it was never run there.
            assert report.guest is Owner.SOURCE, report.error
            check_intact(made.vm)


@pytest.mark.parametrize("state", [S.FINAL_ROUND, S.PREPARING, S.PREPARED])
def test_cut_before_the_commit_leaves_the_guest(state: SourceState) -> None:
    with trip(rate_bytes_per_s=SLOW) as made:
        made.watch.at(state, made.proxy.cut)
        report = made.start().join()
        made.receiver.join()
        if report.outcome is Outcome.COMPLETED:
            # The destination could be asked and told again.
            made.check(report)
            return
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE), report.error
        assert made.receiver.take() is None
        check_intact(made.vm)


def test_last_word_that_was_lost_does_no_harm() -> None:
    """All pages have come, and the source does not know."""
    with trip() as made:
        made.watch.at(D.RUNNING, made.proxy.cut)
        report = made.start().join()
        made.check(report)


def test_stranger_gets_nothing() -> None:
    """A connection without the token is not part of the migration."""
    with trip(rate_bytes_per_s=SLOW) as made:
        made.start().follow()
        session = made.attempt.source.session
        for token in ("", "0" * 32):
            hello = Hello(1, 1, "recover", session, token)
            with socket.create_connection(parse(made.receiver.address)) as sock:
                sock.sendall(_frames.pack(hello.TYPE, encode(hello), 0, 0))
                link = Link(sock, "the destination", 1000, sent=1)
                link.receive("test", 1000, Welcome)
                assert link.receive("test", 1000, Missing, Status).state == "unknown"
                link.close()
        made.check(made.join())
        assert not any(seen is D.RECOVERING for seen in made.watch.seen)


def test_source_that_ends_gives_the_pages_up() -> None:
    """The destination says so, and keeps the guest."""
    settings = late_options(recover_timeout_ms=400)
    with trip(rate_bytes_per_s=SLOW, settings=settings) as made:
        made.start().follow()
        made.proxy.vanish()
        assert made.join().outcome is Outcome.INCOMPLETE
        made.attempt.source.close()
        made.receiver.join()
        again = made.receiver.destination.recover(timeout_ms=100)
        assert again.outcome is Outcome.INCOMPLETE
        assert again.missing_pages > 0
        assert made.machine.status().running

# SPDX-License-Identifier: Apache-2.0
"""Migrations through the API: plain memory, both sides in this process."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from migration_kit import (
    FAST,
    Guest,
    Receiving,
    Swamp,
    Wires,
    migrate,
    patient,
    receiving,
    running_guest,
)

from pymigrate import (
    Destination,
    DestinationState,
    ExitCode,
    Outcome,
    Source,
    SourceState,
    TrackerKind,
)
from pymigrate import Guest as Owner
from pymigrate.errors import (
    CancelledError,
    MigrateError,
    NotSupportedError,
    StepTimeoutError,
    TooLateError,
)

S, D = SourceState, DestinationState

BEFORE_COMMIT_SOURCE = [
    S.CONNECTING,
    S.HANDSHAKE,
    S.CHANNELS,
    S.PRECOPY,
    S.REHEARSING,
    S.QUIESCING,
    S.CAPTURING,
    S.FINAL_ROUND,
    S.PREPARING,
    S.PREPARED,
    S.VERIFYING,
]
BEFORE_COMMIT_DESTINATION = [
    D.HANDSHAKE,
    D.CHANNELS,
    D.RECEIVING,
    D.REHEARSING,
    D.LOADING,
    D.PREPARED,
]


def word(value: Any) -> str:
    return str(getattr(value, "value", value))


def usable(kind: TrackerKind) -> None:
    """Skip where this kernel has no such tracker."""
    guest = Guest(writes=False)
    try:
        guest.machine.tracker(kind).close()
    except NotSupportedError as error:
        pytest.skip(str(error))
    finally:
        guest.machine.close()


def assert_at_source(guest: Guest, side: Receiving | None = None) -> None:
    """The source runs the guest, nobody else does, and nothing is lost."""
    assert guest.running
    if side is not None:
        assert not any(other.runs for other in side.guests)
    guest.machine.pause()
    guest.check_oracle()
    guest.machine.resume()


def assert_at_destination(guest: Guest, side: Receiving) -> None:
    """The destination runs it, the source does not, and nothing is lost."""
    assert not guest.running
    other = side.guest
    assert (other.runs, other.before_runs) == (1, 1)
    other.machine.pause()
    assert other.steps == guest.steps
    other.check_oracle()
    assert other.content() == guest.content()


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Every test leaves as many threads and open files as it found."""
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) <= files


# ---- when all goes well ----------------------------------------------------


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


# ---- refusals --------------------------------------------------------------


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


# ---- not converged, cancelled ----------------------------------------------


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


# ---- faults ----------------------------------------------------------------


def at(state: Any, action: Any) -> Any:
    """A hook that acts once, at a state."""
    done: list[Any] = []

    def hook(now: Any) -> None:
        if now is state and not done:
            done.append(now)
            action()

    return hook


def raising() -> None:
    raise RuntimeError("injected")


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


# ---- in doubt --------------------------------------------------------------


def test_answer_lost_after_running_is_resolved() -> None:
    """RUNNING never arrives; the source asks and learns that it runs."""
    actions: list[Any] = []
    options = replace(FAST, on_state=at(D.RUNNING, lambda: actions[0]()))
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        actions.append(wires.cut)
        report = migrate(guest, wires)
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
        assert side.join().outcome is Outcome.COMPLETED
        assert_at_destination(guest, side)


def test_commit_lost_is_sent_again() -> None:
    """COMMIT never arrives; the destination waits, prepared, and is told again."""
    with running_guest() as guest, receiving() as side:
        wires = Wires(side.address)
        report = migrate(guest, wires, on_state=at(S.COMMITTING, wires.cut))
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
        assert side.join().outcome is Outcome.COMPLETED
        assert_at_destination(guest, side)


def in_doubt(guest: Guest, wires: Wires, state: Any, **more: Any) -> Source:
    """A source in doubt: the wires are down from a state on."""
    hook = at(state, lambda: wires.cut(down=True))
    options = replace(FAST, resolve_timeout_ms=100, on_state=hook, **more)
    source = Source(guest.machine, wires, options)
    report = source.migrate()
    assert (report.outcome, report.guest) == (Outcome.IN_DOUBT, Owner.UNKNOWN)
    assert report.exit_code is ExitCode.OPERATOR
    assert "in doubt" in str(report.error)
    assert not guest.running
    assert source.state is S.IN_DOUBT
    return source


@pytest.mark.parametrize("abort", [False, True])
def test_prepared_destination_does_what_the_operator_says(abort: bool) -> None:
    options = replace(FAST, prepared_timeout_ms=20_000)
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        with in_doubt(guest, wires, S.COMMITTING) as source:
            wires.is_down = False
            report = source.resolve(abort=abort)
            with pytest.raises(RuntimeError, match="nothing to resolve"):
                source.resolve()
        wires.close()
        there = side.join()
        if abort:
            assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
            assert there.outcome is Outcome.FAILED
            assert_at_source(guest, side)
        else:
            assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
            assert there.outcome is Outcome.COMPLETED
            assert_at_destination(guest, side)


def test_destination_that_gave_up_waiting_says_so() -> None:
    options = replace(FAST, prepared_timeout_ms=50)
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        with in_doubt(guest, wires, S.COMMITTING) as source:
            assert side.join().outcome is Outcome.FAILED
            wires.is_down = False
            report = source.resolve()
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert "did not run the guest" in str(report.error)
        assert_at_source(guest, side)


def test_abort_comes_too_late_for_a_running_guest() -> None:
    actions: list[Any] = []
    options = replace(FAST, on_state=at(D.RUNNING, lambda: actions[0]()))
    with running_guest() as guest, receiving(options=options) as side:
        wires = Wires(side.address)
        actions.append(lambda: wires.cut(down=True))
        with in_doubt(guest, wires, None) as source:
            wires.is_down = False
            report = source.resolve(abort=True)
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.COMPLETED, Owner.DESTINATION)
        side.join()
        assert_at_destination(guest, side)


def test_destination_without_memory_of_the_session_leaves_it_in_doubt() -> None:
    with running_guest() as guest, receiving() as side:
        wires = Wires(side.address)
        with in_doubt(guest, wires, S.COMMITTING) as source, receiving() as other:
            wires.is_down, wires.address = False, other.address
            report = source.resolve()
            assert report.outcome is Outcome.IN_DOUBT
            assert "knows nothing of this session" in str(report.error)
            assert not guest.running
        wires.close()


def test_hook_before_the_first_instruction_may_still_say_no() -> None:
    with running_guest() as guest, receiving(fail={"before_run": "no clock"}) as side:
        report = migrate(guest, side.address)
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert "no clock" in str(report.error)
        assert side.join().outcome is Outcome.FAILED
        assert_at_source(guest, side)
        assert side.guest.closed


def test_resume_that_breaks_half_way_needs_an_operator() -> None:
    with running_guest() as guest, receiving(fail={"resume": "vCPU 1 is stuck"}) as side:
        report = migrate(guest, side.address)
        assert (report.outcome, report.guest) == (Outcome.IN_DOUBT, Owner.UNKNOWN)
        assert "vCPU 1 is stuck" in str(report.error)
        assert side.join().outcome is Outcome.IN_DOUBT
        assert not guest.running
        side.guest.fail.clear()


# ---- files -----------------------------------------------------------------


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

# SPDX-License-Identifier: Apache-2.0
"""Pages that could not be built at the destination are sent again.

Here the destination's receiver is real, but spoils some pages after some
epochs and names them as stale. Everything that follows is the real thing, so
a page that is not sent again is found by whoever looks at the memory.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fault_pair import migrate_well, options, run_on, small
from migration_checks import assert_at_destination, assert_at_source
from migration_kit import FAST, SIZE_BYTES, Wires, migrate, receiving, running_guest

from pymigrate import DestinationState, Outcome, SourceState, _intake, _outgoing
from pymigrate import Guest as Owner
from pymigrate._engine import (
    BLOCK_BYTES,
    ENCODINGS_ALL,
    EpochEvent,
    EpochKind,
    Memory,
    Receiver,
    SenderOptions,
)
from pymigrate._intake import Epoch, Intake
from pymigrate._preparation import MAX_REPAIRS
from pymigrate._stale import pack_stale, unpack_stale
from pymigrate.errors import ProtocolError
from pymigrate.protocol import Accept, decode
from pymigrate.vmm import Backend, Content, Vm

S, D = SourceState, DestinationState
BLOCKS = SIZE_BYTES >> 18

Stale = list[tuple[int, int]]
# What the destination asks for after an epoch; counted among its kind from 0.
Script = Callable[[EpochKind, int], Stale]

pytestmark = pytest.mark.usefixtures("nothing_leaks")


@pytest.fixture
def doubting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], None]]:
    """Makes receivers ask for pages, as a script says."""

    def install(script: Script) -> None:
        class Doubting(Receiver):
            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more)
                self.seen: list[EpochKind] = []
                self.asked: Stale = []

            def wait(self, timeout_ms: int = -1) -> Any:
                event = super().wait(timeout_ms)
                if not isinstance(event, EpochEvent):
                    return event
                self.asked = script(event.kind, self.seen.count(event.kind))
                spoil(self._kept[0], self.asked)
                self.seen.append(event.kind)
                pages = sum(mask.bit_count() for _, mask in self.asked)
                return replace(event, stale_pages=pages)

            def stale(self, event: EpochEvent) -> Stale:
                return self.asked

        monkeypatch.setattr(_intake, "Receiver", Doubting)

    yield install


def spoil(memory: Memory, stale: Stale) -> None:
    """Overwrite these pages, as far as they exist.

    Pages of zeros would stay spoiled: a receiver knows what it never wrote.
    """
    starts = []
    for region in memory.regions:
        starts += [
            (region.hva + start, min(BLOCK_BYTES, region.size_bytes - start))
            for start in range(0, region.size_bytes, BLOCK_BYTES)
        ]
    for block, mask in stale:
        for page in range(64):
            address, size = starts[block] if block < len(starts) else (0, 0)
            if mask >> page & 1 and 4096 * page < size:
                ctypes.memset(address + 4096 * page, 0xA5, 4096)


def after(kind: EpochKind, times: int, stale: Stale) -> Script:
    """Ask after the first epochs of a kind."""
    return lambda asked, count: stale if asked is kind and count < times else []


def test_stale_pages_of_a_round_are_in_the_next(doubting: Any) -> None:
    doubting(after(EpochKind.FUZZY, 1, [(8, 0b101), (9, 1 << 63)]))
    with running_guest(writes=False) as guest, receiving() as side:
        report = migrate(guest, side.address, verify=True)
        assert report.error is None
        side.join()
        assert_at_destination(guest, side)
    assert [(r.kind, r.sent_pages, r.stale_pages) for r in report.rounds] == [
        ("fuzzy", 256, 3),
        ("fuzzy", 3, 0),
        ("sealed", 0, 0),
    ]


@pytest.mark.parametrize("times", range(1, MAX_REPAIRS + 1))
def test_stale_pages_of_the_sealed_epoch_take_further_ones(doubting: Any, times: int) -> None:
    doubting(after(EpochKind.SEALED, times, [(10, 0b11)]))
    seen: list[Any] = []
    options = replace(FAST, on_state=seen.append)
    with running_guest() as guest, receiving(options=options) as side:
        report = migrate(guest, side.address, options, verify=True)
        assert report.error is None
        assert side.join().outcome is Outcome.COMPLETED
        assert_at_destination(guest, side)
    sealed = [r for r in report.rounds if r.kind == "sealed"]
    assert [r.sent_pages for r in sealed[1:]] == [2] * times
    assert [r.stale_pages for r in sealed] == [2] * times + [0]
    assert report.wire_bytes == sum(r.wire_bytes for r in report.rounds)
    ours = [state for state in seen if isinstance(state, S)]
    first = ours.index(S.PREPARING)
    assert ours[first : first + 2 * times + 2] == [
        *[S.PREPARING, S.FINAL_ROUND] * times,
        *[S.PREPARING, S.PREPARED],
    ]
    # The state is loaded once more than rehearsed: when nothing is missing.
    theirs = [state for state in seen if isinstance(state, D)]
    assert theirs.count(D.LOADING) == 1 and theirs.index(D.LOADING) > theirs.index(D.RECEIVING)
    downtime = report.downtime
    assert downtime is not None
    assert downtime.final_round_ms >= sum(r.duration_ms for r in sealed)
    assert downtime.total_ms == pytest.approx(
        downtime.quiesce_ms
        + downtime.final_round_ms
        + downtime.state_ms
        + downtime.commit_ms
        + downtime.resume_ms
    )


def test_asking_without_end_fails_and_the_guest_goes_on(doubting: Any) -> None:
    doubting(after(EpochKind.SEALED, 100, [(10, 0b11)]))
    with running_guest() as guest, receiving() as side:
        report = migrate(guest, side.address)
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert f"lacks 2 pages after they were sent again {MAX_REPAIRS} times" in str(report.error)
        assert side.join().outcome is Outcome.FAILED
        assert_at_source(guest, side)


def test_wires_cut_while_pages_are_sent_again(doubting: Any) -> None:
    doubting(after(EpochKind.SEALED, 1, [(10, 0b11)]))
    seen: list[Any] = []

    def cut(state: Any) -> None:
        seen.append(state)
        if state is S.FINAL_ROUND and seen.count(S.FINAL_ROUND) == 2:
            wires.cut()

    with running_guest() as guest, receiving() as side:
        wires = Wires(side.address)
        report = migrate(guest, wires, on_state=cut)
        wires.close()
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert side.join().outcome is Outcome.FAILED
        assert_at_source(guest, side)


@pytest.mark.parametrize(
    "kind", [EpochKind.FUZZY, EpochKind.SEALED], ids=lambda kind: str(kind.name)
)
@pytest.mark.parametrize(
    ("stale", "words"),
    [
        ([(BLOCKS, 1)], f"names block {BLOCKS}"),
        ([(3, 1), (3, 2)], "names block 3 with mask 0x2 after block 3"),
        ([(BLOCKS - 1, 1 << 63)], "asks for what cannot be sent"),
    ],
)
def test_asking_for_what_is_not_there(
    doubting: Any, kind: EpochKind, stale: Stale, words: str
) -> None:
    doubting(after(kind, 1, stale))
    # The last block lacks its last page.
    with running_guest(size_bytes=SIZE_BYTES - 4096) as guest, receiving() as side:
        report = migrate(guest, side.address)
        assert (report.outcome, report.guest) == (Outcome.FAILED, Owner.SOURCE)
        assert words in str(report.error)
        side.join()
        assert_at_source(guest, side)


@pytest.mark.kvm
def test_kvm_guest_survives_repairs(doubting: Any) -> None:
    """Pages are spoiled after the first round and the last one."""

    def script(_kind: EpochKind, count: int) -> Stale:
        return [(30, 0b110), (40, (1 << 64) - 1)] if count == 0 else []

    doubting(script)
    with Vm(small(backend=Backend.KVM, content=Content.RANDOM), populate=True) as vm:
        vm.resume()
        run_on(vm, beats=1)
        report = migrate_well(vm, "tcp:127.0.0.1:0", options(verify=True))
    asked = [r.stale_pages for r in report.rounds if r.stale_pages]
    assert asked == [66, 66]
    assert [r.kind for r in report.rounds][-2:] == ["sealed", "sealed"]


# ---- the list --------------------------------------------------------------


def test_list_round_trip() -> None:
    stale = [(0, 1), (7, (1 << 64) - 1), (15, 1 << 63)]
    assert unpack_stale(pack_stale(stale), 66, 16) == stale
    assert unpack_stale(b"", 0, 16) == []


@pytest.mark.parametrize(
    ("body", "pages", "words"),
    [
        (bytes(15), 0, "has 15 bytes"),
        (bytes(17 * 16), 0, "17 blocks have stale pages, memory has 16"),
        (bytes(64 << 20), 0, "memory has 16"),
        (pack_stale([(5, 0)]), 0, "block 5 with mask 0x0"),
        (pack_stale([(5, 1), (4, 1)]), 2, "block 4 with mask 0x1 after block 5"),
        (pack_stale([(16, 1)]), 1, "block 16"),
        (struct.pack("<QQ", (1 << 64) - 1, 1), 1, "block 18446744073709551615"),
        (pack_stale([(5, 3)]), 1, "1 pages are said to be stale, 2 are named"),
        (b"", 1, "1 pages are said to be stale, 0 are named"),
    ],
)
def test_malformed_lists_are_refused(body: bytes, pages: int, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        unpack_stale(body, pages, 16)


# ---- encodings -------------------------------------------------------------


def test_accept_without_encodings_means_raw() -> None:
    head = b'{"token":"%s","host":{}}' % (b"0" * 32)
    accept = decode(Accept.TYPE, head)
    assert isinstance(accept, Accept) and accept.encodings == 1


@pytest.mark.parametrize(("target", "encodings"), [("peer", 0b110000), ("null:", ENCODINGS_ALL)])
def test_sender_uses_what_the_receiver_reads(
    target: str, encodings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SenderOptions] = []
    real = _outgoing.Sender

    def sender(*args: Any) -> Any:
        made.append(args[-1])
        return real(*args)

    monkeypatch.setattr(_outgoing, "Sender", sender)
    monkeypatch.setattr("pymigrate._session.ENCODINGS_ALL", encodings)
    with running_guest() as guest, receiving() as side:
        assert migrate(guest, side.address if target == "peer" else target).error is None
        if target == "peer":
            side.join()
    assert made[0].encodings == encodings | 1
    assert made[0].one_way == (target == "null:")


# ---- the destination's side ------------------------------------------------


def intake(told: list[Any]) -> Intake:
    """One that was made without a receiver, to be fed by hand."""
    made = Intake.__new__(Intake)
    made._on_epoch = made._on_sealed = told.append
    made._kind, made._complete, made._state = EpochKind.FUZZY, False, b"state"
    made._receiver = SimpleStale()  # type: ignore[assignment]
    return made


class SimpleStale:
    def stale(self, _event: EpochEvent) -> Stale:
        return [(0, 1)]


def epoch(number: int, kind: EpochKind, stale_pages: int = 0) -> EpochEvent:
    return EpochEvent(number, kind, 1, 0, 0, stale_pages, 100, 7)


def test_state_belongs_to_all_sealed_epochs() -> None:
    told: list[Epoch] = []
    made = intake(told)
    for event in (epoch(1, EpochKind.SEALED, 1), epoch(2, EpochKind.SEALED)):
        made._take_epoch(event)
    assert [(e.stale, e.state) for e in told] == [(((0, 1),), b"state"), ((), b"state")]
    with pytest.raises(ProtocolError, match="an epoch follows the sealed one"):
        made._take_epoch(epoch(3, EpochKind.SEALED))


def test_only_sealed_epochs_follow_a_sealed_one() -> None:
    made = intake([])
    made._take_epoch(epoch(1, EpochKind.SEALED, 1))
    with pytest.raises(ProtocolError, match="a fuzzy epoch follows"):
        made._take_epoch(epoch(2, EpochKind.FUZZY))


def test_file_that_ends_with_stale_pages_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    class Stale(Receiver):
        def wait(self, timeout_ms: int = -1) -> Any:
            event = super().wait(timeout_ms)
            return replace(event, stale_pages=3) if isinstance(event, EpochEvent) else event

    monkeypatch.setattr("pymigrate._load_file.Receiver", Stale)
    with running_guest() as guest:
        assert migrate(guest, f"file:{tmp_path}/machine").error is None
        with receiving(f"file:{tmp_path}/machine") as side:
            report = side.join()
    assert report.outcome is Outcome.FAILED
    assert "3 pages cannot be built from what it holds" in str(report.error)

# SPDX-License-Identifier: Apache-2.0
"""Options of the fast path, and changing them while a migration runs."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from migration_checks import assert_at_destination
from migration_kit import FAST, Guest, migrate, patient, receiving, running_guest

from pymigrate import Choice, Compression, Options, Outcome, Source, Tuning
from pymigrate.errors import NotRunningError
from pymigrate.inspector import rests_on_contents
from pymigrate.policy import Action, Decision
from pymigrate.report import Total

ZSTD = Tuning(compression=Compression.ZSTD, compression_level=-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"compression_level": 1}, "auto takes no level"),
        ({"compression": Compression.NONE, "compression_level": 3}, "none takes no level"),
        ({"compression": Compression.LZ4, "compression_level": 65}, "lz4 takes 0 to 64"),
        ({"compression": Compression.ZSTD, "compression_level": 20}, "zstd takes -50 to 19"),
        ({"compression": Compression.ZSTD, "compression_level": -51}, "zstd takes -50 to 19"),
        ({"active_channels": 0}, "expected 1 to 64"),
        ({"active_channels": 65}, "expected 1 to 64"),
        ({"bandwidth_limit_bytes_per_s": 0}, "more than 0"),
    ],
)
def test_values_out_of_range(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Tuning(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"channels": 0}, "expected 1 to 64"),
        ({"channels": 65}, "expected 1 to 64"),
        ({"compression_level": 1}, "auto takes no level"),
        ({"bandwidth_limit_bytes_per_s": -1}, "more than 0"),
        ({"delta_memory_bytes": -1}, "0 or more"),
        ({"delta_memory_bytes": 0, "delta": Choice.ON}, "delta is on and has no memory"),
        ({"cpus": (100_000,)}, "processor 100000 is not among those of this process"),
    ],
)
def test_options_out_of_range(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Options(**values)


@pytest.mark.parametrize(("usable", "channels"), [(1, 2), (3, 3), (200, 8)])
def test_automatic_channels_follow_the_processors(
    usable: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(usable)))
    assert Options().n_channels == channels
    assert Options().tuning.active_channels is None
    assert Options(cpus=(0,)).n_channels == 2
    assert Options(channels=5).n_channels == Options(channels=5).tuning.active_channels == 5


def test_no_memory_for_delta_switches_it_off() -> None:
    assert Options(delta_memory_bytes=0).tuning.delta is Choice.OFF
    assert Options(delta_memory_bytes=1 << 20).tuning.delta is Choice.AUTO


def test_options_become_plain_json() -> None:
    options = Options(compression=Compression.LZ4, cpus=(min(os.sched_getaffinity(0)),))
    plain = options.describe()
    assert (plain["compression"], plain["delta"], plain["tracker"]) == ("lz4", "auto", "auto")
    assert plain["cpus"] == list(options.cpus)
    assert ZSTD.to_json()["compression"] == "zstd"


# ---- a migration under way -------------------------------------------------


def test_tuning_takes_effect_in_the_running_migration() -> None:
    with running_guest() as guest, receiving() as side:
        sources: list[Source] = []

        def on_round(_done: Any) -> None:
            sources[0].tune(ZSTD)

        with Source(guest.machine, side.address, replace(FAST, on_round=on_round)) as source:
            sources.append(source)
            report = source.migrate()
            assert source.tuning == ZSTD
        assert report.error is None
        side.join()
        assert_at_destination(guest, side)
    assert report.config["channels"] == 2
    assert report.config["tuning"] == ZSTD.to_json()


def compressible(guest: Guest) -> Guest:
    """Some of its pages are text."""
    for page in range(900, 910):
        guest.map[4096 * page : 4096 * (page + 1)] = b"all work " * 455 + b"."
    return guest


def used(rounds: Any) -> set[str]:
    """Encodings that pages travelled by, besides zeros and as they are."""
    pages = Total.of(rounds).pages_by_encoding
    return {name for name in pages if pages[name]} - {"raw", "zero", "hole", "copy"}


@pytest.mark.parametrize(
    ("options", "must", "may"),
    [
        ({"compression": Compression.NONE, "delta": Choice.OFF}, set(), set()),
        ({"compression": Compression.ZSTD, "delta": Choice.OFF}, {"zstd"}, {"zstd"}),
        ({"compression": Compression.LZ4, "delta": Choice.OFF}, {"lz4"}, {"lz4"}),
        ({"compression": Compression.ZSTD, "delta_memory_bytes": 0}, {"zstd"}, {"zstd"}),
        (
            {"compression": Compression.NONE, "delta": Choice.ON},
            {"delta"},
            {"delta", "unchanged"},
        ),
    ],
    ids=["nothing", "zstd", "lz4", "no-delta-memory", "delta"],
)
def test_pages_travel_as_asked_for(options: Any, must: set[str], may: set[str]) -> None:
    def scribble(done: Any) -> None:
        """Change a line of pages that were sent as they are."""
        for page in range(600, 610) if done.epoch == 1 else ():
            guest.map[4096 * page + 100] ^= 1
            guest._mark(4096 * page)

    with running_guest() as guest, receiving() as side:
        compressible(guest)
        report = migrate(guest, side.address, verify=True, on_round=scribble, **options)
        assert report.error is None
        side.join()
        assert_at_destination(guest, side)
    assert must <= used(report.rounds) <= may


def test_rounds_after_a_change_obey_it() -> None:
    def on_round(_done: Any) -> None:
        source.tune(Tuning(compression=Compression.NONE, delta=Choice.OFF))

    options = replace(FAST, compression=Compression.ZSTD, delta=Choice.ON, on_round=on_round)
    with running_guest() as guest, receiving() as side:
        with Source(compressible(guest).machine, side.address, options) as source:
            report = source.migrate()
        side.join()
        assert_at_destination(guest, side)
    first, *rest = report.rounds
    assert "zstd" in used([first])
    assert rest and used(rest) == set()


def after_rounds(count: int) -> Any:
    """A policy that switches over after so many rounds."""

    def decide(history: Any, costs: Any, _options: Any) -> Decision:
        enough = costs is not None and len(history) >= count
        action = Action.SWITCH if enough else Action.CONTINUE
        return Decision(action, 0.0, 0.0, f"{len(history)} of {count} rounds")

    return decide


def test_tuning_from_another_thread_without_a_pause() -> None:
    """Whatever is chosen when, the guest arrives whole."""
    variants = itertools.cycle(
        Tuning(compression=compression, delta=delta, zero_copy=zero_copy, active_channels=active)
        for compression in Compression
        for delta in Choice
        for zero_copy in Choice
        for active in (None, 1, 3)
    )
    done = threading.Event()
    tuned: list[Tuning] = []

    def turn() -> None:
        while not done.is_set():
            with contextlib.suppress(NotRunningError):
                source.tune(tuning := next(variants))
                tuned.append(tuning)

    options = patient(replace(FAST, channels=3), policy=after_rounds(20))
    with running_guest() as guest, receiving() as side:
        with Source(
            compressible(guest).machine, side.address, replace(options, verify=True)
        ) as source:
            thread = threading.Thread(target=turn)
            thread.start()
            try:
                report = source.migrate()
            finally:
                done.set()
                thread.join()
        assert report.error is None
        assert report.verify is not None and report.verify.mismatches == 0
        side.join()
        assert_at_destination(guest, side)
    assert len(report.rounds) > 20
    assert tuned


def test_file_rests_on_nothing(tmp_path: Path) -> None:
    path = tmp_path / "machine"
    with running_guest() as guest:
        compressible(guest)
        report = migrate(guest, f"file:{path}", delta=Choice.ON, compression=Compression.ZSTD)
    assert used(report.rounds) == {"zstd"}
    assert not report.total or not report.total.pages_by_encoding["copy"]
    with path.open("rb") as stream:
        assert not rests_on_contents(stream)


def test_tuning_before_the_sender_is_made_is_kept() -> None:
    with running_guest() as guest, receiving() as side:
        sources: list[Source] = []
        options = replace(FAST, on_state=lambda _state: sources[0].tune(ZSTD))
        with Source(guest.machine, side.address, options) as source:
            sources.append(source)
            assert source.migrate().config["tuning"] == ZSTD.to_json()
        side.join()


def test_nothing_runs_that_could_be_tuned() -> None:
    with running_guest() as guest, Source(guest.machine, "null:", FAST) as source:
        with pytest.raises(NotRunningError, match="no migration runs"):
            source.tune(ZSTD)
        assert source.tuning.compression is Compression.AUTO
        assert source.migrate().outcome is Outcome.COMPLETED
        with pytest.raises(NotRunningError, match="no migration runs"):
            source.tune(ZSTD)


def test_tuning_that_does_not_fit_changes_nothing() -> None:
    refusals: list[str] = []

    def on_round(_done: Any) -> None:
        for tuning in (Tuning(active_channels=3), Tuning(delta=Choice.ON)):
            with pytest.raises(ValueError) as caught:
                source.tune(tuning)
            refusals.append(str(caught.value))

    options = replace(FAST, delta_memory_bytes=0, on_round=on_round)
    with running_guest() as guest, receiving() as side:
        with Source(guest.machine, side.address, options) as source:
            report = source.migrate()
        side.join()
    assert report.error is None
    assert refusals[:2] == [
        "active_channels is 3, the migration has 2 connections",
        "delta cannot be switched on: delta_memory_bytes is 0",
    ]
    assert report.config["tuning"] == options.tuning.to_json()


def test_file_has_one_channel_whatever_was_asked_for(tmp_path: Path) -> None:
    with running_guest() as guest:
        report = migrate(guest, f"file:{tmp_path}/machine", channels=3)
    assert report.error is None
    assert report.config["tuning"]["active_channels"] == 1


def test_threads_can_be_bound_to_processors() -> None:
    options = replace(FAST, cpus=(min(os.sched_getaffinity(0)),))
    with running_guest() as guest, receiving(options=options) as side:
        assert migrate(guest, side.address, options).error is None
        assert side.join().outcome is Outcome.COMPLETED
        assert_at_destination(guest, side)

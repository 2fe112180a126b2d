# SPDX-License-Identifier: Apache-2.0
"""Post-copy on the command line: options, what is shown while it runs, reports."""

from __future__ import annotations

import argparse
import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from late_reports import COMPLETED, FAULTS, INCOMPLETE, LATE, ROUNDS
from rich.console import Console

from pymigrate import ExitCode
from pymigrate.cli import main
from pymigrate.cli.live import LiveView
from pymigrate.cli.main import build_parser
from pymigrate.cli.migration_options import migration_options
from pymigrate.cli.policy_options import policy_words
from pymigrate.cli.render import show_report
from pymigrate.cli.send_run import plain_round
from pymigrate.cli.summary import summarize
from pymigrate.cli.units import micro_words, page_words
from pymigrate.cli.verbose import VerboseView, round_choices
from pymigrate.cli.views import EventView, LateLive, PlainView, round_words
from pymigrate.cli.watch import Watch
from pymigrate.options import Options
from pymigrate.policy import PolicyOptions, PostCopy
from pymigrate.report import FaultReport, Guest, Outcome

# ---- options ----------------------------------------------------------------


def parsed(*arguments: str, command: str = "send") -> argparse.Namespace:
    where = {"send": ["unix:x"], "recv": ["unix:x"]}.get(command, [])
    return build_parser().parse_args([command, *where, *arguments])


def test_nothing_given_is_what_options_say() -> None:
    options = migration_options(parsed())
    assert options.policy.post_copy is PolicyOptions().post_copy
    assert options.recover_timeout_ms == Options().recover_timeout_ms


def test_help_names_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["send", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"or never (default: {PolicyOptions().post_copy.value})" in words
    minutes = Options().recover_timeout_ms // 60_000
    assert f"how long to look for it (default: {minutes}m)" in words


@pytest.mark.parametrize("choice", list(PostCopy))
def test_every_choice_can_be_made_and_handed_on(choice: PostCopy) -> None:
    args = parsed("--post-copy", choice.value, "--channels", "2")
    assert migration_options(args).policy.post_copy is choice
    assert migration_options(parsed(*policy_words(args))).policy.post_copy is choice


@pytest.mark.parametrize("command", ["send", "recv", "demo"])
def test_recover_timeout_is_in_seconds(command: str) -> None:
    assert parsed("--recover-timeout", "7", command=command).recover_timeout == 7000


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["send", "unix:x", "--post-copy", "later"], "invalid choice"),
        (["demo", "--post-copy", "auto", "--verify"], "they are not there yet"),
        (["send", "unix:x", "--post-copy", "now", "--channels", "64"], "at most 63"),
        (["send", "file:/nonexistent/x", "--post-copy", "now"], "needs a destination that runs"),
        (["send", "null:", "--control", "/tmp/x"], "needs a destination that runs"),
        (["send", "unix:x", "--control", "/nonexistent/x"], "--control /nonexistent/x: No such"),
        (["send", "unix:x", "--control", "x" * 200], "too long"),
        (["send", "unix:x", "--recover-timeout", "0"], "is not a duration"),
        (["send", "unix:x", "--html", "-"], "needs the name of a file"),
        (["demo", "--html", "/nonexistent/x.html"], "does not exist"),
        (["recover", "/nonexistent/x"], "does not exist: give the path"),
        (["recover", "x", "--to", "file:x"], "no guest runs at file:x"),
        (["recover", "x", "--to", "coop"], "is not an address"),
    ],
)
def test_usage_errors(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    assert code == 2
    assert reason in captured.err
    assert "Traceback" not in captured.err and not captured.out


def test_a_file_is_sent_without_post_copy(tmp_path: Path) -> None:
    from pymigrate.cli.target import read_target

    args = build_parser().parse_args(["send", f"file:{tmp_path}/x", "--post-copy", "auto"])
    read_target(args)
    assert migration_options(args).policy.post_copy is PostCopy.NEVER


def test_simulate_leaves_pages_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the policy would give up, and is allowed to leave."""
    trace = str(Path(__file__).parent / "traces" / "random-above-1gbit.json")
    words = ["simulate", trace, "--downtime-limit-ms", "1"]
    codes = [main([*words, *more]) for more in ([], ["--post-copy", "auto"])]
    out = capsys.readouterr().out
    assert codes == [ExitCode.NOT_CONVERGED, ExitCode.DONE]
    assert "given up" in out and "left its pages behind" in out


def test_rounds_of_post_copy_are_lines() -> None:
    lines = [round_words(plain_round(done)) for done in ROUNDS]
    assert lines[0].startswith("round 1: ") and lines[0].endswith("names 64,900 pages that follow")
    assert lines[2].startswith("final round: ") and "names 40 pages" in lines[2]
    assert lines[3] == "late pages: 250.0 MiB in 2.16 s"
    assert max(map(len, lines)) <= 80


def test_states_of_post_copy_are_told() -> None:
    out = io.StringIO()
    view = PlainView(out)
    for state in ("post-copy", "recovering", "incomplete", "lost"):
        view.state(state)
    view.late(LateLive(5, 10))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 80
    assert "pages follow it" in lines[0] and "out of reach" in lines[1]


def test_late_figures_are_events() -> None:
    read_fd, write_fd = os.pipe()
    view = EventView(write_fd)
    view.late(LateLive(left_pages=5, of_pages=10))
    view.close()
    with open(read_fd) as lines:
        (event,) = map(json.loads, lines)
    assert event == {"event": "late", "late": {"left_pages": 5, "of_pages": 10}}
    assert LateLive(**event["late"]) == LateLive(5, 10)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, height=30)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_the_pages_that_are_left() -> None:
    console = terminal()
    view = LiveView(console)
    view.state("post-copy")
    view.late(LateLive(left_pages=750, of_pages=1000))
    view.state("recovering")
    view.state("incomplete")
    out = written(console)
    assert "750 pages left" in out and "25 %" in out and "recovering" in out
    assert "pages are missing at the destination" in out
    # It is over: a late figure draws nothing any more.
    view.late(LateLive(left_pages=1, of_pages=1000))
    assert "1 pages left" not in written(console).replace(out, "")


def test_a_recovery_is_drawn_again() -> None:
    console = terminal()
    view = LiveView(console)
    view.state("incomplete")
    view.state("recovering")
    view.state("post-copy")
    view.late(LateLive(left_pages=0, of_pages=1000))
    view.state("completed")
    view.close()
    assert "0 pages left" in written(console) and "100 %" not in written(console)


def test_verbose_passes_late_figures_on() -> None:
    console = terminal()
    inner = LiveView(console)
    VerboseView(inner, console).late(LateLive(left_pages=123, of_pages=1000))
    inner.close()
    assert "123 pages left" in written(console)


def test_verbose_says_what_follows() -> None:
    named, late = plain_round(ROUNDS[0]), plain_round(ROUNDS[3])
    assert round_choices(named) == [
        f"post-copy: {LATE.reason}",
        "64,900 pages are to follow the guest",
    ]
    assert round_choices(late) == []


def test_who_watches_may_leave_and_the_work_ends_in_order() -> None:
    ended = threading.Event()

    def work() -> str:
        assert ended.wait(10)
        return "done"

    def look() -> None:
        raise BrokenPipeError("the reader is gone")

    with pytest.raises(BrokenPipeError):
        Watch().run(work, "test", look, ended.set)
    assert ended.is_set()


def test_what_fails_on_the_thread_is_raised_on_the_main_one() -> None:
    told: list[str] = []
    watch = Watch()

    def work() -> None:
        watch.tell(lambda: told.append("news"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        watch.run(work, "test", lambda: None, lambda: None)
    assert told == ["news"]


# ---- reports ----------------------------------------------------------------


def shown(report: dict[str, Any], capsys: pytest.CaptureFixture[str], hint: str = "") -> str:
    show_report(report, hint=hint)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return " ".join(out.split())


def test_report_of_post_copy(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(COMPLETED.to_dict(), capsys)
    assert "named 64,900" in out and "late 65,012" in out
    assert "why as asked for, before any round" in out
    assert "left behind 65,000 pages (253.9 MiB) when the guest moved" in out
    assert "54,812 pushed, 1,200 by fault (1,234 requests), 9,000 as neighbours of these" in out
    assert "12 refused, and sent again whole" in out
    assert "last page 2.16 s after the switchover" in out
    assert "faults 1,234 212 us 480 us 2.31 ms 18.7 ms" in out
    assert "queueing 1,200 8.4 us" in out and "network 1,200 180 us" in out
    assert "placement 1,200 6.1 us" in out and "local faults 31 3.2 us" in out
    assert "3 vCPUs and threads for 358 ms together, 201 ms the one that waited most" in out
    assert "34 of 1,234 pages had been pushed" in out
    assert "340 of 400 neighbours that were watched were used (85%)" in out
    assert "recovered" not in out
    assert "migrated: the guest runs at the destination, 250.0 MiB in 2.24 s" in out


def test_recoveries_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    late = replace(LATE, recoveries=2, recovering_ms=3400.0)
    out = shown(replace(COMPLETED, late=late).to_dict(), capsys)
    assert "recovered 2 times, without a connection for 3.40 s together" in out


def test_report_of_a_guest_that_misses_pages(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(INCOMPLETE.to_dict(), capsys, hint="Do [this] now.")
    words = "incomplete: the guest runs at the destination, and 12,345 pages (48.2 MiB) of it are"
    assert f"{words} missing there" in out
    assert "missing 12,345 pages (48.2 MiB) when last heard of" in out
    assert out.endswith("Do [this] now.") and "last page" not in out


def test_a_guest_that_went_back_misses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    failed = replace(INCOMPLETE, outcome=Outcome.FAILED, guest=Guest.SOURCE, downtime=None)
    assert "failed: the guest runs at the source tcp" in shown(failed.to_dict(), capsys)


def test_report_of_the_destination(capsys: pytest.CaptureFixture[str]) -> None:
    there = replace(COMPLETED, role="destination", late=None, rounds=(), downtime=None, total=None)
    out = shown(there.to_dict(), capsys)
    assert "received: " in out and "last page 2.15 s after the guest could run" in out


def test_a_guest_that_never_waited(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(replace(COMPLETED, faults=FaultReport()).to_dict(), capsys)
    assert "faults none: every page was there before it was used" in out
    assert "p50" not in out


def test_json_has_faults_with_their_parts() -> None:
    document = json.loads(COMPLETED.to_json())
    faults = document["faults"]
    for name in ("count", "p50_us", "p90_us", "p99_us", "max_us"):
        assert faults[name] == getattr(FAULTS, name)
        for part in ("queueing", "network", "placement", "local"):
            assert faults[part][name] == getattr(getattr(FAULTS, part), name)
    assert len(faults["samples"]) == len(FAULTS.samples)
    assert document["late"]["outstanding_pages"] == 65_000
    assert json.loads(INCOMPLETE.to_json())["missing_pages"] == 12_345


def test_runs_are_summarized() -> None:
    summary = summarize([COMPLETED.to_dict(), INCOMPLETE.to_dict()])
    assert summary["outcome"] == "incomplete"
    assert summary["summary"]["last_page_ms"] == {"min": 2160.0, "median": 2160.0, "max": 2160.0}
    assert summary["summary"]["fault_p99_ms"]["max"] == pytest.approx(2.31)


@pytest.mark.parametrize(
    ("us", "words"), [(0.0, "0.0 us"), (9.9, "9.9 us"), (123.4, "123 us"), (2310.0, "2.31 ms")]
)
def test_microseconds(us: float, words: str) -> None:
    assert micro_words(us) == words


@pytest.mark.parametrize(
    ("pages", "words"), [(0, "0 pages"), (1, "1 page"), (12_345, "12,345 pages (48.2 MiB)")]
)
def test_pages(pages: int, words: str) -> None:
    assert page_words(pages) == words

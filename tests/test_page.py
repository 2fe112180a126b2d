# SPDX-License-Identifier: Apache-2.0
"""Pages of reports: what is on them, and that they need nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from late_reports import COMPLETED, FAULTS, INCOMPLETE, LATE, ROUNDS, late_round

from pymigrate.page.faults import distribution, over_time
from pymigrate.page.report import report_page
from pymigrate.page.spans import blackout, left_over_time, spans
from pymigrate.page.svg import linear, logarithmic, points
from pymigrate.page.timeline import timeline
from pymigrate.report import FaultReport, Guest, Outcome, Report

ROOT = Path(__file__).resolve().parent.parent
PRECOPY = replace(
    COMPLETED,
    late=None,
    faults=None,
    rounds=(
        late_round(
            1,
            "fuzzy",
            1000.0,
            dirty_pages=1000,
            sent_pages=1000,
            wire_bytes=4 << 20,
            duration_ms=1000.0,
            pending_pages=100,
        ),
        late_round(
            2,
            "fuzzy",
            1100.0,
            dirty_pages=100,
            sent_pages=100,
            duration_ms=90.0,
            pending_pages=10,
        ),
        late_round(3, "sealed", 1120.0, dirty_pages=10, sent_pages=10),
    ),
)


def drawings(page: str) -> dict[str, ElementTree.Element]:
    """Pictures by their labels; each is well-formed."""
    found = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    return {drawing.attrib["aria-label"]: drawing for drawing in found}


def classes(drawing: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [one for one in drawing.iter() if kind in one.attrib.get("class", "").split()]


@pytest.mark.parametrize("report", [COMPLETED, INCOMPLETE, PRECOPY])
def test_page_is_self_contained(report: Report) -> None:
    page = report_page([report.to_dict()])
    assert not re.findall(r"https?:|//[a-z]|<script|<link|<img|@import|url\(", page)
    assert "default-src 'none'" in page
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")


def test_page_of_post_copy() -> None:
    page = report_page([COMPLETED.to_dict()])
    assert set(drawings(page)) == {
        "Rounds over time", "Downtime", "Fault latency", "Faults over time"
    }  # fmt: skip
    for words in (
        "left behind", "65,000 pages (253.9 MiB) when the guest moved", "54,812 pushed",
        "neighbours that were watched were used (85%)", "<td>queueing</td>", "2.31 ms",
        "1,000 of 1,234 faults, evenly thinned out", 'class="good">migrated',
    ):  # fmt: skip
        assert words in page, words


def test_page_of_a_guest_that_misses_pages() -> None:
    page = report_page([INCOMPLETE.to_dict()])
    assert 'class="bad">incomplete' in page
    assert "12,345 pages (48.2 MiB) of it are missing there" in page
    assert set(drawings(page)) == {"Rounds over time", "Downtime"}


def test_page_without_post_copy() -> None:
    page = report_page([PRECOPY.to_dict()])
    assert set(drawings(page)) == {"Rounds over time", "Downtime"}
    assert "followed the guest" not in page and "Faults" not in page


def test_page_of_a_migration_that_did_not_begin() -> None:
    failed = Report(
        outcome=Outcome.FAILED,
        role="source",
        guest=Guest.SOURCE,
        session="00" * 16,
        peer="unix:x",
        error="nobody listens there",
    )
    page = report_page([failed.to_dict()])
    assert "nobody listens there" in page and not drawings(page)


def test_page_of_several_runs() -> None:
    page = report_page([COMPLETED.to_dict(), INCOMPLETE.to_dict()])
    assert "<h2>Run 1</h2>" in page and "<h2>Run 2</h2>" in page


def test_page_escapes_what_it_is_given() -> None:
    hostile = '<b onload="x">&\x1b[31m'
    report = replace(
        INCOMPLETE,
        error=hostile,
        peer=hostile,
        config={**INCOMPLETE.config, "content": hostile},
        late=replace(LATE, reason=hostile),
    )
    page = report_page([report.to_dict()])
    assert "<b onload" not in page and "\x1b" not in page
    assert page.count("&lt;b onload=&quot;x&quot;&gt;&amp;\\x1b[31m") == 4


def test_failed_checks_are_marked() -> None:
    report = replace(COMPLETED, oracle={"ok": False, "message": "page 7 is old"})
    assert "FAILED: page 7 is old" in report_page([report.to_dict()])


# ---- pictures ---------------------------------------------------------------


def test_rounds_follow_each_other() -> None:
    found = spans(PRECOPY.to_dict())
    assert [(span.begin_ms, span.end_ms) for span in found[:2]] == [(0, 1000), (1010, 1100)]
    # The sealed one is somewhere in the blackout of 14 ms that ends with it.
    assert blackout(PRECOPY.to_dict()) == (1106.0, 1120.0)
    assert (found[2].begin_ms, found[2].end_ms) == (1106.0, 1120.0)


def test_rounds_without_a_clock_follow_each_other() -> None:
    rounds = tuple(replace(done, elapsed_ms=0.0) for done in PRECOPY.rounds)
    found = spans(replace(PRECOPY, rounds=rounds, downtime=None).to_dict())
    assert [span.end_ms for span in found] == [1000.0, 1090.0, 1094.0]


def test_what_is_left_falls_to_nothing() -> None:
    assert left_over_time(PRECOPY.to_dict()) == [(0, 1000), (1000, 100), (1100, 10), (1120, 0)]


def test_what_was_left_behind_falls_to_what_is_missing() -> None:
    points_ = left_over_time(COMPLETED.to_dict())
    assert points_[1] == (70.0, 65_000) and points_[-1] == (2230.0, 0)
    assert left_over_time(INCOMPLETE.to_dict())[-1] == (2230.0, 12_345)


def test_every_round_is_a_bar_with_words() -> None:
    drawing = drawings(timeline(COMPLETED.to_dict()))["Rounds over time"]
    tips = [bar[0].text or "" for bar in classes(drawing, "bar") if len(bar)]
    assert len(tips) == len(ROUNDS)
    assert "64,900 named" in tips[0] and "(late): 65,012 pages, 250.0 MiB in 2.16 s" in tips[3]
    assert len(classes(drawing, "band")) == 1
    late = next(bar for bar in classes(drawing, "late") if len(bar))
    assert float(late.attrib["width"]) > 700


def test_faults_are_counted_once() -> None:
    drawing = drawings(distribution(COMPLETED.to_dict()))["Fault latency"]
    tips = [bar[0].text or "" for bar in classes(drawing, "bar")]
    counts = [int(tip.rsplit(": ", 1)[1].replace(",", "")) for tip in tips]
    assert sum(counts) == len(FAULTS.samples)
    marks = classes(drawing, "mark")
    places = [float(mark.attrib["x1"]) for mark in marks]
    assert len(marks) == 4 and places == sorted(places)
    words = {element.text for element in drawing.iter("text")}
    assert {"p50 212 us", "p90 480 us", "p99 2.31 ms", "max 18.7 ms"} <= words


def test_faults_over_time_are_within_the_picture() -> None:
    drawing = drawings(over_time(COMPLETED.to_dict()))["Faults over time"]
    (dots,) = classes(drawing, "points")
    places = re.findall(r"M([\d.]+) ([\d.]+)h0", dots.attrib["d"])
    assert len(places) == len(FAULTS.samples)
    assert all(70 <= float(x) <= 970 and 34 <= float(y) <= 254 for x, y in places)


@pytest.mark.parametrize(
    "samples", [((0.0, 0.0),), ((5.0, 0.01),), ((0.0, 1e9), (1e6, 1.0)), ((3.0, 250.0),) * 5]
)
def test_odd_samples_are_drawn(samples: tuple[tuple[float, float], ...]) -> None:
    report = replace(COMPLETED, faults=FaultReport(count=len(samples), samples=samples)).to_dict()
    page = distribution(report) + over_time(report)
    assert len(drawings(page)) == 2 and "nan" not in page and "inf" not in page


def test_no_picture_without_faults() -> None:
    for faults in (None, FaultReport(), FaultReport(count=3)):
        report = replace(COMPLETED, faults=faults).to_dict()
        assert distribution(report) == over_time(report) == ""


def test_scales() -> None:
    scale = logarithmic(10.0, 5000.0, 0.0, 300.0)
    assert (scale(10), scale(100), scale(10_000)) == (0.0, 100.0, 300.0)
    assert scale.ticks() == [10.0, 100.0, 1000.0, 10_000.0]
    assert logarithmic(1.0, 1.0, 0.0, 1.0).high == 10.0
    assert linear(0.0, 0.0, 10.0)(0.0) == 0.0
    assert (
        points([(1, 2), (3, 4)], "late") == '<path d="M1.0 2.0h0M3.0 4.0h0" class="points late"/>'
    )


def test_pages_need_no_native_code() -> None:
    code = (
        "import sys\n"
        "sys.modules['pymigrate._native'] = None\n"
        "sys.modules['cffi'] = sys.modules['_cffi_backend'] = sys.modules['rich'] = None\n"
        "import pymigrate.page.report\n"
        "assert 'pymigrate.cli' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr

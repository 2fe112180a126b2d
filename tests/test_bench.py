# SPDX-License-Identifier: Apache-2.0
"""The benchmarks themselves: what they compute, build and refuse. Nothing is timed."""

from __future__ import annotations

import json
import re
import shutil
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest

from bench.contents import fill, pieces
from bench.guest import BootImage, Program, build_image
from bench.guest.build import IMAGE_BYTES, PARAMETERS_AT, UNLIMITED
from bench.micro import condense
from bench.page import build_page, load_results
from bench.reference import touch_us
from bench.results import ResultsError, check_free, document, figures
from bench.scenarios import all_scenarios, shrunk
from bench.stats import best_of, paired_ratios, spread, summarize
from bench.task import GIB, MIB, Run, Task


def needs_binutils() -> None:
    for name in ("as", "ld", "objcopy"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is missing: install binutils")


def needs_qemu() -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is missing: install qemu-system-x86")


def test_boot_image() -> None:
    needs_binutils()
    guest = BootImage(Program.WORD, working_set_bytes=64 * MIB, rate_pages_per_s=20_500)
    image = build_image(guest)
    assert len(image) == IMAGE_BYTES
    assert image[510:512] == b"\x55\xaa"
    program, first, end, rate = struct.unpack_from("<4I", image, PARAMETERS_AT)
    assert (program, first, end - first) == (1, 2 * MIB, 64 * MIB)
    assert rate == 20.5 * 65536
    # A far jump within the last 64 KiB below 1 MiB, where a processor starts.
    assert image[-16] == 0xEA
    assert struct.unpack_from("<HH", image, IMAGE_BYTES - 15) == (0xFF00, 0xF000)


def test_boot_image_without_pace() -> None:
    needs_binutils()
    image = build_image(BootImage(Program.WORD, working_set_bytes=MIB, rate_pages_per_s=None))
    assert struct.unpack_from("<I", image, PARAMETERS_AT + 12) == (UNLIMITED,)


@pytest.mark.uffd
def test_a_touch_is_served() -> None:
    """What is measured in C builds and comes to an end."""
    assert touch_us() > 0


@pytest.mark.parametrize(
    "guest",
    [
        BootImage(Program.WORD, working_set_bytes=3 * GIB, rate_pages_per_s=1),
        BootImage(Program.WORD, working_set_bytes=0, rate_pages_per_s=1),
        BootImage(Program.WORD, working_set_bytes=MIB, rate_pages_per_s=66_000_000),
    ],
)
def test_impossible_guests_are_refused(guest: BootImage) -> None:
    with pytest.raises(ValueError):
        guest.parameters()


def test_spread() -> None:
    found = spread([5.0, None, 1.0, 9.0])
    assert found is not None
    assert (found.min, found.median, found.max, found.n) == (1.0, 5.0, 9.0, 3)
    assert spread([None]) is None


def test_summary_has_numbers_only() -> None:
    found = summarize([{"a": 1, "b": "x", "c": True}, {"a": 4, "b": "y", "c": True}])
    assert found == {"a": {"min": 1, "median": 2.5, "max": 4, "n": 2}}


def test_ratios_are_taken_within_pairs() -> None:
    # The ratio of the medians would be 1.
    ours = [{"ms": 10.0}, {"ms": 20.0}, {"ms": 60.0}]
    other = [{"ms": 20.0}, {"ms": 80.0}, {"ms": 20.0}]
    assert paired_ratios(ours, other, "ms") == [0.5, 0.25, 3.0]
    assert paired_ratios(ours, [{"ms": None}] * 3, "ms") == [None] * 3


def test_best_completes_first() -> None:
    runs = {
        "slow": [{"ms": 5.0}, {"ms": 6.0}],
        "fast": [{"ms": 3.0}, {"ms": 4.0}],
        "once": [{"ms": 1.0}, {"ms": None}],
    }
    assert best_of(runs, "ms") == "fast"
    assert best_of(runs, "ms", most=True) == "slow"
    assert best_of({"never": [{"ms": None}]}, "ms") is None


def test_figures_of_a_run() -> None:
    task = Task(GIB, (("random", GIB // 2), ("untouched", GIB // 2)))
    run = Run(total_ms=500.0, wire_bytes=GIB, source_cpu_s=0.5, destination_cpu_s=1.0)
    found = figures(run, task)
    assert found["bytes_per_s"] == GIB
    assert found["cpu_s_per_gib"] == 3.0
    assert found["wire_bytes_per_memory"] == 2.0
    assert figures(Run(outcome="not-converged", wire_bytes=1), task)["bytes_per_s"] is None


def test_bulk_rate_is_that_of_the_largest_part() -> None:
    task = Task(GIB, (("random", GIB),))
    rounds = [{"wire_bytes": 900, "duration_ms": 1.0}, {"wire_bytes": 100, "duration_ms": 1.0}]
    late = {"wire_bytes": 3000, "duration_ms": 2.0, "sent_pages": 1, "outstanding_pages": 1}
    faults = {"count": 1, "p50_us": 1.0, "p99_us": 1.0}
    assert figures(Run(rounds=rounds), task)["bulk_bytes_per_s"] == 900_000
    gone = Run(rounds=rounds, extra={"late": late, "faults": faults})
    assert figures(gone, task)["bulk_bytes_per_s"] == 1_500_000
    looks = [{"wire_bytes": 5, "elapsed_ms": 1.0}]
    assert figures(Run(rounds=looks), task)["bulk_bytes_per_s"] is None


def test_fill_lays_contents_out() -> None:
    memory = bytearray(b"?" * (8 * MIB))

    def write(offset: int, data: memoryview) -> None:
        memory[offset : offset + len(data)] = data

    fill(write, (("zero", 4 * MIB), ("untouched", 2 * MIB), ("zero", 2 * MIB)), 1 * MIB)
    assert memory.count(b"?") == 3 * MIB
    assert memory[MIB - 1 : MIB + 1] == b"?\0"
    assert memory[6 * MIB - 1 : 6 * MIB + 1] == b"?\0"


def test_repeated_contents_have_no_equal_pages() -> None:
    data = b"".join(pieces("random", 130 * MIB))
    assert len(data) == 130 * MIB
    assert len({data[at : at + 4096] for at in range(0, len(data), 4096)}) == len(data) // 4096


def test_scenarios_are_consistent() -> None:
    scenarios = all_scenarios()
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    for scenario in scenarios:
        known = [contender.name for contender in scenario.contenders]
        assert len(set(known)) == len(known)
        for ratio in scenario.ratios:
            assert {ratio.over, *ratio.under} <= set(known)
        for task in (scenario.task, scenario.quick_task or scenario.task):
            assert sum(size for _, size in task.layout) <= task.memory_bytes
            assert task.working_set_bytes <= task.memory_bytes


def test_shrunk_keeps_proportions() -> None:
    task = Task(4 * GIB, (("random", GIB), ("zero", 3 * GIB)), working_set_bytes=GIB)
    small = shrunk(task, 256 * MIB)
    assert small.layout == (("random", 64 * MIB), ("zero", 192 * MIB))
    assert small.working_set_bytes == 64 * MIB


def test_results_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    check_free(path, force=False)
    path.write_text("{}")
    with pytest.raises(ResultsError, match="--force"):
        check_free(path, force=False)
    check_free(path, force=True)


RECORDED = Path(__file__).parent / "data" / "bench_result.json"


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def drawings(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_page_is_self_contained() -> None:
    page = build_page([recorded()], None)
    assert not re.findall(r"https?:|//[a-z]|<script|<link|<img|@import|url\(", page)
    # Peers side by side, what is left over time, dirty and sent, the downtime.
    assert len(drawings(page)) == 4


def test_page_shows_every_contender_and_ratio() -> None:
    result = recorded()
    page = build_page([result], None)
    bars = drawings(page)[0]
    words = {element.text for element in bars.iter("text")}
    for contender in result["contenders"]:
        assert contender["name"] in words
    assert escape(result["ratios"][0]["says"]) in page
    assert result["facts"]["kernel"] in page
    assert "interpreted" in page


def test_page_names_who_did_not_converge() -> None:
    result = recorded()
    for run in result["runs"]["QEMU xbzrle"]:
        run |= {"outcome": "not-converged", "total_ms": None, "downtime_ms": None}
    result["summary"]["QEMU xbzrle"] = {}
    page = build_page([result], None)
    assert "not converged" in page


def test_page_escapes_what_it_is_given() -> None:
    result = recorded()
    result["title"] = "<b>&"
    page = build_page([result], None)
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page


def test_page_of_micro_benchmarks() -> None:
    stats = {"min": 1e-3, "median": 2e-3, "max": 3e-3, "rounds": 5}
    one = {"name": "test_scan[64]", "fullname": "x.py::test_scan[64]", "stats": stats}
    page = build_page([], {"benchmarks": [{**one, "extra_info": {"bytes": 4_000_000}}]})
    assert "<td>64</td>" in page
    assert "2 ms" in page
    assert ">2.00</td>" in page


def test_micro_results_are_condensed() -> None:
    needs_qemu()
    stats = dict.fromkeys(("min", "max", "mean", "stddev", "median", "rounds", "iterations"), 1)
    one = {"name": "test_x", "fullname": "y.py::test_x", "extra_info": {}}
    raw = {
        "machine_info": {"node": "secret"},
        "benchmarks": [{**one, "stats": {**stats, "data": [1]}}],
    }
    found = condense(raw)
    assert found["benchmarks"] == [{**one, "stats": stats}]
    assert "secret" not in json.dumps(found)


def test_document_keeps_rounds_of_the_median_run() -> None:
    needs_qemu()
    scenario = next(s for s in all_scenarios() if s.name == "growth-1g")
    scenario = replace(scenario, contenders=scenario.contenders[:1])
    name = scenario.contenders[0].name
    runs = [Run(total_ms=ms, rounds=[{"ms": ms}]) for ms in (1.0, 5.0, 3.0)]
    found = document(scenario, scenario.task, {name: runs})
    assert [run["rounds"] for run in found["runs"][name]] == [[], [], [{"ms": 3.0}]]
    assert found["summary"][name]["total_ms"] == {"min": 1.0, "median": 3.0, "max": 5.0, "n": 3}
    assert found["facts"]["qemu"]


def test_foreign_files_are_not_results(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="not a result"):
        load_results(tmp_path)

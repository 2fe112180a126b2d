# SPDX-License-Identifier: Apache-2.0
"""A VMM that restores lazily, served from a file and over a network.

The VMM is a process with a userfaultfd of its own and a KVM guest in its own
memory; the handler and the page server are the commands, as a user runs them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from commands import run
from uffd_kit import (
    HUGE_PAGES,
    Bench,
    Layout,
    Page,
    VmmProcess,
    bench,
    check_memory,
    page_sum,
    scattered,
)

pytestmark = [pytest.mark.uffd, pytest.mark.kvm]

HUGE = Layout((2 * HUGE_PAGES, HUGE_PAGES, HUGE_PAGES), huge=True)
BOTH = pytest.mark.parametrize("remote", [False, True], ids=["file", "server"])


def check_walk(found: Bench, vmm: VmmProcess, pages: list[Page], vcpu: int = 0) -> None:
    """The guest finds in each page what the file has."""
    sums = vmm.walk(pages, vcpu)
    assert sums == [page_sum(found.file.page(page)) for page in pages]


# ---- everything comes -------------------------------------------------------


@BOTH
def test_a_guest_finds_its_memory(tmp_path: Path, remote: bool) -> None:
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler()
        found.connect(vmm, handler)
        pages = scattered(found.layout.all_pages, 800, seed=3)
        walks = [vmm.ask("walk", 0, pages[:400], False), vmm.ask("walk", 1, pages[400:], False)]
        sums = vmm.answer(walks[0]) + vmm.answer(walks[1])
        assert sums == [page_sum(found.file.page(page)) for page in pages]
        assert handler.wait() == 0
        check_memory(vmm, found.file)
        report = found.report()
        assert report["outcome"] == "complete" and report["error"] is None
        assert report["vmm_pid"] == vmm.pid
        assert report["pages"] == len(found.layout.all_pages)
        assert report["expected_pages"] == found.file.stored_pages
        assert report["served_pages"] == report["expected_pages"]
        assert report["missing_pages"] == 0
        assert [region["offset"] for region in report["regions"]] == sorted(found.layout.offsets)
        assert not found.state.exists() and not os.path.exists(found.socket)


@BOTH
def test_only_what_is_touched_comes(tmp_path: Path, remote: bool) -> None:
    """With --fill none; and whoever touches a page waits, and is counted."""
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        # Each brings a few of its neighbours.
        check_walk(found, vmm, scattered(found.layout.all_pages, 60, seed=4))
        vmm.kill()
        assert handler.wait() == 0
        report = found.report()
        assert report["outcome"] == "vmm-ended"
        assert report["missing_pages"] > found.file.stored_pages // 2
        faults = report["faults"]
        assert 20 < faults["count"] <= 60
        assert 0 < faults["p50_us"] <= faults["p99_us"] <= faults["max_us"]
        assert faults["local"]["count"] > 0
        assert faults["stalled_ms"] > 0
        assert not found.state.exists()


@BOTH
@pytest.mark.hugepages
def test_huge_pages(tmp_path: Path, remote: bool, hugepages: int) -> None:
    with bench(tmp_path, HUGE, remote=remote) as found, VmmProcess(HUGE) as vmm:
        handler = found.handler()
        found.connect(vmm, handler)
        check_walk(found, vmm, scattered(HUGE.all_pages, 300, seed=5))
        assert handler.wait() == 0
        check_memory(vmm, found.file)


@BOTH
def test_mappings_that_were_split(tmp_path: Path, remote: bool) -> None:
    """A run of pages crosses the end of a mapping, and all of it comes."""
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        for page in (7, 100, 333, 501):
            vmm.call("split", 0, page, 30)
        handler = found.handler()
        found.connect(vmm, handler)
        assert handler.wait() == 0
        check_memory(vmm, found.file)


# ---- removed memory ---------------------------------------------------------


@BOTH
def test_removed_memory_is_zeros(tmp_path: Path, remote: bool) -> None:
    """Whether it had come before or not, and whether it is touched or not."""
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        come = [(0, p) for p in range(40, 90)]
        check_walk(found, vmm, come)
        vmm.call("remove", 0, 60, 100)
        vmm.call("remove", 2, 0, 500)
        removed = {(0, p) for p in range(60, 160)} | {(2, p) for p in range(500)}
        assert set(vmm.walk(sorted(removed)[::3])) == {0}
        check_memory(vmm, found.file, removed)
        assert handler.wait() == 0
        report = found.report()
        assert report["served_pages"] == report["expected_pages"]
        # From here on the memory is as any other.
        vmm.call("remove", 1, 5, 20)
        check_memory(vmm, found.file, removed | {(1, p) for p in range(5, 25)})


@BOTH
@pytest.mark.hugepages
def test_removed_huge_pages_are_zeros(tmp_path: Path, remote: bool, hugepages: int) -> None:
    """Before they came, and after, and touched again."""
    with bench(tmp_path, HUGE, remote=remote) as found, VmmProcess(HUGE) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        check_walk(found, vmm, [(0, 3), (0, 500)])
        vmm.call("remove", 0, 0, HUGE_PAGES)
        vmm.call("remove", 1, 0, HUGE_PAGES)
        removed = {(r, p) for r in (0, 1) for p in range(HUGE_PAGES)}
        assert set(vmm.walk([(0, 3), (0, 500), (1, 1)])) == {0}
        check_memory(vmm, found.file, removed)
        assert handler.wait() == 0


@BOTH
def test_removals_while_pages_flow(tmp_path: Path, remote: bool) -> None:
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler()
        found.connect(vmm, handler)
        kept = [page for page in found.layout.all_pages if page[0] != 1]
        walk = vmm.ask("walk", 0, scattered(kept, 1500, seed=6), False)
        removals = [vmm.ask("remove", 1, at, 7) for at in range(0, 693, 7)]
        for removal in removals:
            vmm.answer(removal)
        vmm.answer(walk)
        assert handler.wait() == 0
        check_memory(vmm, found.file, {(1, page) for page in range(693)})


# ---- prefetch ---------------------------------------------------------------


@BOTH
def test_a_recorded_working_set_is_prefetched(tmp_path: Path, remote: bool) -> None:
    with bench(tmp_path, remote=remote) as found:
        ws = ["--working-set", str(tmp_path / "list.ws")]
        wanted = scattered(found.layout.all_pages, 400, seed=7)
        with VmmProcess(found.layout) as vmm:
            handler = found.handler("--record", *ws)
            found.connect(vmm, handler)
            check_walk(found, vmm, wanted)
            vmm.kill()
            assert handler.wait() == 0
            recorded = found.report()
            # Whoever is woken too early faults on the same page again.
            assert 50 < recorded["recorded_pages"] <= recorded["faults"]["count"]
            assert recorded["served_pages"] >= recorded["recorded_pages"]
        with VmmProcess(found.layout) as vmm:
            handler = found.handler("--fill", "none", *ws)
            found.connect(vmm, handler)
            found.await_missing(recorded["missing_pages"])
            check_walk(found, vmm, wanted)
            vmm.kill()
            assert handler.wait() == 0
            report = found.report()
            assert report["prefetch"]["pages"] == recorded["recorded_pages"]
            assert report["prefetch"]["hits"] == recorded["recorded_pages"]
            assert report["prefetch"]["other_pages"] == 0
            assert report["faults"]["count"] == 0


def test_the_working_set_beside_the_file_is_used(tmp_path: Path) -> None:
    with bench(tmp_path) as found:
        for options in (["--record"], []):
            with VmmProcess(found.layout) as vmm:
                handler = found.handler(*options)
                found.connect(vmm, handler)
                check_walk(found, vmm, [(0, 5), (2, 7), (1, 9), (0, 700)])
                if options:
                    vmm.kill()
                assert handler.wait() == 0
        assert (tmp_path / "guest.mem.ws").exists()
        assert found.report()["prefetch"]["pages"] > 0


def test_a_server_pushes_its_own_working_set(tmp_path: Path) -> None:
    """That beside its file, to who names none."""
    wanted = [(0, p) for p in range(100, 200)]
    with bench(tmp_path, remote=True) as found:
        beside = str(found.file.path) + ".ws"
        for options in (["--record", "--working-set", beside], ["--fill", "none"]):
            with VmmProcess(found.layout) as vmm:
                handler = found.handler(*options)
                found.connect(vmm, handler)
                if "--fill" in options:
                    found.await_missing(found.report_of(1)["missing_pages"])
                check_walk(found, vmm, wanted)
                vmm.kill()
                assert handler.wait() == 0
        assert found.report_of(1)["recorded_pages"] == found.report_of(1)["served_pages"]
        assert found.report_of(2)["faults"]["count"] == 0


def test_a_foreign_working_set_is_only_mentioned(tmp_path: Path) -> None:
    ws = tmp_path / "other.ws"
    ws.write_bytes(b"this is no working set")
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--working-set", str(ws))
        found.connect(vmm, handler)
        assert handler.wait() == 0
        assert any("nothing is prefetched" in line for line in handler.said)
        check_memory(vmm, found.file)


# ---- what is refused --------------------------------------------------------


def refusal(tmp_path: Path, *arguments: Any) -> str:
    """What the handler says of a handshake that it does not take."""
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler()
        vmm.call("connect", found.socket, *arguments)
        assert handler.wait() == 1
        assert not found.state.exists() and not os.path.exists(found.socket)
        return handler.said[-1]


def test_malformed_handshakes_end_the_handler(tmp_path: Path) -> None:
    assert "not a JSON array" in refusal(tmp_path, "hello", ["uffd"])


def test_missing_descriptors_end_the_handler(tmp_path: Path) -> None:
    assert "the userfaultfd is missing" in refusal(tmp_path, None, [])


def test_other_descriptors_end_the_handler(tmp_path: Path) -> None:
    assert "no userfaultfd" in refusal(tmp_path, None, ["null"])


def test_unknown_page_sizes_end_the_handler(tmp_path: Path) -> None:
    words = '[{"base_host_virt_addr":0,"size":65536,"offset":0,"page_size":65536}]'
    assert "pages of 65536" in refusal(tmp_path, words)


def test_overlapping_regions_end_the_handler(tmp_path: Path) -> None:
    one = {"base_host_virt_addr": 1 << 30, "size": 8192, "offset": 0, "page_size": 4096}
    words = json.dumps([one, {**one, "offset": 8192}])
    assert "overlap in the VMM's address space" in refusal(tmp_path, words)


@BOTH
def test_a_file_that_is_too_small_is_refused(tmp_path: Path, remote: bool) -> None:
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        os.truncate(found.file.path, 4096 * 100)
        handler = found.handler()
        vmm.call("connect", found.socket)
        assert handler.wait() == 1
        assert "it belongs to another VM" in handler.said[-1]


def test_who_only_looks_is_not_taken_for_a_vmm(tmp_path: Path) -> None:
    import socket

    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler()
        with socket.socket(socket.AF_UNIX) as curious:
            curious.connect(found.socket)
        found.connect(vmm, handler)
        assert handler.wait() == 0


def test_usage() -> None:
    for arguments, reason in (
        (["--memory", "/nonexistent"], "No such file"),
        (["--memory", "/dev/null"], "not a regular file"),
        (["--memory", "tcp:nowhere"], "tcp:HOST:PORT"),
        (["--memory", "tcp:127.0.0.1:1", "--fill", "1M"], "--bandwidth-limit"),
        (["--memory", __file__, "--fill", "much"], "is not a size"),
        (["--memory", "tcp:127.0.0.1:1", "--record"], "needs --working-set"),
        (["--memory", __file__, "--json", "/nonexistent/report"], "does not exist"),
    ):
        done = run("uffd-handler", "--socket", "/tmp/unused.sock", *arguments)
        assert done.returncode == 2, done
        assert reason in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["uffd-handler", "page-server"])
def test_help_has_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"\n  pymigrate {command} --" in done.stdout


def test_a_server_out_of_reach_is_said_before_a_vmm_comes(tmp_path: Path) -> None:
    done = run("uffd-handler", "--socket", str(tmp_path / "s"), "--memory", "tcp:127.0.0.1:1")
    assert done.returncode == 1
    assert "the page server tcp:127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr


def test_nobody_connects(tmp_path: Path) -> None:
    memory = tmp_path / "mem"
    memory.write_bytes(bytes(8192))
    path = str(tmp_path / "s")
    done = run("uffd-handler", "--socket", path, "--memory", str(memory), "--timeout", "100ms")
    assert done.returncode == 1 and "no VMM connected" in done.stderr
    assert not os.path.exists(path)


# ---- ends -------------------------------------------------------------------


@BOTH
def test_the_vmm_is_killed(tmp_path: Path, remote: bool) -> None:
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        check_walk(found, vmm, [(0, 1), (1, 1)])
        vmm.kill()
        assert handler.wait() == 0
        assert found.report()["outcome"] == "vmm-ended"
        assert not found.state.exists()


@BOTH
def test_the_vmm_is_killed_while_pages_flow(tmp_path: Path, remote: bool) -> None:
    layout = Layout((12000, 4000))
    with bench(tmp_path, layout, remote=remote) as found, VmmProcess(layout) as vmm:
        handler = found.handler()
        found.connect(vmm, handler)
        vmm.ask("walk", 0, scattered(layout.all_pages, 2000, seed=8), False)
        vmm.kill()
        assert handler.wait() == 0
        assert found.report()["outcome"] in ("vmm-ended", "complete")


def test_an_interrupt_leaves_the_vmm_waiting(tmp_path: Path) -> None:
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        check_walk(found, vmm, [(0, 1)])
        handler.interrupt()
        assert handler.wait() == 3
        assert found.report()["outcome"] == "interrupted"
        assert found.state.exists()
        walk = vmm.ask("walk", 0, [page for page in found.layout.all_pages if page[0] == 2], False)
        assert not vmm.has_answered(walk)
        assert found.handler().wait() == 0
        vmm.answer(walk)
        check_memory(vmm, found.file)

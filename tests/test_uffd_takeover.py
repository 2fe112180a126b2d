# SPDX-License-Identifier: Apache-2.0
"""A handler is killed (SIGKILL), and another one goes on.

The VMM notices nothing: threads that wait for a page get it, pages that were
removed are not brought back, and nothing is lost that the guest has written.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from uffd_kit import (
    HUGE_PAGES,
    LIMIT_S,
    Bench,
    Command,
    Layout,
    Page,
    VmmProcess,
    bench,
    check_memory,
    counted,
    page_sum,
    scattered,
)

pytestmark = [pytest.mark.uffd, pytest.mark.kvm]

BOTH = pytest.mark.parametrize("remote", [False, True], ids=["file", "server"])
HUGE = Layout((2 * HUGE_PAGES, HUGE_PAGES), huge=True)
SEEDS = range(4)


@BOTH
def test_another_handler_goes_on(tmp_path: Path, remote: bool) -> None:
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        first = scattered(found.layout.all_pages, 200, seed=1)
        sums = vmm.walk(first, count=True)
        assert sums == [page_sum(found.file.page(page)) for page in first]
        handler.kill()
        # Whoever touches a missing page now waits, and nobody knows of it.
        rest = [page for page in found.layout.all_pages if page not in set(first)]
        walks = [vmm.ask("walk", v, rest[v::2], False) for v in range(2)]
        heir = found.handler("--fill", "none")
        sums = vmm.answer(walks[0]), vmm.answer(walks[1])
        for v in range(2):
            assert sums[v] == [page_sum(found.file.page(page)) for page in rest[v::2]]
        assert heir.wait() == 0
        report = found.report()
        assert report["took_over"] and report["outcome"] == "complete"
        assert report["expected_pages"] < found.file.stored_pages
        check_memory(vmm, found.file, counts=dict.fromkeys(first, 1))
        assert not found.state.exists()


@BOTH
def test_removed_pages_are_not_brought_back(tmp_path: Path, remote: bool) -> None:
    """Removed before the handler was killed, and while there was none."""
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        vmm.walk([(0, p) for p in range(100)], count=True)
        vmm.call("remove", 0, 50, 100)
        vmm.call("remove", 1, 0, 30)
        handler.kill()
        # The VMM waits until somebody has been told.
        removal = vmm.ask("remove", 2, 10, 200)
        assert not vmm.has_answered(removal)
        heir = found.handler()
        vmm.answer(removal)
        assert heir.wait() == 0
        removed = {(0, p) for p in range(50, 150)} | {(1, p) for p in range(30)}
        removed |= {(2, p) for p in range(10, 210)}
        check_memory(vmm, found.file, removed, {(0, p): 1 for p in range(50)})


@BOTH
@pytest.mark.hugepages
def test_huge_pages_that_were_half_put_together(
    tmp_path: Path, remote: bool, hugepages: int
) -> None:
    with bench(tmp_path, HUGE, remote=remote) as found, VmmProcess(HUGE) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        vmm.walk([(0, 5)], count=True)
        walk = vmm.ask("walk", 1, scattered(HUGE.all_pages, 500, seed=2), False)
        handler.kill()
        vmm_removed = vmm.ask("remove", 1, 0, HUGE_PAGES)
        heir = found.handler()
        vmm.answer(walk)
        vmm.answer(vmm_removed)
        assert heir.wait() == 0
        check_memory(vmm, found.file, {(1, p) for p in range(HUGE_PAGES)}, {(0, 5): 1})


def survive(found: Bench, vmm: VmmProcess, handler: Command, seed: int) -> None:
    """Kill handlers while the guest writes and gives memory back."""
    rng = random.Random(seed)
    kept = [page for page in found.layout.all_pages if page[0] != 1]
    rng.shuffle(kept)
    removed: set[Page] = set()
    counts: dict[Page, int] = {}
    for at in range(0, 1800, 300):
        touched = kept[at : at + 300]
        walks = [vmm.ask("walk", v, touched[v::2], True) for v in range(2)]
        removals = []
        for _ in range(20):
            first = rng.randrange(0, found.layout.pages[1] - 5)
            removals.append(vmm.ask("remove", 1, first, 5))
            removed |= {(1, first + n) for n in range(5)}
        found.let_go_on(rng.randrange(150))
        handler.kill()
        if found.state.exists():
            handler = found.handler("--fill", rng.choice(["none", "all"]))
        for v, walk in enumerate(walks):
            sums = vmm.answer(walk)
            assert sums == [page_sum(found.file.page(page)) for page in touched[v::2]]
        for removal in removals:
            vmm.answer(removal)
        counts |= dict.fromkeys(touched, 1)
    handler.kill()
    if found.state.exists():
        assert found.handler().wait() == 0
    check_memory(vmm, found.file, removed, counts)


@BOTH
@pytest.mark.parametrize("seed", SEEDS)
def test_handlers_are_killed_again_and_again(tmp_path: Path, remote: bool, seed: int) -> None:
    layout = Layout((1500, 700, 1200))
    with bench(tmp_path, layout, remote=remote, seed=seed) as found, VmmProcess(layout) as vmm:
        if remote:
            found.serve("--bandwidth-limit", "4")
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        survive(found, vmm, handler, seed)


@BOTH
def test_killed_after_the_last_page(tmp_path: Path, remote: bool) -> None:
    """Memory is as any other already, and only the state is left."""
    with bench(tmp_path, remote=remote) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        data = found.state.read_bytes()
        head = data.index(b"\0")
        handler.interrupt()
        assert handler.wait() == 3
        handler = found.handler()
        assert handler.wait() == 0
        vmm.walk([(0, 3)], count=True)
        vmm.call("remove", 1, 0, 10)
        found.state.write_bytes(data[:head].ljust(len(data), b"\0"))
        found.state.chmod(0o600)
        assert found.handler().wait() == 0
        assert found.report()["expected_pages"] == 0
        check_memory(vmm, found.file, {(1, p) for p in range(10)}, {(0, 3): 1})


def test_a_living_handler_is_not_relieved(tmp_path: Path) -> None:
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        second = found.handler(wait=False)
        assert second.wait() == 1
        assert "another handler serves here" in second.said[-1]
        sums = vmm.walk([(0, 3)])
        assert sums == [page_sum(found.file.page((0, 3)))]
        handler.kill()


def test_another_file_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        handler.kill()
        status = os.stat(found.file.path)
        os.utime(found.file.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        heir = found.handler(wait=False)
        assert heir.wait() == 1
        assert "other contents" in heir.said[-1]
        assert found.state.exists()
        os.utime(found.file.path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert found.handler().wait() == 0
        check_memory(vmm, found.file)


def test_a_vmm_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    with bench(tmp_path) as found:
        with VmmProcess(found.layout) as vmm:
            handler = found.handler("--fill", "none")
            found.connect(vmm, handler)
            handler.kill()
        assert found.state.exists()
        handler = found.handler(wait=False)
        handler.wait_for("listening on")
        assert not found.state.exists()
        with VmmProcess(found.layout) as vmm:
            found.connect(vmm, handler)
            assert handler.wait() == 0
            check_memory(vmm, found.file)


def test_a_vmm_that_does_not_keep_its_userfaultfd(tmp_path: Path) -> None:
    """It can be served, and the handler says at once what that means."""
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        # Held up, so that the descriptor is closed before it looks.
        os.kill(handler.pid, signal.SIGSTOP)
        vmm.call("connect", found.socket)
        vmm.call("close_uffd")
        os.kill(handler.pid, signal.SIGCONT)
        said = handler.wait_for("no other can go on")
        assert "does not keep its userfaultfd" in said
        sums = vmm.walk([(0, 3)])
        assert sums == [page_sum(found.file.page((0, 3)))]
        vmm.kill()
        assert handler.wait(LIMIT_S) == 0


def test_a_userfaultfd_that_somebody_else_hands_over(tmp_path: Path) -> None:
    """Who sent it has ended; whose memory it is for has not."""
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        vmm.call("connect_by_another", found.socket)
        assert "has ended" in handler.wait_for("no other can go on")
        handler.wait_for("serving the page faults")
        for page in [(0, 3), (1, 4), (2, 5)]:
            assert vmm.walk([page]) == [page_sum(found.file.page(page))]
        assert not handler.has_ended
        vmm.kill()
        assert handler.wait() == 0
        assert found.report()["outcome"] == "vmm-ended"


def test_a_state_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """It says into whose memory pages are put."""
    elsewhere = tmp_path / "elsewhere"
    with bench(tmp_path) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        handler.kill()
        os.chmod(found.state, 0o666)
        assert found.handler(wait=False).wait() == 1
        os.chmod(found.state, 0o600)
        os.chown(found.state, 65534, 65534)
        heir = found.handler(wait=False)
        assert heir.wait() == 1
        assert "not written by a handler of this user" in heir.said[-1]
        os.chown(found.state, 0, 0)
        found.state.rename(elsewhere)
        found.state.symlink_to(elsewhere)
        heir = found.handler(wait=False)
        assert heir.wait() == 1 and "cannot be opened" in heir.said[-1]
        elsewhere.rename(found.state)
        assert found.handler().wait() == 0
        check_memory(vmm, found.file)


def test_a_state_that_is_none_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path) as found:
        for junk in (b"", b"junk\n", b"{}\n" + bytes(8192), b'{"schema":"x"}'):
            found.state.write_bytes(junk)
            found.state.chmod(0o600)
            handler = found.handler(wait=False)
            assert handler.wait() == 1
            assert "is not the state of a handler" in handler.said[-1]


def test_counts_are_what_the_guest_counted() -> None:
    """The model of the tests above."""
    data = bytes(range(256)) * 16
    assert counted(data)[:4092] == data[:4092]
    assert counted(data) != data and page_sum(counted(data)) == page_sum(data)

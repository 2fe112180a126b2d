# SPDX-License-Identifier: Apache-2.0
"""Pages over a network: links that break, servers that go and come back, and
clients that are not what they should be."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run
from fault_proxy import Proxy, Way
from uffd_kit import Layout, VmmProcess, bench, check_memory, page_sum, scattered

from pymigrate import Options, _frames
from pymigrate._dial import Dialer
from pymigrate._engine import PAGE_BYTES, pack_bitmap, unpack_bitmap
from pymigrate._link import Link
from pymigrate._memory_file import MemoryFile
from pymigrate._trouble import Trouble
from pymigrate.addresses import parse_address
from pymigrate.errors import MigrateError
from pymigrate.page_server import PageServer, SessionReport
from pymigrate.protocol import Accept, Describe, First, Held, Missing, Offer, Refuse

LIMIT_MS = 10_000
MIB = 1 << 20


# ---- holes ------------------------------------------------------------------


def test_what_a_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "mem"
    with path.open("wb") as file:
        file.truncate(200 * PAGE_BYTES)
        for page in (0, 63, 64, 100, 101, 199):
            file.seek(page * PAGE_BYTES)
            file.write(b"x")
    found = MemoryFile(str(path))
    first = found.held([(0, 100 * PAGE_BYTES)])
    both = found.held([(0, 100 * PAGE_BYTES), (100 * PAGE_BYTES, 100 * PAGE_BYTES)])
    found.close()
    assert len(first) == 16 and len(both) == 32
    assert int.from_bytes(first, "little") == 1 | 1 << 63 | 1 << 64
    assert int.from_bytes(both[16:], "little") == 1 | 1 << 1 | 1 << 99


# ---- links that break -------------------------------------------------------


@pytest.mark.uffd
@pytest.mark.kvm
@pytest.mark.parametrize("what", ["control", "data", "all", "swallow"])
def test_links_break_while_the_guest_runs(tmp_path: Path, what: str) -> None:
    """It waits for what is missing, and for nothing else; then goes on."""
    with bench(tmp_path, remote=True) as found, VmmProcess(found.layout) as vmm:
        found.serve("--bandwidth-limit", "2")
        with Proxy(found.address) as proxy:
            handler = found.handler(memory=proxy.address)
            found.connect(vmm, handler)
            here = [(0, p) for p in range(20)]
            vmm.walk(here)
            pages = scattered(found.layout.all_pages, 600, seed=1)
            walk = vmm.ask("walk", 0, pages, False)
            for at in (200_000, 300_000, 500_000):
                broken = threading.Event()
                proxy.after(Way("data", 0, up=False), at, broken.set)
                if found.state.exists() and broken.wait(10):
                    break_it(proxy, what)
                    # What has come before needs no server.
                    assert len(vmm.walk(here, vcpu=1)) == len(here)
                    proxy.heal()
                    handler.wait_for("in reach again")
            sums = vmm.answer(walk)
            assert sums == [page_sum(found.file.page(page)) for page in pages]
            assert handler.wait() == 0
        assert found.report()["interruptions"] >= 1
        check_memory(vmm, found.file)


def break_it(proxy: Proxy, what: str) -> None:
    if what == "control":
        proxy.cut("fetch")
    elif what == "data":
        proxy.cut("data", 1)
    elif what == "all":
        proxy.vanish()
    else:
        proxy.swallow()


@pytest.mark.uffd
@pytest.mark.kvm
def test_the_server_is_killed_and_comes_back(tmp_path: Path) -> None:
    with bench(tmp_path, remote=True) as found, VmmProcess(found.layout) as vmm:
        found.serve("--bandwidth-limit", "2")
        handler = found.handler()
        found.connect(vmm, handler)
        pages = scattered(found.layout.all_pages, 600, seed=2)
        walk = vmm.ask("walk", 0, pages, False)
        found.await_missing(found.file.stored_pages - 200)
        assert found.server is not None
        found.server.kill()
        handler.wait_for("trying to reach it again")
        found.serve(address=found.address)
        handler.wait_for("in reach again")
        sums = vmm.answer(walk)
        assert sums == [page_sum(found.file.page(page)) for page in pages]
        assert handler.wait() == 0
        check_memory(vmm, found.file)


@pytest.mark.uffd
@pytest.mark.kvm
def test_a_server_with_another_file_is_left_alone(tmp_path: Path) -> None:
    """Pages of two snapshots do not go together: nothing is placed."""
    with bench(tmp_path, remote=True) as found, VmmProcess(found.layout) as vmm:
        handler = found.handler("--fill", "none")
        found.connect(vmm, handler)
        vmm.walk([(0, 1)])
        assert found.server is not None
        found.server.kill()
        os.utime(found.file.path)
        found.serve(address=found.address)
        assert handler.wait() == 4
        assert "another file than before" in handler.said[-1]
        assert found.report()["outcome"] == "failed"
        assert found.state.exists()


@pytest.mark.uffd
@pytest.mark.kvm
def test_many_clients_at_once(tmp_path: Path) -> None:
    layout = Layout((2000, 500))
    with bench(tmp_path, layout, remote=True) as one, VmmProcess(layout) as vmm:
        other_path = tmp_path / "other"
        other_path.mkdir()
        with bench(other_path, layout) as other, VmmProcess(layout) as clone:
            handlers = [one.handler(), other.handler(memory=one.address)]
            one.connect(vmm, handlers[0])
            other.connect(clone, handlers[1])
            assert [handler.wait() for handler in handlers] == [0, 0]
            check_memory(vmm, one.file)
            check_memory(clone, one.file)
            assert one.server is not None
            one.server.interrupt()
            assert one.server.wait() == 0
            served = [line for line in one.server.said if line.startswith("sent ")]
            stored = f"sent {one.file.stored_pages:,} of {one.file.stored_pages:,} pages"
            assert len(served) == 2
            # Orderly: no reason why it ended before.
            assert all(line.startswith(stored) and line.endswith((" ms", " s")) for line in served)


# ---- clients that are none --------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[PageServer, list[SessionReport]]]:
    path = tmp_path / "mem"
    path.write_bytes(bytes(MIB) + os.urandom(MIB))
    reports: list[SessionReport] = []
    options = Options(handshake_timeout_ms=2000, peer_timeout_ms=2000)
    server = PageServer(str(path), "tcp:127.0.0.1:0", options, on_end=reports.append)
    yield server, reports
    server.close()


Served = tuple[PageServer, list[SessionReport]]


def describe(**changes: Any) -> Describe:
    region = {"gpa": 0, "size_bytes": 2 * MIB, "page_size_bytes": 4096, "name": "ram"}
    members: dict[str, Any] = {
        "description": {"kind": "memory-file", "memory": [region], "encodings": 1},
        "channels": 2,
        "stream_major": 1,
        "stream_minor": 2,
        "late": True,
    }
    return Describe(**(members | changes))


def dial(server: PageServer) -> tuple[Dialer, Link]:
    dialer = Dialer(server.address, Options(), secrets.token_hex(16), Trouble())
    return dialer, dialer.link("fetch")


def test_the_offer_names_the_contents(served: Served, nothing_leaks: None) -> None:
    _, link = dial(served[0])
    offer = link.receive("offer", LIMIT_MS, Offer)
    link.close(LIMIT_MS)
    assert offer.size_bytes == 2 * MIB
    assert offer.contents.startswith(f"{2 * MIB}:")
    assert served[1] == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"description": {"kind": "vmm"}}, "is not pages"),
        ({"late": False}, "is not pages"),
        ({"channels": 1}, "2 to 64"),
        ({"channels": 65}, "2 to 64"),
        ({"stream_major": 2}, "stream version 2"),
        ({"description": {"kind": "memory-file"}}, "no regions"),
        ({"description": {"kind": "memory-file", "memory": []}}, "no regions"),
        ({"description": {"kind": "memory-file", "memory": [1]}}, "no place in the file"),
        (
            {"description": {"kind": "memory-file", "memory": [{"gpa": 1, "size_bytes": 4096}]}},
            "no whole pages",
        ),
        (
            {"description": {"kind": "memory-file", "memory": [{"gpa": 0, "size_bytes": 0}]}},
            "no whole pages",
        ),
        (
            {"description": {"kind": "memory-file", "memory": [{"gpa": 0, "size_bytes": 1 << 30}]}},
            "belongs to another VM",
        ),
        (
            {
                "description": {
                    "kind": "memory-file",
                    "memory": [{"gpa": at, "size_bytes": MIB} for at in (0, MIB // 2)],
                }
            },
            "overlap",
        ),
    ],
)
def test_impossible_memory_is_refused(served: Served, changes: dict[str, Any], reason: str) -> None:
    _, link = dial(served[0])
    link.receive("offer", LIMIT_MS, Offer)
    link.send(describe(**changes))
    refused = link.receive("describing", LIMIT_MS, Accept, Refuse)
    link.close(LIMIT_MS)
    assert isinstance(refused, Refuse)
    assert reason in refused.differences[0]


def accepted(server: PageServer) -> tuple[Dialer, Link, bytes]:
    """A session up to what the file holds."""
    dialer, link = dial(server)
    link.receive("offer", LIMIT_MS, Offer)
    link.send(describe())
    dialer.token = link.receive("describing", LIMIT_MS, Accept).token
    held = link.receive("held", LIMIT_MS, Held)
    words = unpack_bitmap(held.body, 8)
    assert held.pages == int.from_bytes(words, "little").bit_count() >= 256
    return dialer, link, words


def await_end(served: Served) -> SessionReport:
    served[0].close()
    return served[1][-1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [(bytes(56), "a bitmap of 56 bytes"), (b"\xff" * 64, "does not hold"), (None, "damaged")],
)
def test_impossible_bitmaps_end_a_session(served: Served, words: bytes | None, reason: str) -> None:
    # A hole is needed for the second one.
    with open(served[0]._file_path, "r+b") as file:
        file.truncate(MIB)
        file.truncate(2 * MIB)
    _, link = dial(served[0])
    link.receive("offer", LIMIT_MS, Offer)
    link.send(describe())
    link.receive("held", LIMIT_MS, Accept)
    link.receive("held", LIMIT_MS, Held)
    link.send(First(pages=0, push="all"))
    body = b"this is no bitmap" if words is None else pack_bitmap(words)
    link.send(Missing(attempt=0, pages=1, body=body))
    with pytest.raises(MigrateError, match=r"closed|lost"):
        link.receive("nothing", LIMIT_MS, Held)
    link.close()
    assert reason in (await_end(served).error or "")


def test_pages_outside_memory_end_a_session(served: Served) -> None:
    dialer, link, words = accepted(served[0])
    far = (1 << 40).to_bytes(8, "little")
    link.send(First(pages=1, push="all", body=pack_bitmap(far)))
    link.send(Missing(attempt=0, pages=256, body=pack_bitmap(words)))
    socks = [dialer.data(channel) for channel in range(2)]
    with pytest.raises(MigrateError, match=r"closed|lost"):
        link.receive("nothing", LIMIT_MS, Held)
    link.close()
    for sock in socks:
        sock.close()
    assert "outside of memory" in (await_end(served).error or "")


def test_data_connections_need_the_token(served: Served) -> None:
    dialer, link, words = accepted(served[0])
    link.send(First(pages=0, push="none"))
    link.send(Missing(attempt=0, pages=256, body=pack_bitmap(words)))
    token, dialer.token = dialer.token, "0" * 32
    with dialer.data(0) as stranger:
        assert stranger.recv(1) == b""
    dialer.token = token
    with dialer.data(0) as first, dialer.data(1) as second:
        # The stream begins once all connections are there.
        for sock in (first, second):
            assert _frames.parse(sock.recv(40, socket.MSG_WAITALL)).type == 1
    link.close()
    assert await_end(served).error


def test_a_stranger_learns_nothing(served: Served) -> None:
    address = parse_address(str(served[0].address))
    with socket.create_connection((address.host, address.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(40))
        # Closed with unread input, it may be told so by a reset.
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    dialer = Dialer(served[0].address, Options(), secrets.token_hex(16), Trouble())
    with pytest.raises(MigrateError, match=r"closed|lost"):
        dialer.link("control")


# ---- the command ------------------------------------------------------------


def test_usage(tmp_path: Path) -> None:
    memory = tmp_path / "mem"
    memory.write_bytes(bytes(4096))
    listen = ["--listen", "tcp:127.0.0.1:0"]
    for arguments, reason in (
        (["--memory", "/nonexistent", *listen], "No such file"),
        (["--memory", "/dev/zero", *listen], "not a regular file"),
        (["--memory", str(memory), "--listen", "file:x"], "listens on tcp: or unix:"),
        (["--memory", str(memory), "--listen", "somewhere"], "is not an address"),
        (["--memory", str(memory), "--listen", "tcp:192.0.2.1:1"], "annot assign"),
    ):
        done = run("page-server", *arguments)
        assert done.returncode == 2, done
        assert reason in done.stderr and "Traceback" not in done.stderr


def test_an_interrupt_ends_it(tmp_path: Path) -> None:
    with bench(tmp_path, Layout((64,)), remote=True) as found:
        found.serve()
        assert found.server is not None
        os.kill(found.server.pid, signal.SIGTERM)
        assert found.server.wait() == 0

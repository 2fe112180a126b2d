# SPDX-License-Identifier: Apache-2.0
"""The pure-Python decoder on every encoding, and pages that are stale."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stream_builder as sb
import stream_encoded as se
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_builder import BLOCK, PAGE, SEALED, Stored, Writer, replace
from stream_encoded import A, B, C
from test_inspect import Trickle

from pymigrate.cli import main
from pymigrate.inspector import Decoder, StreamError, Summary, rests_on_contents

CASES = se.encoded_cases()


class Memory:
    """Region 0 as a sink."""

    def __init__(self) -> None:
        self.data = bytearray(4 * BLOCK)

    def stream(self, _info: Any) -> None: ...

    def config(self, _config: Any) -> None: ...

    def state(self, _items: Any) -> None: ...

    def page(self, region: int, offset: int, data: memoryview) -> None:
        if region == 0:
            self.data[offset : offset + PAGE] = data

    def zero(self, region: int, offset: int) -> None:
        self.page(region, offset, memoryview(bytes(PAGE)))


def decode(data: bytes, sink: Memory | None = None) -> Summary:
    return Decoder(io.BytesIO(data), sink).run()


def test_every_encoding_is_decoded() -> None:
    memory = Memory()
    summary = decode(se.sample(), memory)
    assert summary.complete and summary.loadable
    assert memory.data.startswith(se.expected())
    first, second, third, last = summary.epochs
    assert first.pages_by_encoding == {
        "raw": 2, "unchanged": 0, "delta": 0, "copy": 2, "lz4": 3, "zstd": 0, "zero": 1,
    }  # fmt: skip
    assert second.pages_by_encoding["delta"] == second.pages_by_encoding["zstd"] == 1
    assert second.bytes_by_encoding["delta"] == 8 + 2 * 64
    assert second.bytes_by_encoding["unchanged"] == 0
    assert first.raw_pages == 2
    assert (third.stale_pages, third.stale_pages_left) == (1, 1)
    assert (last.stale_pages, last.stale_pages_left) == (0, 0)


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    case = CASES[name]
    with pytest.raises(StreamError) as caught:
        decode(case.data)
    assert case.reason in caught.value.reason


def test_block_is_described_once() -> None:
    writer = Writer().begin().stored({0: se.raw(A)}).stored({1: se.raw(B)}).finish()
    with pytest.raises(StreamError, match="describes a block for the second time"):
        decode(writer.end())


@pytest.mark.parametrize("level", [-5, 1, 19])
@pytest.mark.parametrize("span", [1, 64])
def test_zstd_frames_of_all_levels(level: int, span: int) -> None:
    pages = [sb.page_of(n) for n in range(span)]
    stored = se.zstd_of(b"".join(pages), level, with_size=level > 0)
    memory = Memory()
    entries = se.numbered(*se.group(se.ZSTD, pages, stored))
    decode(Writer().begin(SEALED).stored(entries).finish().end(), memory)
    assert memory.data.startswith(b"".join(pages))


# ---- stale pages -----------------------------------------------------------


def stale(*newer: Stored | None, channel: tuple[int, int] = (0, 1)) -> Writer:
    """A sealed epoch that leaves page 7 stale, and newer versions of it."""
    writer = Writer(channel=channel).begin().stored({7: se.raw(A)}).finish()
    writer.begin(SEALED).stored({7: replace(se.delta(A, B), hash=99)}).finish()
    for version in newer:
        writer.begin(SEALED).stored({7: version}).finish()
    return writer


@pytest.mark.parametrize(
    "newer", [se.raw(B), None, se.group(se.LZ4, [C])[0]], ids=["raw", "zero", "lz4"]
)
def test_newer_version_heals_a_stale_page(newer: Stored | None) -> None:
    summary = decode(stale(newer).end())
    assert summary.loadable
    assert [epoch.stale_pages_left for epoch in summary.epochs] == [0, 1, 0]


def test_page_that_stays_stale_is_corruption() -> None:
    with pytest.raises(StreamError, match="region 0 at offset 0x7000"):
        decode(stale(replace(se.unchanged(B), hash=98)).end())


def test_stale_pages_of_a_stream_that_is_not_sealed_wait() -> None:
    writer = Writer().begin().stored({7: replace(se.unchanged(A), hash=99)}).finish()
    summary = decode(writer.end())
    assert summary.complete and not summary.loadable
    assert summary.epochs[0].stale_pages_left == 1


def test_suspect_page_may_become_stale_and_right() -> None:
    writer = Writer().begin().stored({7: replace(se.raw(A), hash=5)}).finish()
    writer.begin().stored({7: replace(se.unchanged(A), hash=6)}).finish()
    writer.begin(SEALED).stored({7: se.raw(B)}).finish()
    left = [(e.suspect_pages_left, e.stale_pages_left) for e in decode(writer.end()).epochs]
    assert left == [(1, 0), (0, 1), (0, 0)]


def test_one_channel_of_several_may_rest_on_another() -> None:
    summary = decode(stale(channel=(1, 2)).end())
    assert summary.complete and not summary.loadable and summary.rests_on_others


# ---- random streams against a model ----------------------------------------

PALETTE = [bytes(PAGE), A, B, se.changed(A, 3), se.changed(A, 3, 40), se.changed(B, 0)]
steps = st.lists(
    st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1),
    min_size=1,
    max_size=5,
)


def entry_of(page: int, after: bytes, wish: int, model: dict[int, bytes], done: set[int]) -> Stored:
    """The page in the encoding that is wished for, or raw where it cannot be."""
    before = model.get(page, bytes(PAGE))
    if wish == se.UNCHANGED and before == after:
        return se.unchanged(after)
    if wish == se.DELTA:
        return se.delta(before, after)
    if wish == se.COPY:
        for other in done:
            if model[other] == after:
                return se.copy(after, 0, other * PAGE)
    if wish in (se.LZ4, se.ZSTD):
        return se.group(wish, [after])[0]
    return se.raw(after)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps)
def test_random_epochs_give_the_right_memory(epochs: Any) -> None:
    model: dict[int, bytes] = {}
    writer = Writer()
    for number, wanted in enumerate(epochs, start=1):
        contents: dict[int, Stored | None] = {}
        done: set[int] = set()
        for page, (content, wish) in sorted(wanted.items()):
            after = PALETTE[content]
            contents[page] = entry_of(page, after, wish, model, done)
            model[page] = after
            done.add(page)
        writer.begin(SEALED if number == len(epochs) else sb.FUZZY).stored(contents).finish()
    memory = Memory()
    assert decode(writer.end(), memory).loadable
    for page, content in model.items():
        assert memory.data[page * PAGE : (page + 1) * PAGE] == content


# ---- what is kept ----------------------------------------------------------


def test_contents_are_kept_where_something_rests_on_them() -> None:
    assert rests_on_contents(io.BytesIO(se.sample()))
    source = io.BytesIO(sb.encode(sb.sample()))
    source.seek(5)
    source.seek(0)
    assert not rests_on_contents(source)
    assert source.tell() == 0
    assert not rests_on_contents(io.BytesIO(b"PMIG" + bytes(30)))
    assert rests_on_contents(Trickle(b""))  # type: ignore[arg-type]


def test_contents_go_to_a_file_and_not_to_memory(tmp_path: Path) -> None:
    """64 MiB of pages that others rest on, within a few MiB."""
    writer = Writer((sb.Region(size=1 << 40),)).begin()
    for block in range(256):
        writer.stored({n: se.raw(sb.page_of(n)) for n in range(64)}, offset=block * BLOCK)
    writer.finish().begin(SEALED)
    for block in range(256):
        writer.stored({n: se.unchanged(sb.page_of(n)) for n in range(64)}, offset=block * BLOCK)
    path = tmp_path / "big.pmig"
    path.write_bytes(writer.finish().end())
    code = (
        "import sys; from pymigrate.cli import main; code = main(sys.argv[1:]);"
        "print(open('/proc/self/status').read(), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", "--json", str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"][1]["pages_by_encoding"]["unchanged"] == 256 * 64
    peak_kib = int(done.stderr.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 48 << 10


def test_full_disk_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer((sb.Region(size=1 << 30),)).begin()
    for block in range(64):
        writer.stored({n: se.raw(sb.page_of(n)) for n in range(64)}, offset=block * BLOCK)
    writer.finish().begin(SEALED).stored({0: se.unchanged(sb.page_of(0))}).finish()
    path = tmp_path / "big.pmig"
    path.write_bytes(writer.end())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, before[1]))
    try:
        assert main(["inspect", str(path)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot keep the pages" in capsys.readouterr().err


# ---- the command -----------------------------------------------------------


@pytest.fixture
def sample_file(tmp_path: Path) -> Path:
    path = tmp_path / "sample.pmig"
    path.write_bytes(se.sample())
    return path


def test_encodings_are_shown(sample_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(sample_file)]) == 0
    out = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "Encodings" in rows and "delta 1 136 B 136 B" in rows and "lz4 3" in " ".join(rows)
    assert "stale" in out and "Valid." in out
    assert max(map(len, out.splitlines())) <= 80


def test_streams_without_them_show_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "raw.pmig"
    path.write_bytes(sb.encode(sb.sample()))
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "Encodings" not in out and "stale" not in out


def test_extraction_builds_on_its_own_files(sample_file: Path, tmp_path: Path) -> None:
    assert main(["inspect", "--extract", str(tmp_path / "out"), str(sample_file)]) == 0
    ram = (tmp_path / "out" / "region-0-ram.bin").read_bytes()
    high = (tmp_path / "out" / "region-1-high.bin").read_bytes()
    assert ram.startswith(se.expected())
    assert high[BLOCK : BLOCK + 2 * PAGE] == A + C


def test_pipe_is_decoded_in_one_go(sample_file: Path) -> None:
    with sample_file.open("rb") as file:
        line = [sys.executable, "-m", "pymigrate", "inspect", "--json", "-"]
        done = subprocess.run(line, input=file.read(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loadable"] is True


def test_one_channel_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "channel.pmig"
    path.write_bytes(stale(channel=(1, 2)).end())
    assert main(["inspect", str(path)]) == 0
    assert "one channel of several" in capsys.readouterr().out

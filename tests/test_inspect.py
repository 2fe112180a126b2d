# SPDX-License-Identifier: Apache-2.0
"""The pure-Python decoder and its command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stream_builder as sb
from stream_builder import BLOCK, PAGE, SEALED, Writer
from stream_cases import Case, all_cases

from pymigrate.cli import main
from pymigrate.inspector import Decoder, EpochKind, StreamError, Summary

CASES = all_cases()


def decode(data: bytes) -> Summary:
    return Decoder(io.BytesIO(data)).run()


def test_sample_is_decoded() -> None:
    summary = decode(sb.encode(sb.sample()))
    assert summary.complete and summary.loadable
    assert [epoch.kind for epoch in summary.epochs] == [EpochKind.FUZZY, EpochKind.SEALED]
    assert [(e.pages, e.zero_pages, e.raw_pages) for e in summary.epochs] == [(4, 1, 3), (2, 1, 1)]
    assert summary.config == {"kind": "sample", "vcpus": 2}
    assert summary.state is not None
    assert [(i.name, i.version, i.skippable, i.size_bytes) for i in summary.state.items] == [
        ("kvm/vcpu0/regs", 3, False, 100),
        ("x", 1, True, 0),
    ]
    assert summary.skipped_frames == 1
    assert summary.frames == len(sb.sample())
    assert summary.bytes == len(sb.encode(sb.sample()))


def test_smallest_stream() -> None:
    summary = decode(Writer().end())
    assert summary.complete and not summary.loadable


def test_larger_minor_version_is_accepted() -> None:
    frames = [sb.stream(version=(1, 7)), sb.end(1)]
    assert decode(sb.encode(frames)).complete


def test_another_channel_carries_epochs_without_pages() -> None:
    writer = Writer(channel=(3, 4)).begin().finish().begin(SEALED).finish()
    assert [epoch.pages for epoch in decode(writer.end()).epochs] == [0, 0]


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    case: Case = CASES[name]
    with pytest.raises(StreamError) as caught:
        decode(case.data)
    assert case.reason in caught.value.reason
    assert 0 <= caught.value.offset <= len(case.data)


def test_bytes_after_end_are_refused() -> None:
    data = sb.encode(sb.sample())
    with pytest.raises(StreamError, match="after the END"):
        decode(data + b"\0")


def test_every_truncation_is_refused() -> None:
    data = sb.encode(sb.sample())
    for size in [*range(0, 700), *range(700, len(data), 61), len(data) - 1]:
        with pytest.raises(StreamError) as caught:
            decode(data[:size])
        assert "cut off" in caught.value.reason or "empty" in caught.value.reason


def suspect_stream(*, healed_by: bytes | None, healed: bool = True) -> bytes:
    """A page that changed while it was sent, and perhaps a newer version."""
    writer = Writer().begin().block({7: sb.page_of(1)}, hashes={7: 99}).finish()
    writer.begin(SEALED)
    if healed:
        writer.block({7: healed_by})
    return writer.finish().end()


@pytest.mark.parametrize("newer", [None, sb.page_of(2)])
def test_a_newer_version_heals_a_suspect_page(newer: bytes | None) -> None:
    first, last = decode(suspect_stream(healed_by=newer)).epochs
    assert (first.suspect_pages, first.suspect_pages_left) == (1, 1)
    assert (last.suspect_pages, last.suspect_pages_left) == (0, 0)


def test_a_suspect_page_that_is_left_is_corruption() -> None:
    with pytest.raises(StreamError, match=r"region 0 at offset 0x7000"):
        decode(suspect_stream(healed_by=None, healed=False))


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, 13))


def test_short_reads_are_completed() -> None:
    assert Decoder(Trickle(sb.encode(sb.sample()))).run().complete


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """64 MiB of pages and a region of 1 TiB are decoded within a few MiB."""
    writer = Writer((sb.Region(size=1 << 40),)).begin(SEALED)
    contents = {page: sb.page_of(page) for page in range(64)}
    for block in range(256):
        writer.block(contents, offset=block * BLOCK)
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
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"][0]["pages"] == 256 * 64
    peak_kib = int(done.stderr.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 40 << 10


# ---- the command ----------------------------------------------------------


@pytest.fixture
def sample_file(tmp_path: Path) -> Path:
    path = tmp_path / "sample.pmig"
    path.write_bytes(sb.encode(sb.sample()))
    return path


def test_table(sample_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(sample_file)]) == 0
    out = capsys.readouterr().out
    assert "kvm/vcpu0/regs" in out and "sealed" in out and "Valid." in out
    assert max(map(len, out.splitlines())) <= 80


def test_frames_are_listed(sample_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--frames", str(sample_file)]) == 0
    lines = capsys.readouterr().out.splitlines()[: len(sb.sample())]
    assert [line.split()[0] for line in lines] == [str(n) for n in range(len(sb.sample()))]
    assert lines[5].split()[2] == "PAGES" and "2 stored, 1 zero" in lines[5]


def test_json(sample_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", str(sample_file)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "pymigrate.inspect/1"
    assert report["valid"] is True and report["loadable"] is True
    assert report["frames_by_type"]["PAGES"] == 3


def test_an_error_names_the_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = CASES["digest"].data
    path = tmp_path / "broken.pmig"
    path.write_bytes(data)
    assert main(["inspect", "--json", str(path)]) == 1
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert data[error["offset"] :].startswith(b"PMIG")
    assert error["frame"] == 7
    assert f"at byte {error['offset']}, frame 7: EPOCH_END says digest" in captured.err


def test_garbage_is_refused_before_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/zero", "rb") as endless, pytest.raises(StreamError, match="not a pymigrate"):
        Decoder(endless).run()
    assert main(["inspect", "/dev/zero"]) == 1
    assert "not a pymigrate stream" in capsys.readouterr().err


def test_a_missing_file_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "/nonexistent"]) == 2
    assert "cannot open /nonexistent" in capsys.readouterr().err


def test_names_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pmig"
    path.write_bytes(Writer((sb.Region(b"\x1b[2J[bold]"),)).end())
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\\x1b[2J[bold]" in out


def test_extract(sample_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["inspect", "--extract", str(out), str(sample_file)]) == 0
    ram, high = out / "region-0-ram.bin", out / "region-1-high.bin"
    content = ram.read_bytes()
    expected = bytearray(4 * BLOCK)
    expected[PAGE : 2 * PAGE] = sb.page_of(4)
    expected[63 * PAGE : 64 * PAGE] = sb.page_of(2)
    assert content == expected
    assert high.stat().st_size == 2 * BLOCK - 5 * PAGE
    assert high.stat().st_blocks * 512 <= 16 * PAGE  # sparse
    names = sorted(path.name for path in (out / "state").iterdir())
    assert names == ["000-kvm-vcpu0-regs-v3.bin", "001-x-v1.bin"]
    assert (out / "state" / names[0]).read_bytes() == bytes(range(100))
    assert json.loads((out / "config.json").read_text())["vcpus"] == 2


def test_extract_never_leaves_or_overwrites_its_directory(
    sample_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "evil.pmig", tmp_path / "a" / "out"
    writer = Writer((sb.Region(b"../../up"),)).add(sb.state(sb.item(b"../../../up", b"1")))
    path.write_bytes(writer.end())
    assert main(["inspect", "--extract", str(out), str(path)]) == 0
    assert sorted(os.listdir(tmp_path)) == ["a", "evil.pmig", "sample.pmig"]
    assert sorted(os.listdir(out)) == ["region-0-up.bin", "state"]
    assert os.listdir(out / "state") == ["000-up-v1.bin"]
    assert main(["inspect", "--extract", str(out), str(sample_file)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_extract_of_an_impossible_region(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "huge.pmig"
    path.write_bytes(Writer((sb.Region(size=(1 << 64) - PAGE),)).end())
    assert main(["inspect", "--extract", str(tmp_path / "out"), str(path)]) == 1
    assert "region 0 of 18446744073709547520 bytes" in capsys.readouterr().err

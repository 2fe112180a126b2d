# SPDX-License-Identifier: Apache-2.0
"""The pure-Python decoder on streams whose pages come late."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import stream_builder as sb
import stream_late
import stream_pages as sp
from encoding_cases import REGIONS, A, B, C, wrong
from stream_builder import BLOCK, LATE, PAGE, SEALED, Writer
from stream_decoders import MemorySink
from stream_late import arrived, departed
from test_inspect import Trickle

from pymigrate.cli import main
from pymigrate.inspector import Decoder, EpochKind, StreamError, Summary

GOOD, BAD = stream_late.good_cases(), stream_late.bad_cases()


def decode(data: bytes, sink: MemorySink | None = None) -> Summary:
    return Decoder(io.BytesIO(data), sink).run()


@pytest.mark.parametrize("name", GOOD)
def test_taken(name: str) -> None:
    good, sink = GOOD[name], MemorySink()
    summary = decode(good.data, sink)
    assert summary.loadable and not summary.rests_on_others
    memory = b"".join(sink.memory)
    pages = [memory[at : at + PAGE] for at in range(0, len(memory), PAGE)]
    assert {n: page for n, page in enumerate(pages) if any(page)} == good.pages
    assert tuple(epoch.stale_pages_left for epoch in summary.epochs) == good.stale
    assert summary.epochs[-1].outstanding_pages == 0


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    case = BAD[name]
    with pytest.raises(StreamError) as caught:
        decode(case.data)
    assert case.reason in caught.value.reason


def test_figures_of_each_epoch() -> None:
    writer = departed({0: A, 1: B}, [7]).begin(LATE)
    writer.block({0: wrong(sp.delta(A, C)), 1: C, 2: None}).add(sb.served(5)).block({0: C, 9: A})
    summary = decode(writer.finish().end())
    first, sealed, late = summary.epochs
    assert [e.kind for e in summary.epochs] == [EpochKind.FUZZY, EpochKind.SEALED, EpochKind.LATE]
    assert (first.pages, sealed.pages, late.pages) == (2, 0, 5)
    assert (first.outstanding_pages, sealed.outstanding_pages) == (0, 3)
    assert (sealed.outstanding_frames, sealed.wire_bytes) == (1, 40 + 40 + 8)
    # A stale page is still outstanding, so nothing of it is left in the end.
    assert (late.stale_pages, late.stale_pages_left, late.outstanding_pages) == (1, 0, 0)
    assert summary.frames_by_type["OUTSTANDING"] == summary.frames_by_type["SERVED"] == 1
    assert summary.to_json()["epochs"][1]["outstanding_pages"] == 3


def test_a_pipe_is_as_good() -> None:
    data = GOOD["late, all encodings"].data
    assert Decoder(Trickle(data)).run().loadable


def test_bitmap_of_a_large_region_costs_what_it_names() -> None:
    """32,768 blocks are named in one frame of a few bytes."""
    region = sb.Region(size=(1 << 15) * BLOCK)
    masks = [0] * ((1 << 15) - 1) + [1 << 63]
    writer = Writer((region,)).begin(SEALED).outstanding(masks, squeeze=True).finish()
    writer.begin(LATE).block({63: A}, offset=((1 << 15) - 1) * BLOCK)
    summary = decode(writer.finish().end())
    assert summary.loadable and summary.epochs[0].outstanding_pages == 1
    assert summary.epochs[0].wire_bytes < 200


def test_more_blocks_than_a_frame_may_name() -> None:
    count = (1 << 15) + 1
    region = sb.Region(size=count * BLOCK)
    writer = Writer((region,)).begin(SEALED).outstanding([0] * count, squeeze=True).finish()
    with pytest.raises(StreamError, match=f"OUTSTANDING names {count} blocks"):
        decode(writer.end())


def test_bitmap_that_decompresses_to_more_than_it_may() -> None:
    frame = sb.outstanding(1, [0] * 64, squeeze=True, count=4)
    writer = Writer(REGIONS).begin(SEALED).add(frame)
    with pytest.raises(StreamError, match="the bitmap of OUTSTANDING"):
        decode(writer.finish().end())


# ---- the command -----------------------------------------------------------


def test_frames_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "late.pmig"
    path.write_bytes(GOOD["late, served"].data)
    assert main(["inspect", "--frames", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (named,) = [line for line in lines if " OUTSTANDING " in line]
    assert "region 0 +0x0, 1 blocks" in named
    (answer,) = [line for line in lines if " SERVED " in line]
    assert "after 5000 ns" in answer
    assert any("epoch 3, late" in line for line in lines)


def test_extracted_with_every_encoding(tmp_path: Path) -> None:
    good, path, out = GOOD["late, all encodings"], tmp_path / "late.pmig", tmp_path / "out"
    path.write_bytes(good.data)
    assert main(["inspect", "--extract", str(out), str(path)]) == 0
    memory = (out / "region-0-ram.bin").read_bytes()
    pages = {n: memory[n * PAGE : (n + 1) * PAGE] for n in range(4 * BLOCK // PAGE)}
    assert {n: page for n, page in pages.items() if any(page)} == good.pages


def test_a_stream_that_stops_before_its_pages_names_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "left.pmig"
    path.write_bytes(arrived({}, 0b1011, {0: A}))
    assert main(["inspect", "--json", str(path)]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert not report["complete"] and not report["loadable"]
    assert [epoch["outstanding_pages"] for epoch in report["epochs"]] == [0, 3, 2]
    assert "2 outstanding pages have not come, the first in region 0 at offset 0x1000" in (
        captured.err
    )

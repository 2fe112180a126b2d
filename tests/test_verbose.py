# SPDX-License-Identifier: Apache-2.0
"""What was chosen for a round, as it is reported and shown."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from pymigrate import Choice, Compression, Tuning
from pymigrate._encodings import encoding_facts
from pymigrate._engine import EpochKind, RoundStats
from pymigrate.cli.verbose import VerboseView, round_choices
from pymigrate.cli.views import PlainView

STATS = RoundStats(
    epoch=3,
    kind=EpochKind.FUZZY,
    dirty_pages=160,
    sent_pages=150,
    zero_pages=20,
    hole_pages=10,
    wire_bytes=100_000,
    duration_ns=10**9,
    harvest_ns=10**6,
    digest=7,
    pages_by_encoding=(10, 20, 30, 0, 0, 70, *[0] * 10),
    bytes_by_encoding=(40960, 0, 6000, 0, 0, 70_000, *[0] * 10),
    active_channels=2,
    compression=Compression.ZSTD,
    level=-3,
    zero_copy=False,
    link_bytes_per_s=117_000_000,
    encode_ns=400 * 10**6,
    blocked_ns=1500 * 10**6,
    delta_memory_bytes=16 << 20,
    held_pages=0,
    outstanding_pages=0,
)


def test_pages_are_counted_by_name() -> None:
    facts = encoding_facts(STATS, Tuning())
    assert facts["pages_by_encoding"] == {
        "raw": 10, "unchanged": 20, "delta": 30, "copy": 0, "lz4": 0, "zstd": 70,
        "zero": 20, "hole": 10,
    }  # fmt: skip
    assert facts["bytes_by_encoding"]["zstd"] == 70_000
    assert (facts["encode_ms"], facts["blocked_ms"]) == (400.0, 1500.0)


@pytest.mark.parametrize(
    ("changes", "tuning", "choice", "words"),
    [
        ({}, Tuning(), "compression", "zstd at level -3, by the cost model: workers encoded for"),
        ({}, Tuning(), "compression", "the link carries 117 MB/s"),
        ({"link_bytes_per_s": 0}, Tuning(), "compression", "the link was never the limit"),
        ({}, Tuning(compression=Compression.ZSTD), "compression", "zstd at level -3, as asked"),
        ({}, Tuning(), "delta", "on, by measurement: fingerprints take 16.0 MiB"),
        ({}, Tuning(delta=Choice.ON), "delta", "on, as asked for"),
        ({}, Tuning(delta=Choice.OFF), "delta", "off, as asked for"),
        ({"delta_memory_bytes": 0}, Tuning(), "delta", "off, by measurement: no fingerprints"),
        ({}, Tuning(), "zero copy", "off, by the engine"),
        ({}, Tuning(zero_copy=Choice.ON), "zero copy", "off, although it was asked for"),
        ({"zero_copy": True}, Tuning(zero_copy=Choice.ON), "zero copy", "on, as asked for"),
        ({}, Tuning(), "channels", "2 in use, by measurement"),
        ({}, Tuning(active_channels=2), "channels", "2 in use, as asked for"),
        ({}, Tuning(bandwidth_limit_bytes_per_s=1 << 20), "bandwidth limit", "1.0 MiB/s"),
    ],
)
def test_choices_have_reasons(
    changes: dict[str, Any], tuning: Tuning, choice: str, words: str
) -> None:
    assert words in encoding_facts(replace(STATS, **changes), tuning)["choices"][choice]


def shown(**changes: Any) -> str:
    """What a log gets of a round."""
    out = io.StringIO()
    view = VerboseView(PlainView(out), Console(file=out, width=80))
    view.round(
        {
            "kind": "fuzzy", "epoch": 3, "wire_bytes": 100_000, "duration_ms": 1000.0,
            "pending_pages": 5, "predicted_downtime_ms": 4.0, "decision": "continue",
            "reason": "another [round] should halve 4.0 ms", "stale_pages": 0,
            **encoding_facts(STATS, Tuning()), **changes,
        }
    )  # fmt: skip
    view.close()
    assert max(map(len, out.getvalue().splitlines())) <= 80
    return out.getvalue()


def test_round_is_explained() -> None:
    rows = [" ".join(line.split()) for line in shown().splitlines()]
    assert rows[0].startswith("round 3: 97.7 KiB in 1.00 s")
    assert "raw 10 0.062 40.0 KiB 4.0 KiB" in rows
    assert "delta 30 0.188 5.9 KiB 200 B" in rows
    # Nothing is shown as 100 % before it is all over.
    assert not any("%" in row for row in rows)
    assert not any(row.startswith(("copy", "lz4")) for row in rows)
    assert "channels: 2 in use, by measurement" in rows
    assert "continue: another [round] should halve 4.0 ms" in rows
    assert "again" not in rows[-1]


def test_pages_asked_for_again_are_told() -> None:
    assert "the destination asked for 1,234 pages again" in shown(stale_pages=1234)


def test_round_without_pages_has_no_table() -> None:
    out = shown(pages_by_encoding={"raw": 0, "hole": 0}, bytes_by_encoding={"raw": 0, "hole": 0})
    assert "encoding" not in out and "channels: 2 in use" in out


def test_what_waits_and_who_is_slowed_is_told() -> None:
    plain: dict[str, Any] = {"choices": {}, "reason": "", "stale_pages": 0}
    assert round_choices(plain) == []
    assert round_choices({**plain, "held_pages": 6000, "throttle_percent": 30}) == [
        "6,000 hot pages wait for the last round",
        "the guest was throttled by 30%",
    ]

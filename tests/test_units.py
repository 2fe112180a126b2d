# SPDX-License-Identifier: Apache-2.0
"""Sizes, rates and times, as people write and read them."""

from __future__ import annotations

import argparse

import pytest

from pymigrate.cli.units import (
    parse_duration_ms,
    parse_rate,
    parse_size,
    rate_words,
    size_words,
    time_words,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512K", 512 << 10), ("64M", 64 << 20), ("1GiB", 1 << 30), ("2tb", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "64Q", "1 2", "0x10", "64MBit"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("1gbit", 10**9), ("100Mbit/s", 10**8), ("2.5gbit", 2_500_000_000)]
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "1g", "0gbit", "-1gbit", "1GB", "fast"])
def test_not_rates(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a link rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "ms"), [("30", 30_000), ("1.5s", 1500), ("500ms", 500), ("2m", 120_000)]
)
def test_durations(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "1h", "soon"])
def test_not_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a duration"):
        parse_duration_ms(text)


def test_words() -> None:
    assert [size_words(n) for n in (0, 1023, 1024, 1 << 20, 1 << 30, 1 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 GiB", "1.0 TiB",
    ]  # fmt: skip
    assert [time_words(ms) for ms in (0.5, 42.0, 999, 1000, 150_000)] == [
        "0.50 ms", "42.0 ms", "999 ms", "1.00 s", "2 min 30 s",
    ]  # fmt: skip
    assert [rate_words(bits) for bits in (0, 958e6, 1e9, 12.34e9)] == [
        "0 bit/s", "958 Mbit/s", "1.00 Gbit/s", "12.3 Gbit/s",
    ]  # fmt: skip

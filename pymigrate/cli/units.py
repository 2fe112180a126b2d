# SPDX-License-Identifier: Apache-2.0
"""Sizes, rates and times, as people write and read them.

Sizes are binary whatever they are called (64M, 64MB and 64MiB are the same
67,108,864 bytes); link rates are decimal bits per second, as everywhere.
"""

from __future__ import annotations

import argparse
import re

from pymigrate.page.words import (
    count_words,
    micro_words,
    page_words,
    rate_words,
    size_words,
    time_words,
)

__all__ = [
    "count_words",
    "micro_words",
    "page_words",
    "parse_count",
    "parse_duration_ms",
    "parse_rate",
    "parse_size",
    "rate_words",
    "size_words",
    "time_words",
]

_SIZE = re.compile(r"(\d+)\s*(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)bit(?:/s|ps)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min)?", re.IGNORECASE)
_SIZE_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_RATE_FACTOR = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_MS_FACTOR = {"ms": 1.0, "s": 1e3, "": 1e3, "m": 6e4, "min": 6e4}


def parse_size(text: str) -> int:
    """Bytes of ``64M``, ``1G``, ``4KiB``, ``4096``."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: write it like 4096, 512K, 64M or 1G"
        )
    return int(match[1]) * _SIZE_FACTOR[(match[2] or "").lower()]


def parse_rate(text: str) -> int:
    """Bits per second of ``1gbit``, ``100mbit``, ``2.5gbit``."""
    match = _RATE.fullmatch(text.strip())
    rate = int(float(match[1]) * _RATE_FACTOR[match[2].lower()]) if match else 0
    if rate <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a link rate: write it like 100mbit, 1gbit or 2.5gbit"
        )
    return rate


def parse_duration_ms(text: str) -> int:
    """Milliseconds of ``30``, ``30s``, ``500ms``, ``2m``."""
    match = _DURATION.fullmatch(text.strip())
    value = int(float(match[1]) * _MS_FACTOR[(match[2] or "").lower()]) if match else 0
    if value <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration: write it like 30s, 500ms or 2m"
        )
    return value


def parse_count(text: str) -> int:
    """A whole number from 1 on."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return value

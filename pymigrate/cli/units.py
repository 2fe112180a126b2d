# SPDX-License-Identifier: Apache-2.0
"""Sizes, rates and times, as people write and read them.

Sizes are binary whatever they are called (64M, 64MB and 64MiB are the same
67,108,864 bytes); link rates are decimal bits per second, as everywhere.
"""

from __future__ import annotations

import argparse
import re

__all__ = [
    "count_words",
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


def size_words(n_bytes: float) -> str:
    """``64.0 MiB``; whole bytes below 1 KiB."""
    if n_bytes < 1024:
        return f"{n_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        n_bytes /= 1024
        if n_bytes < 1023.95:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:.1f} TiB"


def rate_words(bits_per_s: float) -> str:
    """``958 Mbit/s``, ``12.3 Gbit/s``."""
    for factor, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits_per_s >= 0.9995 * factor:
            value = bits_per_s / factor
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
    return f"{bits_per_s:.0f} bit/s"


def time_words(ms: float) -> str:
    """``7.42 ms``, ``310 ms``, ``8.31 s``, ``2 min 5 s``."""
    if ms < 99.95:
        return f"{ms:.2f} ms" if ms < 9.995 else f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 119_995:
        return f"{ms / 1e3:.2f} s"
    minutes, seconds = divmod(round(ms / 1e3), 60)
    return f"{minutes} min {seconds} s"


def count_words(count: int) -> str:
    """``262,144``."""
    return f"{count:,}"

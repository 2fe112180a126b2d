# SPDX-License-Identifier: Apache-2.0
"""Sizes, rates, times and counts as people read them. Sizes are binary."""

from __future__ import annotations

from html import escape

__all__ = [
    "PAGE_BYTES",
    "count_words",
    "markup",
    "micro_words",
    "page_words",
    "rate_words",
    "size_words",
    "time_words",
    "visible",
]

PAGE_BYTES = 4096


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


def micro_words(us: float) -> str:
    """``8.2 us``, ``310 us``, and from 1 ms on as time_words()."""
    if us < 9.95:
        return f"{us:.1f} us"
    return f"{us:.0f} us" if us < 999.5 else time_words(us / 1e3)


def count_words(count: int) -> str:
    """``262,144``."""
    return f"{count:,}"


def page_words(pages: int) -> str:
    """``1 page``, ``12,345 pages (48.2 MiB)``."""
    if pages == 1:
        return "1 page"
    return f"{count_words(pages)} pages" + (f" ({size_words(pages * PAGE_BYTES)})" if pages else "")


def visible(text: str) -> str:
    """Text from a stream or a peer, without characters that control anything."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def markup(text: str) -> str:
    """Any text, as it is written within HTML and SVG."""
    return escape(visible(text))

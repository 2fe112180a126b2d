# SPDX-License-Identifier: Apache-2.0
"""The values of the tuning options, as people write and read them.

They are the same on the command line (``--compress zstd:3``) and while a
migration runs (``compress=zstd:3``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pymigrate.cli.units import parse_count, parse_size
from pymigrate.tuning import MAX_CHANNELS, Choice, Compression, Tuning

__all__ = [
    "TuneAfter",
    "compression_words",
    "parse_channels",
    "parse_choice",
    "parse_compression",
    "parse_cpus",
    "parse_delta_memory",
    "parse_limit",
    "parse_tune_after",
    "parse_tuning",
]

_MAX_CPU = 1 << 16

Level = tuple[Compression, int]


@dataclass(frozen=True)
class TuneAfter:
    """A change of the tuning that follows a round.

    :ivar changes: like ``("compress=zstd:3", "delta=off")``.
    """

    round: int
    changes: tuple[str, ...]


def parse_compression(text: str) -> Level:
    """``auto``, ``none``, ``lz4``, ``lz4:8``, ``zstd``, ``zstd:-5``."""
    name, colon, level = text.partition(":")
    try:
        compression, value = Compression(name), int(level) if colon else 0
        Tuning(compression=compression, compression_level=value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no compression: write auto, none, lz4[:1 to 64] or zstd[:-50 to 19]"
        ) from None
    return compression, value


def compression_words(compression: Compression, level: int) -> str:
    """What parse_compression() reads."""
    return f"{compression.value}:{level}" if level else compression.value


def parse_choice(text: str) -> Choice:
    """``auto``, ``on``, ``off``."""
    try:
        return Choice(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto, on nor off") from None


def parse_channels(text: str) -> int | None:
    """``auto`` or a number up to 64; None stands for auto."""
    if text == "auto":
        return None
    value = parse_count(text)
    if value > MAX_CHANNELS:
        raise argparse.ArgumentTypeError(f"{text} channels are more than {MAX_CHANNELS}")
    return value


def parse_limit(text: str) -> int | None:
    """Bytes per second of ``100`` (MiB/s), ``512K``, ``1G``; None for ``off``."""
    if text == "off":
        return None
    value = parse_size(f"{text}M" if text.strip().isdigit() else text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not a limit: write MiB per second, or off")
    return value


def parse_delta_memory(text: str) -> int:
    """Bytes; 0 for ``off``."""
    if text == "off":
        return 0
    value = parse_size(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory: write a size, or off")
    return value


def parse_cpus(text: str) -> tuple[int, ...]:
    """``0,2-3`` as (0, 2, 3)."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise _no_cpus(text)
        low, high = int(first), int(last or first)
        if not low <= high < _MAX_CPU:
            raise _no_cpus(text)
        found += range(low, high + 1)
    return tuple(sorted(set(found)))


def _no_cpus(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} is no list of processors: write it like 0,2-3")


def _compress(text: str) -> Mapping[str, Any]:
    compression, level = parse_compression(text)
    return {"compression": compression, "compression_level": level}


_KEYS: Mapping[str, Callable[[str], Mapping[str, Any]]] = {
    "compress": _compress,
    "delta": lambda text: {"delta": parse_choice(text)},
    "zero-copy": lambda text: {"zero_copy": parse_choice(text)},
    "bandwidth-limit": lambda text: {"bandwidth_limit_bytes_per_s": parse_limit(text)},
    "channels": lambda text: {"active_channels": parse_channels(text)},
}


def parse_tuning(before: Tuning, changes: Sequence[str]) -> Tuning:
    """A tuning with some values changed.

    :param changes: like ``compress=zstd:3``.
    :raises argparse.ArgumentTypeError: one of them means nothing.
    """
    values: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or key not in _KEYS:
            keys = ", ".join(_KEYS)
            raise argparse.ArgumentTypeError(f"{change!r} is not KEY=VALUE with a KEY of: {keys}")
        values |= _KEYS[key](text)
    return replace(before, **values)


def parse_tune_after(text: str) -> TuneAfter:
    """``2:compress=zstd:3,delta=off``: after round 2."""
    number, _, changes = text.partition(":")
    if not changes:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROUND:KEY=VALUE[,KEY=VALUE]")
    after = TuneAfter(parse_count(number), tuple(changes.split(",")))
    parse_tuning(Tuning(), after.changes)
    return after

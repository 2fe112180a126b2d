# SPDX-License-Identifier: Apache-2.0
"""The options that say how pages are made small and sent."""

from __future__ import annotations

import argparse
from typing import Any

from pymigrate.cli.tuning_values import (
    compression_words,
    parse_channels,
    parse_choice,
    parse_compression,
    parse_cpus,
    parse_delta_memory,
    parse_limit,
    parse_tune_after,
)
from pymigrate.tuning import Choice

__all__ = ["add_cpus_option", "add_tuning_options", "tuning_values", "tuning_words"]


def add_tuning_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; all have defaults."""
    group = parser.add_argument_group(
        "how pages are sent", "Chosen by measurement, and again whenever it changes, unless given."
    )
    group.add_argument(
        "--compress",
        type=parse_compression,
        default="auto",
        metavar="auto|none|lz4[:ACCEL]|zstd[:LEVEL]",
        help="of pages that are sent whole; ACCEL is 1 to 64, LEVEL -50 to 19",
    )
    _add_choice(group, "--delta", "send only the lines that changed of a page sent before")
    group.add_argument(
        "--delta-memory",
        type=parse_delta_memory,
        metavar="SIZE|off",
        help="for the fingerprints that find those lines (default: a 16th of guest memory)",
    )
    _add_choice(group, "--zero-copy", "send raw pages without copying them into the kernel")
    group.add_argument(
        "--bandwidth-limit",
        type=parse_limit,
        metavar="SIZE|off",
        help="per second, in MiB unless it has a suffix (default: off)",
    )
    group.add_argument(
        "--channels",
        type=parse_channels,
        metavar="N|auto",
        help="data connections, all in use (default: auto: one for each processor, 2 to 8, as "
        "many in use as help)",
    )
    add_cpus_option(group)
    group.add_argument(
        "--tune-after",
        type=parse_tune_after,
        action="append",
        default=[],
        metavar="ROUND:KEY=VALUE[,KEY=VALUE]",
        help="change these options after a round; keys: compress, delta, zero-copy, "
        "bandwidth-limit, channels (in use)",
    )
    group.add_argument(
        "--verbose", action="store_true", help="show what was chosen for every round, and why"
    )


def add_cpus_option(parser: Any) -> None:
    """On which processors pages are moved; concerns both sides."""
    parser.add_argument(
        "--cpus",
        type=parse_cpus,
        default=(),
        metavar="LIST",
        help="processors for the threads that move pages, like 0,2-3 (default: any)",
    )


def _add_choice(group: Any, name: str, meaning: str) -> None:
    group.add_argument(name, type=parse_choice, default="auto", metavar="auto|on|off", help=meaning)


def tuning_values(args: argparse.Namespace) -> dict[str, Any]:
    """The members of Options that the options give."""
    compression, level = args.compress
    return {
        "channels": args.channels,
        "compression": compression,
        "compression_level": level,
        "delta": args.delta,
        "delta_memory_bytes": args.delta_memory,
        "zero_copy": args.zero_copy,
        "bandwidth_limit_bytes_per_s": args.bandwidth_limit,
        "cpus": args.cpus,
    }


def tuning_words(args: argparse.Namespace) -> list[str]:
    """The same options for another command line."""
    words = [f"--compress={compression_words(*args.compress)}"]
    words += _choice_words("--delta", args.delta) + _choice_words("--zero-copy", args.zero_copy)
    if args.delta_memory is not None:
        words.append(f"--delta-memory={args.delta_memory or 'off'}")
    if args.bandwidth_limit is not None:
        words.append(f"--bandwidth-limit={args.bandwidth_limit}b")
    if args.channels is not None:
        words.append(f"--channels={args.channels}")
    if args.cpus:
        words.append("--cpus=" + ",".join(str(cpu) for cpu in args.cpus))
    for after in args.tune_after:
        words.append(f"--tune-after={after.round}:{','.join(after.changes)}")
    return words


def _choice_words(name: str, choice: Choice) -> list[str]:
    return [f"{name}={choice.value}"]

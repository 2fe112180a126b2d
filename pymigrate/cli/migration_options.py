# SPDX-License-Identifier: Apache-2.0
"""The options that say how a guest is sent."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.guest_options import TRACKERS
from pymigrate.cli.tuning_options import add_tuning_options, tuning_values
from pymigrate.cli.units import parse_duration_ms

if TYPE_CHECKING:
    from pymigrate.options import Options

__all__ = ["add_migration_options", "migration_options"]


def add_migration_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; all have defaults."""
    group = parser.add_argument_group("the migration")
    group.add_argument(
        "--tracker",
        choices=TRACKERS,
        default="auto",
        help="how dirty pages are found (default: auto, the best that works)",
    )
    group.add_argument(
        "--downtime-limit-ms",
        type=_milliseconds,
        default=300.0,
        metavar="MS",
        help="never switch over when more is predicted (default: 300)",
    )
    group.add_argument(
        "--verify", action="store_true", help="compare every page before the handover"
    )
    group.add_argument(
        "--timeout",
        type=parse_duration_ms,
        metavar="TIME",
        help="cancel after this long, like 30s (default: never)",
    )
    add_tuning_options(parser)


def migration_options(args: argparse.Namespace) -> Options:
    """The options of a source.

    :raises CommandError: they contradict each other.
    """
    from pymigrate._engine import TrackerKind
    from pymigrate.options import Options
    from pymigrate.policy import PolicyOptions

    try:
        return Options(
            tracker=TrackerKind(args.tracker),
            policy=PolicyOptions(downtime_limit_ms=args.downtime_limit_ms),
            verify=args.verify,
            **tuning_values(args),
        )
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds above 0")
    return value

# SPDX-License-Identifier: Apache-2.0
"""The options that say how a guest is sent."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.guest_options import TRACKERS
from pymigrate.cli.policy_options import add_policy_options, add_post_copy_option, policy_options
from pymigrate.cli.tuning_options import add_tuning_options, tuning_values
from pymigrate.cli.units import parse_duration_ms

if TYPE_CHECKING:
    from pymigrate.options import Options

__all__ = ["add_migration_options", "add_recover_option", "migration_options", "recover_values"]


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
        "--verify", action="store_true", help="compare every page before the handover"
    )
    group.add_argument(
        "--timeout",
        type=parse_duration_ms,
        metavar="TIME",
        help="cancel after this long, like 30s (default: never)",
    )
    add_post_copy_option(group)
    add_recover_option(group)
    add_policy_options(parser)
    add_tuning_options(parser)


def add_recover_option(group: Any) -> None:
    """How long the other side is looked for; concerns both sides."""
    group.add_argument(
        "--recover-timeout",
        type=parse_duration_ms,
        metavar="TIME",
        help="the guest has moved, pages of it are missing, and the other side is out of reach: "
        "how long to look for it (default: 5m)",
    )


def recover_values(args: argparse.Namespace) -> dict[str, Any]:
    """The members of Options that --recover-timeout gives."""
    limit_ms = args.recover_timeout
    return {} if limit_ms is None else {"recover_timeout_ms": limit_ms}


def migration_options(args: argparse.Namespace) -> Options:
    """The options of a source.

    :raises CommandError: they contradict each other.
    """
    from pymigrate._engine import TrackerKind
    from pymigrate.options import Options

    try:
        return Options(
            tracker=TrackerKind(args.tracker),
            policy=policy_options(args),
            verify=args.verify,
            **recover_values(args),
            **tuning_values(args),
        )
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error

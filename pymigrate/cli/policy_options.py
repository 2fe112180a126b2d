# SPDX-License-Identifier: Apache-2.0
"""The options that say when to switch over, and --trace."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pymigrate.cli.units import parse_duration_ms

if TYPE_CHECKING:
    from pymigrate.policy import PolicyOptions

__all__ = [
    "add_policy_options",
    "add_post_copy_option",
    "add_trace_option",
    "policy_options",
    "policy_words",
    "write_trace",
]

_POLICIES = ("downtime", "time-budget", "minimal-traffic")
_POST_COPY = ("never", "auto", "after-first-round", "now")
_MAX_THROTTLE_PERCENT = 99


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; all have defaults. What a replay knows is among them."""
    group = parser.add_argument_group("when to switch over")
    group.add_argument(
        "--policy",
        choices=_POLICIES,
        help="what to aim at within the downtime limit: little downtime for little time "
        "(downtime, the default), the least downtime in a given time, or the fewest bytes",
    )
    group.add_argument(
        "--downtime-limit-ms",
        type=_milliseconds,
        default=300.0,
        metavar="MS",
        help="never switch over when more is predicted (default: 300)",
    )
    group.add_argument(
        "--time-budget",
        type=parse_duration_ms,
        metavar="TIME",
        help="all is to be over by then, like 30s; means --policy time-budget",
    )
    group.add_argument(
        "--throttle",
        type=_percent,
        default=0,
        metavar="PERCENT|off",
        help="before giving up, keep the guest from running for up to so much of its time "
        "(default: off)",
    )


def add_post_copy_option(parser: Any) -> None:
    """For commands that migrate."""
    parser.add_argument(
        "--post-copy",
        choices=_POST_COPY,
        help="let the guest move before its pages, which then follow it: where no number of "
        "rounds would bring the downtime within its limit (auto), after the first round, before "
        "any round (now), or never (default: never)",
    )


def add_trace_option(group: Any) -> None:
    """For commands that migrate."""
    group.add_argument(
        "--trace",
        metavar="FILE|-",
        help="record the rounds for `pymigrate simulate`",
    )


def policy_options(args: argparse.Namespace) -> PolicyOptions:
    """What the options say.

    :raises CommandError: they contradict each other.
    """
    from pymigrate.policy import PolicyKind, PolicyOptions, PostCopy

    post_copy = PolicyOptions.post_copy if args.post_copy is None else PostCopy(args.post_copy)
    return PolicyOptions(
        policy=PolicyKind(_policy(args)),
        downtime_limit_ms=args.downtime_limit_ms,
        time_budget_ms=args.time_budget,
        throttle_percent=args.throttle,
        post_copy=post_copy,
    )


def policy_words(args: argparse.Namespace) -> list[str]:
    """The same options for a child's command line."""
    words = ["--policy", _policy(args), "--downtime-limit-ms", str(args.downtime_limit_ms)]
    words += ["--time-budget", f"{args.time_budget}ms"] if args.time_budget else []
    words += ["--throttle", str(args.throttle)] if args.throttle else []
    return words + (["--post-copy", args.post_copy] if args.post_copy else [])


def write_trace(target: str, report: Mapping[str, Any]) -> None:
    """Write the trace of a report.

    :raises TraceError: no round was finished.
    """
    from pymigrate.cli.console import write_json
    from pymigrate.simulation import trace_of

    write_json(target, trace_of(report).to_dict())


def _policy(args: argparse.Namespace) -> str:
    from pymigrate.cli.exits import CommandError, Exit

    budget = args.time_budget is not None
    policy = str(args.policy or ("time-budget" if budget else "downtime"))
    if budget and policy != "time-budget":
        raise CommandError(f"--policy {policy} takes no --time-budget", Exit.USAGE)
    if policy == "time-budget" and not budget:
        raise CommandError("--policy time-budget needs --time-budget, like 30s", Exit.USAGE)
    return policy


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds above 0")
    return value


def _percent(text: str) -> int:
    if text == "off":
        return 0
    value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= _MAX_THROTTLE_PERCENT:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a percentage from 1 to 99 nor 'off'")
    return value

# SPDX-License-Identifier: Apache-2.0
"""``pymigrate recover``: have a running ``send`` look for its destination again."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING, Any

from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.output import add_output_options, check_outputs, write_outputs

if TYPE_CHECKING:
    from pymigrate.addresses import Address
    from pymigrate.cli.views import View

__all__ = ["add_parser"]

_EPILOG = """\
PATH is that of `pymigrate send --control PATH`, whose guest has moved while
pages of it have not, because the destination is out of reach. What it still
tries is waited for; where it has ended, another attempt is made. The exit code
is that of the migration: 0 once the last page has arrived, 4 where pages are
still missing, and kept for another attempt. It is 2 where nobody listens at
PATH or nothing is to be recovered. An interrupt ends the wait, and not the
attempt.

examples:
  pymigrate send tcp:192.0.2.7:4444 --post-copy auto --control /run/guest.ctl
  pymigrate recover /run/guest.ctl
  pymigrate recover /run/guest.ctl --to tcp:198.51.100.7:4444
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "recover",
        help="have a running send try again to bring missing pages",
        description="Have a running send try again to bring pages that its guest misses.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="the control socket of the send")
    parser.add_argument(
        "--to",
        metavar="ADDRESS",
        help="where the destination is reached from now on (default: where it was)",
    )
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, wait, and show the report; the exit code is that of the report."""
    from pymigrate.cli.views import make_view

    check_outputs(args)
    target = _address(args.to)
    with contextlib.closing(make_view()) as view:
        report, code = _recover(args.path, target, view)
    write_outputs(args, report)
    if args.json != "-":
        _show(report, args.path)
    return code


def _address(text: str | None) -> Address | None:
    from dataclasses import replace

    from pymigrate.addresses import Scheme, parse_address
    from pymigrate.errors import AddressError

    if text is None:
        return None
    try:
        address = parse_address(text)
    except AddressError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    if not address.is_socket:
        raise CommandError(f"no guest runs at {address}: give tcp:HOST:PORT", Exit.USAGE)
    if address.scheme is Scheme.UNIX:
        # The other process may live in another directory.
        return replace(address, path=os.path.abspath(address.path))
    return address


def _recover(path: str, target: Address | None, view: View) -> tuple[dict[str, Any], int]:
    """The report of the attempt, and its exit code."""
    from pymigrate.cli.control import ask
    from pymigrate.cli.views import LateLive

    for event in ask(path, target):
        if event["event"] == "note":
            view.note(event["text"])
        elif event["event"] == "state":
            view.state(event["state"])
        elif event["event"] == "late":
            view.late(LateLive(**event["late"]))
        elif event["event"] == "refused":
            raise CommandError(event["message"], Exit.USAGE)
        elif event["event"] == "report":
            return event["report"], event["exit_code"]
    raise CommandError(f"the send at {path} ended before it answered", Exit.OPERATOR)


def _show(report: dict[str, Any], path: str) -> None:
    from pymigrate.cli.render import show_report
    from pymigrate.report import Outcome

    hint = ""
    if report["outcome"] == Outcome.INCOMPLETE.value:
        hint = (
            f"As long as the send at {path} lives they can be recovered: bring the destination "
            "within its reach and try again, with --to if the address is another one now."
        )
    show_report(report, hint=hint)

# SPDX-License-Identifier: Apache-2.0
"""The options that say where a report goes, and what is made of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pymigrate.cli.console import check_json_path, write_json, write_text
from pymigrate.cli.exits import CommandError, Exit

__all__ = ["add_output_options", "check_outputs", "write_outputs"]

Json = Mapping[str, Any]


def add_output_options(group: Any) -> None:
    """For every command that ends with a report."""
    group.add_argument("--json", metavar="FILE|-", help="write the report as JSON")
    group.add_argument(
        "--html",
        metavar="FILE",
        help="write it as one HTML page with pictures, which needs nothing else",
    )


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse what could not be written, before the work begins.

    :raises CommandError: it could not.
    """
    check_json_path(args.json)
    check_json_path(args.html)
    if args.html == "-":
        raise CommandError("--html needs the name of a file", Exit.USAGE)


def write_outputs(args: argparse.Namespace, document: Json, runs: Sequence[Json] = ()) -> None:
    """Write the files that were asked for.

    :param document: as JSON.
    :param runs: the reports in it, where it is not one itself.
    """
    if args.json:
        write_json(args.json, document)
    if args.html:
        from pymigrate.page.report import report_page

        write_text(args.html, report_page(runs or [document]))

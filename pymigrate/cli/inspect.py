# SPDX-License-Identifier: Apache-2.0
"""``pymigrate inspect``: decode a stream and say what is in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pymigrate.cli.exits import CommandError, Exit

__all__ = ["add_parser"]

_EPILOG = """\
The stream is read once, front to back, and everything in it is verified:
checksums, sequence, order, limits, the hash of every page and of every blob,
the counts and the digest of every epoch. The first error ends the command
with exit code 1 and the byte offset of the frame.

examples:
  pymigrate inspect guest.pmig
  pymigrate inspect --frames guest.pmig | less
  pymigrate inspect --json - <guest.pmig
  pymigrate inspect --extract out/ guest.pmig
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "inspect",
        help="decode and verify a stream file",
        description="Decode and verify a stream file, and say what is in it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE|-", nargs="?", default="-", help="default: stdin")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout")
    parser.add_argument("--frames", action="store_true", help="list every frame as it is read")
    parser.add_argument(
        "--extract",
        metavar="DIR",
        type=Path,
        help="write regions (sparse), config and state into a new or empty directory",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode; 0 when the stream is valid, 1 when not."""
    # The decoder is a quarter of what all commands would load.
    from pymigrate.cli.inspect_run import inspect_stream

    if args.json and args.frames:
        raise CommandError("--json and --frames exclude each other", Exit.USAGE)
    return inspect_stream(args)

# SPDX-License-Identifier: Apache-2.0
"""``pymigrate page-server``: give the pages of a memory file to others."""

from __future__ import annotations

import argparse
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.tuning_options import add_cpus_option
from pymigrate.cli.tuning_values import parse_compression, parse_limit
from pymigrate.cli.units import count_words, size_words, time_words
from pymigrate.cli.views import PlainView

if TYPE_CHECKING:
    from pymigrate.options import Options
    from pymigrate.page_server import SessionReport

__all__ = ["add_parser"]

_EPILOG = """\
Serves any number of `pymigrate uffd-handler --memory URL` at once, until it is
interrupted. FILE must not be changed meanwhile.

Nobody is authenticated and nothing is encrypted: listen on an address that
only those can reach who may read the guest's memory.

examples:
  pymigrate page-server --memory /snapshots/vm1.mem --listen tcp:192.0.2.7:4450
  pymigrate page-server --memory vm1.mem --listen unix:/run/vm1.pages
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "page-server",
        help="give the pages of a memory file to handlers of page faults",
        description="Give the pages of a snapshot's memory file to handlers of page faults on "
        "other hosts, compressed: those they ask for at once, and the rest after them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--memory", required=True, metavar="FILE", help="the memory file")
    parser.add_argument(
        "--listen", required=True, metavar="ADDRESS", help="tcp:HOST:PORT or unix:PATH"
    )
    parser.add_argument(
        "--working-set",
        metavar="PATH",
        help="pages to send first to whoever names none (default: FILE.ws where there is one)",
    )
    parser.add_argument(
        "--compress",
        type=parse_compression,
        default="auto",
        metavar="auto|none|lz4[:ACCEL]|zstd[:LEVEL]",
        help="ACCEL is 1 to 64, LEVEL -50 to 19 (default: auto, by measurement)",
    )
    parser.add_argument(
        "--bandwidth-limit",
        type=parse_limit,
        metavar="SIZE|off",
        help="per second and client, in MiB unless it has a suffix (default: off)",
    )
    add_cpus_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until an interrupt, which is how it ends."""
    from pymigrate.errors import AddressError
    from pymigrate.page_server import PageServer

    view = PlainView()

    def tell(report: SessionReport) -> None:
        view.note(_words(report))

    try:
        server = PageServer(
            args.memory,
            args.listen,
            _options(args),
            working_set_path=args.working_set,
            on_end=tell,
        )
    except AddressError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    except OSError as error:
        place = error.filename or args.listen
        raise CommandError(f"{place}: {error.strerror or error}", Exit.USAGE) from error
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(server):
        view.note(f"serving {args.memory} on {server.address}")
        threading.Event().wait()
    return Exit.DONE


def _options(args: argparse.Namespace) -> Options:
    from pymigrate.options import Options

    compression, level = args.compress
    try:
        return Options(
            compression=compression,
            compression_level=level,
            bandwidth_limit_bytes_per_s=args.bandwidth_limit,
            cpus=args.cpus,
        )
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def _words(report: SessionReport) -> str:
    words = (
        f"sent {count_words(report.sent_pages)} of {count_words(report.missing_pages)} pages, "
        f"{count_words(report.answered_pages)} because they were asked for, in "
        f"{size_words(report.wire_bytes)} and {time_words(report.duration_ms)}"
    )
    return f"{words}: {report.error}" if report.error else words

# SPDX-License-Identifier: Apache-2.0
"""``pymigrate uffd-handler``: handle a VMM's page faults from its memory file."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from pymigrate.cli.console import check_json_path, say_error, write_json
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.tuning_options import add_cpus_option
from pymigrate.cli.tuning_values import parse_channels
from pymigrate.cli.units import count_words, parse_duration_ms, parse_size, time_words
from pymigrate.cli.views import PlainView

if TYPE_CHECKING:
    from pymigrate.options import Options
    from pymigrate.report import FaultReport, LatencyReport
    from pymigrate.uffd_handler import HandlerOptions, HandlerReport, Supply
    from pymigrate.uffd_handler.supply import Note

__all__ = ["add_parser"]

_EPILOG = """\
Speaks Firecracker's protocol: give SOCKET as the backend_path of a snapshot
load with backend_type Uffd. FILE is the snapshot's memory file; tcp:HOST:PORT
is where `pymigrate page-server` has it.

One handler serves one VMM, until all of memory has come or the VMM ends. Should
it be killed, start it again in the same way: it goes on with the same VMM.

exit codes:
  0  all of memory has come, or the VMM has ended
  1  no VMM was served: its handshake was refused, or none came
  2  usage
  3  interrupted; the VMM waits for missing pages: start a handler again
  4  the pages cannot be had; likewise, once that is mended

examples:
  pymigrate uffd-handler --socket /run/vm1.uffd --memory /snapshots/vm1.mem
  pymigrate uffd-handler --socket /run/vm1.uffd --memory vm1.mem --record
  pymigrate uffd-handler --socket /run/vm1.uffd --memory tcp:192.0.2.7:4450
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "uffd-handler",
        help="handle the page faults of a restored Firecracker VM",
        description="Handle the page faults of a VMM that was restored from a snapshot, from "
        "the snapshot's memory file, here or elsewhere.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--socket", required=True, metavar="PATH", help="where the VMM connects")
    parser.add_argument(
        "--memory",
        required=True,
        metavar="FILE|URL",
        help="the memory file, or the page server that has it (tcp:HOST:PORT or unix:PATH)",
    )
    parser.add_argument(
        "--working-set",
        metavar="PATH",
        help="pages to fetch first (default: FILE.ws where there is one; of a page server, its "
        "own)",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the working set: what the guest touches, in this order; nothing else but "
        "its neighbours is fetched meanwhile",
    )
    parser.add_argument(
        "--fill",
        default="all",
        metavar="all|none|SIZE",
        help="what comes after the working set: all of memory, nothing that is not touched, or "
        "so much of a file per second (default: all)",
    )
    parser.add_argument(
        "--timeout", type=parse_duration_ms, metavar="TIME", help="wait so long for a VMM"
    )
    parser.add_argument(
        "--channels",
        type=parse_channels,
        metavar="N|auto",
        help="data connections to a page server, besides an urgent one (default: auto)",
    )
    add_cpus_option(parser)
    parser.add_argument(
        "--json", "--report", dest="json", metavar="FILE|-", help="write the report as JSON"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve one VMM; the exit code is that of the report."""
    from pymigrate.uffd_handler import handle_faults

    check_json_path(args.json)
    view = PlainView()
    options = _options(args)
    report = handle_faults(options, _supply(args, view.note), view.note)
    view.close()
    if args.json:
        write_json(args.json, report.to_dict())
    if args.json != "-":
        _show(report)
    if report.error:
        say_error(report.error)
    return int(report.exit_code)


def _url(memory: str) -> bool:
    return memory.startswith(("tcp:", "unix:"))


def _supply(args: argparse.Namespace, note: Note) -> Supply:
    """Where the pages come from; what can be refused is refused here."""
    from pymigrate.addresses import parse_address
    from pymigrate.errors import AddressError
    from pymigrate.uffd_handler import FileSupply, ServerSupply

    options = _link_options(args)
    if not _url(args.memory):
        if options.cpus:
            # The engine's threads inherit it.
            os.sched_setaffinity(0, options.cpus)
        try:
            return FileSupply(args.memory)
        except OSError as error:
            words = f"{args.memory}: {error.strerror}"
            raise CommandError(words, Exit.USAGE) from error
    try:
        address = parse_address(args.memory)
    except AddressError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    return ServerSupply(address, options, note)


def _link_options(args: argparse.Namespace) -> Options:
    from pymigrate.options import Options
    from pymigrate.tuning import MAX_CHANNELS

    if args.channels == MAX_CHANNELS:
        words = f"--channels {MAX_CHANNELS} leaves none for urgent pages: at most one less"
        raise CommandError(words, Exit.USAGE)
    try:
        return Options(channels=args.channels, cpus=args.cpus)
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def _options(args: argparse.Namespace) -> HandlerOptions:
    from pymigrate._engine import Push
    from pymigrate.uffd_handler import HandlerOptions
    from pymigrate.working_set import working_set_path

    fill, bytes_per_s = _fill(args)
    path = args.working_set
    if path is None and not _url(args.memory):
        path = working_set_path(args.memory)
    if path is None and args.record:
        words = "--record of a page server's memory needs --working-set PATH"
        raise CommandError(words, Exit.USAGE)
    return HandlerOptions(
        socket_path=args.socket,
        working_set_path=path,
        record=args.record,
        push=Push.ALL if fill else Push.FIRST,
        fill_bytes_per_s=bytes_per_s,
        connect_timeout_ms=args.timeout,
    )


def _fill(args: argparse.Namespace) -> tuple[bool, int]:
    """Whether memory is filled, and how fast; 0: as fast as it goes."""
    if args.fill in ("all", "none"):
        return args.fill == "all", 0
    if _url(args.memory):
        words = "--fill SIZE is of a file; a page server has --bandwidth-limit"
        raise CommandError(words, Exit.USAGE)
    try:
        bytes_per_s = parse_size(args.fill)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"--fill: {error}", Exit.USAGE) from error
    if not bytes_per_s:
        raise CommandError("--fill 0 fills nothing: write none", Exit.USAGE)
    return True, bytes_per_s


_ENDS = {
    "complete": "all of memory has come",
    "vmm-ended": "the VMM has ended",
    "interrupted": "interrupted: the VMM waits for missing pages",
    "failed": "failed: the VMM waits for missing pages",
}


def _show(report: HandlerReport) -> None:
    from pymigrate.cli.console import stdout, table

    rows = table(header=False)
    faults, prefetch = report.faults, report.prefetch
    rows.add_row("outcome", _ENDS[report.outcome.value])
    rows.add_row(
        "pages",
        f"{count_words(report.served_pages)} served of {count_words(report.expected_pages)}, "
        f"{count_words(report.missing_pages)} missing",
    )
    rows.add_row("faults", f"{_faults(faults)} waited for a page")
    rows.add_row("", f"{_faults(faults.local)} needed none")
    if faults.probes:
        share = 100 * faults.probes_used // faults.probes
        rows.add_row("", f"{share} % of the pages that came along with others were used")
    if prefetch.pages:
        rows.add_row(
            "prefetch",
            f"{count_words(prefetch.hits)} of {count_words(prefetch.pages)} pages were there "
            f"before they were needed; {count_words(prefetch.other_pages)} others were needed",
        )
    if report.recorded_pages is not None:
        rows.add_row("recorded", f"{count_words(report.recorded_pages)} pages")
    if report.interruptions:
        rows.add_row("page server", f"lost and found again {report.interruptions} times")
    rows.add_row("time", time_words(report.duration_ms))
    stdout().print(rows)


def _faults(latency: FaultReport | LatencyReport) -> str:
    if not latency.count:
        return "none"
    return (
        f"{count_words(latency.count)} (p50 {_us(latency.p50_us)}, p99 {_us(latency.p99_us)}, "
        f"longest {_us(latency.max_us)})"
    )


def _us(us: float) -> str:
    return time_words(us / 1e3) if us >= 1e3 else f"{us:.0f} us"

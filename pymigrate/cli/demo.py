# SPDX-License-Identifier: Apache-2.0
"""``pymigrate demo``: migrate a running guest between two processes."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, Any

from pymigrate.cli.console import check_json_path
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.guest_options import add_guest_options, choose_backend, guest_config
from pymigrate.cli.migration_options import add_migration_options, migration_options
from pymigrate.cli.output import add_output_options, check_outputs, write_outputs
from pymigrate.cli.policy_options import add_trace_option, policy_words, write_trace
from pymigrate.cli.tuning_options import tuning_words
from pymigrate.cli.units import parse_count, parse_duration_ms, parse_rate, size_words

if TYPE_CHECKING:
    from pymigrate.cli.views import View
    from pymigrate.vmm import VmConfig

__all__ = ["add_parser"]

_EPILOG = """\
Two processes are started: one builds a guest and runs it, the other receives
it. Progress goes to stderr, the report to stdout. In the end the guest runs on
at the destination for a while, and is then checked: every page of its working
set holds a counter that must have the right value, every other page must hold
what it was filled with, its time must not have gone backwards, and no access
to its device may be lost or repeated.

examples:
  pymigrate demo
  pymigrate demo --memory 1G --working-set 64M --vcpus 2 --verify
  pymigrate demo --link 1gbit --tracker kvm-ring --json report.json
  pymigrate demo --link 1gbit --compress zstd:1 --verbose
  pymigrate demo --link 1gbit --tune-after 1:compress=none,bandwidth-limit=50
  pymigrate demo --dirty-rate unlimited --link 100mbit --delta off --compress none
  pymigrate demo --link 1gbit --post-copy now --html report.html
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="migrate a running guest between two processes, with proof",
        description="Migrate a running guest between two processes, with proof.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_guest_options(parser)
    add_migration_options(parser)
    demo = parser.add_argument_group("the demo")
    demo.add_argument(
        "--link",
        type=_link_rate,
        metavar="RATE",
        help="put the processes into two network namespaces joined by a link of this rate, "
        "like 1gbit or 100mbit (needs root; default: loopback)",
    )
    demo.add_argument(
        "--run-for",
        type=parse_duration_ms,
        default="1s",
        metavar="TIME",
        help="how long the guest goes on before it is checked (default: 1s)",
    )
    demo.add_argument(
        "--runs", type=parse_count, default=1, metavar="N", help="do it N times and summarize"
    )
    add_output_options(demo)
    add_trace_option(demo)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Migrate; the exit code is the worst of all runs."""
    from pymigrate.cli.views import make_view

    check_outputs(args)
    check_json_path(args.trace)
    config = guest_config(args)
    migration_options(args)  # to refuse here what the processes would refuse
    _check_memory(config)
    reports = []
    with (
        contextlib.closing(make_view(verbose=args.verbose)) as view,
        contextlib.ExitStack() as stack,
    ):
        if note := choose_backend(args.backend)[1]:
            view.note(note)
        ends = stack.enter_context(_link(args.link)) if args.link else ()
        for number in range(1, args.runs + 1):
            reports.append(_one_run(args, config, view, number, ends))
            if _exit_code(reports[-1]) != Exit.DONE:
                break
    _show(args, reports)
    return max(_exit_code(report) for report in reports)


def _one_run(
    args: argparse.Namespace, config: VmConfig, view: View, number: int, ends: Any
) -> dict[str, Any]:
    from pymigrate.cli.pair import run_pair

    if args.runs > 1:
        view.note(f"run {number} of {args.runs}")
    report = run_pair(
        [*_send_options(args, config), *_recover_words(args)],
        view,
        args.run_for,
        ends,
        _recover_words(args),
    )
    link = {"link_bits_per_s": args.link} if args.link else {}
    return {**report, "config": {**report["config"], **link}}


def _link_rate(text: str) -> int:
    from pymigrate.network import MAX_RATE_BITS_PER_S

    rate = parse_rate(text)
    if rate > MAX_RATE_BITS_PER_S:
        raise argparse.ArgumentTypeError(f"{text!r} is more than a link is shaped to, 32gbit")
    return rate


def _link(rate: int) -> Any:
    from pymigrate.network import shaped_link

    return shaped_link(rate)


def _check_memory(config: VmConfig) -> None:
    """Both sides hold the guest at the same time."""
    from pymigrate.host import mem_available_bytes

    needed = 0 if config.content.value == "untouched" else 2 * config.memory_bytes
    available = mem_available_bytes()
    if needed > available:
        raise CommandError(
            f"two guests of {size_words(config.memory_bytes)} do not fit into the "
            f"{size_words(available)} that are available: choose a smaller --memory",
            Exit.USAGE,
        )


def _send_options(args: argparse.Namespace, config: VmConfig) -> list[str]:
    """The command line of the source, with every choice made."""
    rate = config.dirty_rate_pages_per_s
    options = {
        "--memory": config.memory_bytes,
        "--vcpus": config.vcpus,
        "--guest": config.guest.value,
        "--working-set": config.working_set_bytes,
        "--dirty-rate": "unlimited" if rate is None else rate,
        "--write-bytes": config.write_bytes,
        "--tick-hz": config.tick_hz,
        "--content": config.content.value,
        "--backing": config.backing.value,
        "--backend": config.backend.value,
        "--tracker": args.tracker,
    }
    words = [str(word) for option in options.items() for word in option]
    words += tuning_words(args)
    words += policy_words(args)
    words += ["--verify"] if args.verify else []
    return words + (["--timeout", f"{args.timeout}ms"] if args.timeout else [])


def _recover_words(args: argparse.Namespace) -> list[str]:
    """For the command lines of both sides."""
    limit_ms = args.recover_timeout
    return [] if limit_ms is None else ["--recover-timeout", f"{limit_ms}ms"]


def _exit_code(report: dict[str, Any]) -> Exit:
    """That of the outcome, unless the proof contradicts it."""
    from pymigrate.report import Guest, Outcome

    proof = report.get("proof")
    open_ends = (Outcome.IN_DOUBT.value, Outcome.INCOMPLETE.value)
    if report["outcome"] in open_ends or report["guest"] == Guest.UNKNOWN.value:
        return Exit.OPERATOR
    if proof and not proof["ok"]:
        return Exit.OPERATOR
    if report["outcome"] == Outcome.COMPLETED.value:
        return Exit.DONE
    return Exit.FAILED if report["outcome"] == Outcome.FAILED.value else Exit.NOT_CONVERGED


def _show(args: argparse.Namespace, reports: list[dict[str, Any]]) -> None:
    from pymigrate.cli.render import show_report
    from pymigrate.cli.summary import show_summary, summarize

    document = reports[0] if args.runs == 1 else summarize(reports)
    write_outputs(args, document, reports)
    if "-" not in (args.json, args.trace):
        show_report(reports[-1])
        if args.runs > 1:
            show_summary(document)
    if args.trace:
        write_trace(args.trace, reports[-1])

# SPDX-License-Identifier: Apache-2.0
"""``pymigrate send``: start the reference guest here and send it away."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pymigrate.cli.child_options import add_child_options
from pymigrate.cli.console import check_json_path, write_json
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.guest_options import add_guest_options, choose_backend, guest_config
from pymigrate.cli.migration_options import add_migration_options, migration_options
from pymigrate.cli.policy_options import add_trace_option, write_trace
from pymigrate.cli.units import size_words

if TYPE_CHECKING:
    from pymigrate.addresses import Address
    from pymigrate.report import Report
    from pymigrate.vmm import Vm, VmConfig

__all__ = ["add_parser"]

# The guest has done something when it has used its device so often.
_WARM_UP_READS = 5
_WARM_UP_TIMEOUT_MS = 60_000

# Options of the engine that the report repeats.
_REPORTED = ("channels", "cpus", "delta_memory_bytes", "policy", "tuning")

_EPILOG = """\
TARGET is tcp:HOST:PORT or unix:PATH, where `pymigrate recv` listens, or
file:PATH for a stream file, or null: to measure without a destination.

examples:
  pymigrate send tcp:192.0.2.7:4444 --memory 1G --vcpus 2
  pymigrate send unix:/run/guest.sock --tracker kvm-ring --verify
  pymigrate send tcp:192.0.2.7:4444 --bandwidth-limit 50 --cpus 2-3 --verbose
  pymigrate send file:guest.pmig --content mixed
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "send",
        help="start the reference guest here and send it away",
        description="Start the reference guest here, let it run, and send it away.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="TARGET", help="where to send it")
    add_guest_options(parser)
    add_migration_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="FILE|-", help="write the report as JSON")
    add_trace_option(output)
    output.add_argument("--force", action="store_true", help="file:PATH may be overwritten")
    add_child_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send a guest; the exit code is that of the report."""
    from pymigrate.cli.child import Child, enter
    from pymigrate.cli.send_run import SendRun
    from pymigrate.cli.views import make_view

    check_json_path(args.json)
    check_json_path(args.trace)
    config = guest_config(args)
    target = _target(args)
    options = migration_options(args)
    enter(args)
    child = Child(args.events) if args.events is not None else None
    view = child.view if child else make_view(verbose=args.verbose)
    if note := choose_backend(args.backend)[1]:
        view.note(note)
    view.note(f"building a guest of {size_words(config.memory_bytes)}")
    with contextlib.closing(view), _build(config) as vm:
        vm.resume()
        vm.wait_device_reads(_WARM_UP_READS * config.vcpus, _WARM_UP_TIMEOUT_MS)
        if child and args.hold:
            child.hold()
        _make_room(target)
        sending = SendRun(vm, str(target), options, view, args.timeout, args.tune_after)
        if child:
            child.on_cancel(sending.cancel)
            child.on_tune(sending.tune)
        report = sending.run()
        report = replace(report, config=_config_json(args, vm, report))
        if child:
            child.on_tune(None)
            child.view.emit("report", report=report.to_dict())
            child.serve(vm)
    if not child:
        _show(args, report)
    return int(report.exit_code)


def _target(args: argparse.Namespace) -> Address:
    """The address, after what can be refused at once."""
    from pymigrate.addresses import Scheme, parse_address
    from pymigrate.errors import AddressError

    try:
        address = parse_address(args.target)
    except AddressError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    if address.scheme is Scheme.FILE and os.path.lexists(address.path) and not args.force:
        words = f"{address.path} exists: name another file, or overwrite it with --force"
        raise CommandError(words, Exit.USAGE)
    return address


def _make_room(target: Address) -> None:
    """With --force the file makes room, but not before the guest was built."""
    from pymigrate.addresses import Scheme

    if target.scheme is Scheme.FILE and os.path.isfile(target.path):
        os.unlink(target.path)


def _build(config: VmConfig) -> Vm:
    """The machine; what it cannot be is a mistake in the options."""
    from pymigrate.errors import EngineError
    from pymigrate.vmm import Vm

    try:
        return Vm(config, populate=True)
    except EngineError as error:
        code = Exit.USAGE if error.code == -errno.EINVAL else Exit.FAILED
        raise CommandError(f"the guest cannot be built: {error}", code) from error


def _config_json(args: argparse.Namespace, vm: Vm, report: Report) -> dict[str, Any]:
    """The guest, and the options as far as they are the command's."""
    return {
        **vm.config.to_json(),
        **{name: report.config[name] for name in _REPORTED},
        "downtime_limit_ms": args.downtime_limit_ms,
        "verify": args.verify,
    }


def _show(args: argparse.Namespace, report: Report) -> None:
    from pymigrate.cli.render import show_report

    if args.json:
        write_json(args.json, report.to_dict())
    if "-" not in (args.json, args.trace):
        show_report(report.to_dict())
    if args.trace:
        write_trace(args.trace, report.to_dict())

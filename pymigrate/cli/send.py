# SPDX-License-Identifier: Apache-2.0
"""``pymigrate send``: start the reference guest here and send it away."""

from __future__ import annotations

import argparse
import contextlib
import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pymigrate.cli.child_options import add_child_options
from pymigrate.cli.console import check_json_path
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.guest_options import add_guest_options, choose_backend, guest_config
from pymigrate.cli.migration_options import add_migration_options, migration_options
from pymigrate.cli.output import add_output_options, check_outputs, write_outputs
from pymigrate.cli.policy_options import add_trace_option, write_trace
from pymigrate.cli.units import size_words

if TYPE_CHECKING:
    from pymigrate.cli.child import Child
    from pymigrate.cli.control import Control
    from pymigrate.cli.views import View
    from pymigrate.options import Options
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

With --post-copy the guest may move before its pages. Where the destination is
then out of reach for --recover-timeout, send ends and the guest is lost; with
--control it keeps the pages until `pymigrate recover` makes another attempt,
or an interrupt gives up.

examples:
  pymigrate send tcp:192.0.2.7:4444 --memory 1G --vcpus 2
  pymigrate send unix:/run/guest.sock --tracker kvm-ring --verify
  pymigrate send tcp:192.0.2.7:4444 --bandwidth-limit 50 --cpus 2-3 --verbose
  pymigrate send tcp:192.0.2.7:4444 --post-copy auto --control /run/guest.ctl
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
    add_output_options(output)
    add_trace_option(output)
    output.add_argument("--force", action="store_true", help="file:PATH may be overwritten")
    output.add_argument(
        "--control",
        metavar="PATH",
        help="keep pages that the guest misses, and take requests of `pymigrate recover` on a "
        "unix socket that is made there",
    )
    add_child_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send a guest; the exit code is that of the report."""
    from pymigrate.cli.child import Child, enter
    from pymigrate.cli.target import make_room, read_target
    from pymigrate.cli.views import make_view

    check_outputs(args)
    check_json_path(args.trace)
    config = guest_config(args)
    target = read_target(args)
    options = migration_options(args)
    enter(args)
    child = Child(args.events) if args.events is not None else None
    view = child.view if child else make_view(verbose=args.verbose)
    with contextlib.closing(view), _control(args.control) as control:
        if note := choose_backend(args.backend)[1]:
            view.note(note)
        view.note(f"building a guest of {size_words(config.memory_bytes)}")
        with _build(config) as vm:
            vm.resume()
            vm.wait_device_reads(_WARM_UP_READS * config.vcpus, _WARM_UP_TIMEOUT_MS)
            if child and args.hold:
                child.hold()
            make_room(target)
            report = _send(args, vm, str(target), options, view, control, child)
    if not child:
        _show(args, report)
    return int(report.exit_code)


def _control(path: str | None) -> contextlib.AbstractContextManager[Control | None]:
    from pymigrate.cli.control import Control

    return Control(path) if path is not None else contextlib.nullcontext()


def _send(
    args: argparse.Namespace,
    vm: Vm,
    target: str,
    options: Options,
    view: View,
    control: Control | None,
    child: Child | None,
) -> Report:
    from pymigrate.cli.send_run import SendRun

    def finish(report: Report) -> Report:
        return replace(report, config=_config_json(args, vm, report))

    tunings = args.tune_after
    sending = SendRun(vm, target, options, view, args.timeout, tunings, control, finish)
    if not child:
        return sending.run()
    child.on_cancel(sending.cancel)
    child.on_tune(sending.tune)
    report = sending.run()
    child.on_tune(None)
    child.view.emit("report", report=report.to_dict())
    child.serve(vm)
    return report


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

    document = report.to_dict()
    write_outputs(args, document)
    if "-" not in (args.json, args.trace):
        show_report(document, hint=_hint(report, args.control))
    if args.trace:
        write_trace(args.trace, document)


def _hint(report: Report, control: str | None) -> str:
    """What it means that this process ends now."""
    from pymigrate.report import Outcome

    if report.outcome is not Outcome.INCOMPLETE:
        return ""
    lost = "What is kept here ends with this process, and the guest cannot go on without it"
    if control is not None:
        return f"{lost}."
    return f"{lost}: with --control PATH, send keeps it for `pymigrate recover PATH`."

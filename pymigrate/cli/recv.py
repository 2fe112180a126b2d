# SPDX-License-Identifier: Apache-2.0
"""``pymigrate recv``: receive the reference guest, run it, and judge it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pymigrate.cli.child_options import add_child_options
from pymigrate.cli.console import say_error
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.guest_options import BACKINGS
from pymigrate.cli.migration_options import add_recover_option, recover_values
from pymigrate.cli.output import add_output_options, check_outputs, write_outputs
from pymigrate.cli.tuning_options import add_cpus_option
from pymigrate.cli.units import parse_duration_ms, parse_size, size_words

if TYPE_CHECKING:
    from pymigrate.cli.child import Child
    from pymigrate.cli.proof import GuestProof
    from pymigrate.cli.views import View
    from pymigrate.destination import Destination
    from pymigrate.options import Options
    from pymigrate.report import Report
    from pymigrate.vmm import Vm

__all__ = ["add_parser"]

_EPILOG = """\
LISTEN is tcp:HOST:PORT or unix:PATH for one guest from `pymigrate send`, or
file:PATH to load a stream file. The machine is built from what the source says
about it. The guest then runs here for a while, is paused, and its memory, time
and devices are checked by the oracle. A source with --post-copy may send pages
while the guest runs already; the check waits for the last of them.

Streams are not authenticated: listen on addresses that only the source can
reach.

examples:
  pymigrate recv tcp:192.0.2.7:4444
  pymigrate recv unix:/run/guest.sock --run-for 5s --json report.json
  pymigrate recv tcp:192.0.2.7:4444 --recover-timeout 1m --pause-when-lost
  pymigrate recv file:guest.pmig
  pymigrate recv file:guest.pmig --lazy
"""

_LOST = (
    "The guest ends with this process: with --pause-when-lost, recv keeps it, paused, until "
    "the source comes."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "recv",
        help="receive a guest, run it here, and check it",
        description="Receive a guest, run it here for a while, and check it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("listen", metavar="LISTEN", help="where it comes from")
    parser.add_argument(
        "--run-for",
        type=parse_duration_ms,
        default="1s",
        metavar="TIME",
        help="how long the guest runs before it is checked (default: 1s)",
    )
    parser.add_argument(
        "--max-memory",
        type=parse_size,
        metavar="SIZE",
        help="refuse a larger guest (default: what is available)",
    )
    parser.add_argument("--backing", choices=BACKINGS, help="default: as at the source")
    parser.add_argument(
        "--timeout", type=parse_duration_ms, metavar="TIME", help="wait so long for a source"
    )
    add_recover_option(parser)
    parser.add_argument(
        "--pause-when-lost",
        action="store_true",
        help="pause the guest then, and wait for the source until it comes or an interrupt "
        "does, instead of ending",
    )
    parser.add_argument(
        "--lazy",
        action="store_true",
        help="out of a file: run the guest at once, and read memory when it is touched",
    )
    add_cpus_option(parser)
    add_output_options(parser)
    add_child_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Receive one guest; the exit code is that of the report."""
    from pymigrate.cli.child import Child, enter
    from pymigrate.cli.recv_run import RecvRun
    from pymigrate.cli.views import make_view
    from pymigrate.errors import AddressError, CancelledError, StepTimeoutError

    check_outputs(args)
    enter(args)
    child = Child(args.events) if args.events is not None else None
    # A parent follows the source, which knows more.
    view = child.view if child else make_view()
    shown = make_view(quiet=True) if child else view
    try:
        with contextlib.closing(view):
            receiving = RecvRun(args.listen, _factory(args), _options(args), shown)
            with receiving.here as here:
                _announce(here, view, child)
                report = receiving.run(args.timeout, wait=args.pause_when_lost)
                return _finish(args, here, report, child)
    except AddressError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    except StepTimeoutError as error:
        raise CommandError(f"no guest came: {error}") from error
    except CancelledError as error:
        raise CommandError(str(error), Exit.NOT_CONVERGED) from error


def _options(args: argparse.Namespace) -> Options:
    from pymigrate.options import Options

    if args.lazy and not args.listen.startswith("file:"):
        raise CommandError("--lazy is for file:PATH: elsewhere memory is not at hand", Exit.USAGE)
    try:
        return Options(
            cpus=args.cpus,
            pause_when_lost=args.pause_when_lost,
            lazy=args.lazy,
            **recover_values(args),
        )
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def _factory(args: argparse.Namespace) -> Callable[[dict[str, Any]], Vm]:
    """Builds the machine that a source describes, within limits."""
    from pymigrate.host import mem_available_bytes
    from pymigrate.vmm import Backing, Vm, VmConfig

    def build(description: dict[str, Any]) -> Vm:
        if description.get("kind") != "vmm":
            raise ValueError(f"machines of kind {description.get('kind')!r} are not built here")
        machine = description.get("machine")
        config = VmConfig.from_json(machine if isinstance(machine, dict) else {})
        if args.backing:
            config = replace(config, backing=Backing(args.backing))
        limit = args.max_memory or mem_available_bytes()
        if config.memory_bytes > limit:
            raise ValueError(
                f"the guest has {size_words(config.memory_bytes)}, "
                f"at most {size_words(limit)} are accepted here"
            )
        return Vm(config)

    return build


def _announce(here: Destination, view: View, child: Child | None) -> None:
    if child:
        child.on_cancel(lambda _reason: here.cancel())
        child.view.emit("listening", address=str(here.address))
    elif here.address.is_socket:
        view.note(f"listening on {here.address}")


def _finish(
    args: argparse.Namespace, here: Destination, report: Report, child: Child | None
) -> int:
    """Say what came of it, and prove the guest if it is all here."""
    from pymigrate.cli.proof import prove
    from pymigrate.vmm import Vm

    machine = here.machine
    if isinstance(machine, Vm):
        report = replace(report, config=machine.config.to_json())
    report = _await_memory(here, report)
    if machine is None or report.missing_pages:
        if child:
            child.view.emit("report", report=report.to_dict())
            child.serve(None)
        return _show(args, report, None, child)
    with here.take_machine() as machine:
        assert isinstance(machine, Vm)
        if child:
            child.view.emit("report", report=report.to_dict())
            child.serve(machine)
            return int(report.exit_code)
        return _show(args, report, prove(machine, args.run_for), child)


def _await_memory(here: Destination, report: Report) -> Report:
    """The guest runs; what it will be judged by is still to come."""
    from pymigrate.errors import EngineError

    restoring = here.restoring
    if restoring is None:
        return report
    try:
        restoring.wait()
    except EngineError as error:
        words = f"the guest runs, and its memory will never be complete: {error}"
        raise CommandError(words, Exit.OPERATOR) from error
    return replace(report, missing_pages=0, restore=restoring.report(), faults=restoring.faults())


def _show(
    args: argparse.Namespace, report: Report, proof: GuestProof | None, child: Child | None
) -> int:
    from pymigrate.cli.render import show_report
    from pymigrate.report import Outcome

    if child:
        return int(report.exit_code)
    document = report.to_dict()
    if proof:
        document |= {"guest_gap_ms": proof.guest_gap_ms, "oracle": proof.oracle}
        document["proof"] = {"destination": proof.to_json()}
    write_outputs(args, document)
    if args.json != "-":
        show_report(document, hint=_LOST if report.outcome is Outcome.INCOMPLETE else "")
    if proof and not proof.ok:
        say_error("the guest runs here, but it is not what was sent: see the oracle")
        return Exit.OPERATOR
    return int(report.exit_code)

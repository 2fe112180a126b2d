# SPDX-License-Identifier: Apache-2.0
"""``pymigrate recv``: receive the reference guest, run it, and judge it."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pymigrate.cli.child_options import add_child_options
from pymigrate.cli.console import check_json_path, say_error, write_json
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.guest_options import BACKINGS
from pymigrate.cli.tuning_options import add_cpus_option
from pymigrate.cli.units import parse_duration_ms, parse_size, size_words

if TYPE_CHECKING:
    from pymigrate.cli.child import Child
    from pymigrate.cli.proof import GuestProof
    from pymigrate.cli.views import View
    from pymigrate.destination import Destination
    from pymigrate.report import Report
    from pymigrate.vmm import Vm

__all__ = ["add_parser"]

_EPILOG = """\
LISTEN is tcp:HOST:PORT or unix:PATH for one guest from `pymigrate send`, or
file:PATH to load a stream file. The machine is built from what the source says
about it. The guest then runs here for a while, is paused, and its memory, time
and devices are checked by the oracle.

Streams are not authenticated: listen on addresses that only the source can
reach.

examples:
  pymigrate recv tcp:192.0.2.7:4444
  pymigrate recv unix:/run/guest.sock --run-for 5s --json report.json
  pymigrate recv file:guest.pmig
"""


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
    add_cpus_option(parser)
    parser.add_argument("--json", metavar="FILE|-", help="write the report as JSON")
    add_child_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Receive one guest; the exit code is that of the report."""
    from pymigrate.cli.child import Child, enter
    from pymigrate.cli.views import make_view
    from pymigrate.destination import Destination
    from pymigrate.errors import AddressError, CancelledError, StepTimeoutError
    from pymigrate.options import Options

    check_json_path(args.json)
    enter(args)
    child = Child(args.events) if args.events is not None else None
    view = child.view if child else make_view()
    try:
        options = Options(cpus=args.cpus)
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    try:
        with contextlib.closing(view), Destination(args.listen, _factory(args), options) as here:
            _announce(here, view, child)
            report = _serve(here, args.timeout)
            return _finish(args, here, report, child)
    except AddressError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    except StepTimeoutError as error:
        raise CommandError(f"no guest came: {error}") from error
    except CancelledError as error:
        raise CommandError(str(error), Exit.NOT_CONVERGED) from error


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


def _serve(here: Destination, timeout_ms: int | None) -> Report:
    """Serve on a thread: an interrupt of the main thread cancels at once."""
    results: list[Report] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def serve() -> None:
        try:
            results.append(here.serve_one(timeout_ms))
        except BaseException as error:
            errors.append(error)
        done.set()

    thread = threading.Thread(target=serve, name="pmig-recv")
    thread.start()
    # A join() that is interrupted may take a living thread for an ended one.
    while not done.is_set():
        try:
            done.wait()
        except KeyboardInterrupt:
            here.cancel()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _finish(
    args: argparse.Namespace, here: Destination, report: Report, child: Child | None
) -> int:
    from pymigrate.cli.proof import prove
    from pymigrate.vmm import Vm

    if here.machine is None:
        if child:
            child.view.emit("report", report=report.to_dict())
            child.serve(None)
        return _show(args, report, None, child)
    with here.take_machine() as machine:
        assert isinstance(machine, Vm)
        report = replace(report, config=machine.config.to_json())
        if child:
            child.view.emit("report", report=report.to_dict())
            child.serve(machine)
            return int(report.exit_code)
        return _show(args, report, prove(machine, args.run_for), child)


def _show(
    args: argparse.Namespace, report: Report, proof: GuestProof | None, child: Child | None
) -> int:
    from pymigrate.cli.render import show_report

    if child:
        return int(report.exit_code)
    document = report.to_dict()
    if proof:
        document |= {"guest_gap_ms": proof.guest_gap_ms, "oracle": proof.oracle}
        document["proof"] = {"destination": proof.to_json()}
    if args.json:
        write_json(args.json, document)
    if args.json != "-":
        show_report(document)
    if proof and not proof.ok:
        say_error("the guest runs here, but it is not what was sent: see the oracle")
        return Exit.OPERATOR
    return int(report.exit_code)

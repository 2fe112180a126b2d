# SPDX-License-Identifier: Apache-2.0
"""Argument parsing and the one place where errors become exit codes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from pymigrate import __version__
from pymigrate.cli import (
    check,
    demo,
    inspect,
    page_server,
    recover,
    recv,
    send,
    simulate,
    uffd_handler,
)
from pymigrate.cli.console import say_error
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.errors import MigrateError

__all__ = ["main"]

_EPILOG = """\
exit codes:
  0  done
  1  failed; the source still owns the guest
  2  usage
  3  not converged or cancelled; the guest runs at the source
  4  failed after commit; an operator must decide which side owns the guest, or
     bring both sides together: the guest has moved, and pages of it are missing

`pymigrate COMMAND --help` shows the options and examples of a command.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pymigrate",
        description="Live migration of running virtual machines.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pymigrate {__version__}")
    commands: Any = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    modules = (demo, send, recv, recover, inspect, simulate, check, uffd_handler, page_server)
    for module in modules:
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = build_parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        # To be asked to end is to be asked to cancel.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except CommandError as error:
        say_error(str(error))
        return error.code
    except MigrateError as error:
        say_error(str(error))
        return Exit.FAILED
    except KeyboardInterrupt:
        say_error("interrupted")
        return Exit.NOT_CONVERGED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of ours,
        # but the interpreter must not try to flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except OSError as error:
        say_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return Exit.FAILED

# SPDX-License-Identifier: Apache-2.0
"""The two places a command writes to: results to stdout, the rest to stderr.

rich is imported here only, and only when something is about to be shown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymigrate.cli.exits import CommandError, Exit
from pymigrate.page.words import visible

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

__all__ = [
    "check_json_path",
    "plain",
    "say_error",
    "stderr",
    "stdout",
    "table",
    "titled",
    "write_json",
    "write_text",
]

_PLAIN_WIDTH = 80


def _console(to_stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    return Console(stderr=to_stderr, highlight=False, width=width, soft_wrap=False)


def stdout() -> Console:
    """Where results go."""
    return _console(to_stderr=False)


def stderr() -> Console:
    """Where progress and errors go."""
    return _console(to_stderr=True)


def say_error(message: str) -> None:
    """One sentence on stderr, in the form every command uses."""
    print(f"pymigrate: {message}", file=sys.stderr)


def table(*, header: bool = True) -> Table:
    """The house style of a table: one rule below the header, no box."""
    from rich import box
    from rich.table import Table

    return Table(
        header_style="bold",
        show_header=header,
        box=box.SIMPLE_HEAD if header else None,
        pad_edge=False,
        show_edge=False,
    )


def titled(title: str, rows: Table) -> Group:
    """A table below its title; rich's own titles wrap at the table's width."""
    from rich.console import Group

    return Group(f"[bold]{title}[/]", rows)


def plain(text: str) -> str:
    """Text from a stream or a peer, made harmless to a terminal and to rich."""
    from rich.markup import escape

    return escape(visible(text))


def check_json_path(target: str | None) -> None:
    """Refuse a file that could not be written, before the work begins; ``-`` is stdout."""
    if target and target != "-" and not Path(target).absolute().parent.is_dir():
        raise CommandError(f"the directory of {target} does not exist", Exit.USAGE)


def write_json(target: str, report: Mapping[str, Any]) -> None:
    """Write a report to a file, or to stdout for ``-``."""
    text = json.dumps(report, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    write_text(target, text)


def write_text(target: str, text: str) -> None:
    """Write a report to a file."""
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write the report to {target}: {error.strerror}") from error

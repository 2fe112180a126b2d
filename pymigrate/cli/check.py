# SPDX-License-Identifier: Apache-2.0
"""``pymigrate check``: what this host can do, and how it could do more."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pymigrate.cli.console import plain, stdout, table, titled, write_json
from pymigrate.cli.exits import Exit
from pymigrate.host import host_facts

if TYPE_CHECKING:
    from pymigrate.cli.probes import Finding, Group

__all__ = ["add_parser"]

SCHEMA = "pymigrate.check/1"

_EPILOG = """\
Each line is the outcome of trying the thing itself. "limited" works, with a
fallback or within bounds; "missing" does not, and says what it would be for
and how to get it. The exit code is 0 when a guest can be migrated here, even
with fallbacks, and 1 when not.

examples:
  pymigrate check
  pymigrate check --json | jq .possible
"""

_MARKS = {"ok": "[green]ok[/]", "limited": "[yellow]limited[/]", "missing": "[red]missing[/]"}


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        help="say what this host can do",
        description="Say what this host can do, and how it could do more.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Probe and show; 0 when a migration is possible here."""
    groups, verdict, possible = _probe()
    if args.json:
        write_json(
            "-",
            {
                "schema": SCHEMA,
                "possible": possible,
                "verdict": verdict,
                "host": asdict(host_facts()),
                "groups": [group.to_json() for group in groups],
            },
        )
    else:
        _show(groups, verdict, possible)
    return Exit.DONE if possible else Exit.FAILED


def _probe() -> tuple[list[Group], str, bool]:
    from pymigrate.cli.probes import kvm, memory, network, software, trackers

    host, library = software.probe()
    machine, kvm_works = kvm.probe()
    groups = [host, machine, memory.probe()]
    working: list[str] = []
    if library:
        found, working = trackers.probe(kvm_works)
        groups.append(found)
    groups.append(network.probe())
    if not working:
        return groups, "No guest can be migrated here.", False
    if not kvm_works:
        return groups, "No KVM guest, but memory written by threads can be migrated here.", True
    words = f"A KVM guest can be migrated here, tracked by {_any_of(working)}."
    return groups, words, True


def _any_of(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _show(groups: list[Group], verdict: str, possible: bool) -> None:
    out = stdout()
    for group in groups:
        rows = table(header=False)
        rows.add_column(width=7)
        rows.add_column(width=24)
        rows.add_column()
        for finding in group.findings:
            rows.add_row(_MARKS[finding.status.value], plain(finding.name), _words(finding))
        out.print(titled(group.title, rows))
        out.print()
    out.print(f"[{'green' if possible else 'red'}]{verdict}[/]")


def _words(finding: Finding) -> str:
    words = plain(finding.detail)
    if finding.status.value == "ok":
        return words
    for extra in (finding.why, finding.fix):
        if extra:
            words += f"\n[dim]{plain(extra)}[/]"
    return words

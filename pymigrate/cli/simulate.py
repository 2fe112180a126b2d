# SPDX-License-Identifier: Apache-2.0
"""``pymigrate simulate``: what another policy would have made of a migration."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymigrate.cli.console import check_json_path, plain, stdout, table, titled, write_json
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.policy_options import (
    add_policy_options,
    add_post_copy_option,
    policy_options,
)
from pymigrate.cli.units import count_words, size_words, time_words

if TYPE_CHECKING:
    from pymigrate.policy import PolicyOptions
    from pymigrate.simulation import Option, Replay, Trace

__all__ = ["add_parser"]

SCHEMA = "pymigrate.simulation/1"

_EPILOG = """\
TRACE is what `send` and `demo` write with --trace, or the report of a source.
Rounds are the recorded ones as long as the policy goes the way of the
recording, and made from what the trace measured after that. `best` is the
point that an exhaustive search finds for the same aim and limits.

examples:
  pymigrate demo --trace demo.json
  pymigrate simulate demo.json --downtime-limit-ms 20
  pymigrate simulate demo.json --policy minimal-traffic --json -
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "simulate",
        help="replay the rounds of a migration against any policy",
        description="Replay the recorded rounds of a migration against any policy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", metavar="TRACE", help="a trace or a report, as JSON")
    add_policy_options(parser)
    add_post_copy_option(parser)
    parser.add_argument("--json", metavar="FILE|-", help="write the replay as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay; the exit code is that of the migration it stands for."""
    from pymigrate.policy import Action
    from pymigrate.simulation import best_option, options_of, replay

    check_json_path(args.json)
    limits = policy_options(args)
    trace = _read(args.trace)
    found = replay(trace, limits)
    best = best_option(options_of(trace, limits.max_rounds), limits)
    if args.json:
        write_json(args.json, _document(trace, limits, found, best))
    if args.json != "-":
        _show(found, best)
    return Exit.NOT_CONVERGED if found.action is Action.GIVE_UP else Exit.DONE


def _read(path: str) -> Trace:
    from pymigrate.simulation import TraceError, parse_trace

    try:
        return parse_trace(json.loads(Path(path).read_text(encoding="utf-8")))
    except TraceError as error:
        raise CommandError(f"{path}: {error}", Exit.USAGE) from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON: {error}", Exit.USAGE) from error


def _document(
    trace: Trace, limits: PolicyOptions, found: Replay, best: Option | None
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "trace": {"name": trace.name, "host": trace.host, "config": trace.config},
        "options": limits.describe(),
        **found.to_dict(),
        "best": vars(best) if best is not None else None,
    }


def _show(found: Replay, best: Option | None) -> None:
    rows = table()
    for name in ("#", "pages", "sent", "time", "dirtied", "expected", "downtime"):
        rows.add_column(name, justify="right", no_wrap=True)
    rows.add_column("decision", min_width=12, no_wrap=True)
    for number, done in enumerate(found.rounds, 1):
        measured, decision = done.measured, done.decision
        throttle = f" {decision.throttle_percent}%" if decision.throttle_percent else ""
        rows.add_row(
            str(number) if done.recorded else f"~{number}",
            count_words(measured.sent_pages),
            size_words(measured.wire_bytes),
            time_words(measured.duration_ms),
            count_words(measured.pending_pages),
            time_words(decision.predicted_downtime_ms),
            time_words(done.downtime_ms),
            f"{decision.action.value}{throttle}",
        )
    out = stdout()
    out.print(titled("Rounds (~ not recorded)", rows))
    out.print()
    out.print(f"{_ending(found)}\n{plain(found.reason)}\n{_best(best)}")


def _ending(found: Replay) -> str:
    size, took = size_words(int(found.wire_bytes)), time_words(found.total_ms)
    if found.downtime_ms is None:
        return f"[bold yellow]given up[/] after {took} and {size}"
    how = "left its pages behind" if found.action.value == "post-copy" else "switched"
    return (
        f"[bold green]{how}[/] after {len(found.rounds)} rounds: downtime "
        f"{time_words(found.downtime_ms)}, {size} in {took}"
    )


def _best(best: Option | None) -> str:
    if best is None:
        return "best: no round keeps the limits"
    return (
        f"best: after {best.rounds} rounds, downtime {time_words(best.downtime_ms)}, "
        f"{size_words(int(best.wire_bytes))} in {time_words(best.total_ms)}"
    )

# SPDX-License-Identifier: Apache-2.0
"""The page of one migration, or of several that were alike."""

from __future__ import annotations

from collections.abc import Sequence

from pymigrate.page import faults
from pymigrate.page.document import document, facts, table
from pymigrate.page.facts import Json, closing, ending, guest_rows, reason
from pymigrate.page.late import LATENCY_HEADS, fault_rows, late_rows, latency_cells
from pymigrate.page.proof import checks
from pymigrate.page.rounds import ROUND_HEADS, round_cells
from pymigrate.page.timeline import timeline
from pymigrate.page.waterfall import waterfall
from pymigrate.page.words import markup, size_words, time_words

__all__ = ["report_page"]

_DOWNTIME = (
    "The parts of the downtime, one after the other; the line is what the decision to switch over"
    " was based on."
)


def report_page(reports: Sequence[Json]) -> str:
    """One self-contained page of HTML.

    :param reports: in their JSON form; the runs, where there were several.
    """
    title = f"Migration, {ending(reports[0])[1]}"
    if len(reports) == 1:
        return document(title, f"<h1>Migration</h1>{_outcome(reports[0])}{_body(reports[0])}")
    runs = [
        f"<h2>Run {number}</h2>{_outcome(run)}{_body(run)}" for number, run in enumerate(reports, 1)
    ]
    return document(title, f"<h1>Migration, {len(reports)} runs</h1>{''.join(runs)}")


def _outcome(report: Json) -> str:
    tone, words = ending(report)
    why = f"<p>{markup(reason(report))}</p>" if reason(report) else ""
    return f'<p><b class="{tone}">{markup(words)}</b>: {markup(closing(report))}</p>{why}'


def _body(report: Json) -> str:
    cards = [
        _card("Rounds", timeline(report), _rounds(report)),
        _card("Downtime", _downtime(report)),
        _card("Pages that followed the guest", facts(late_rows(report))),
        _faults(report),
        _card("Proof", _proof(report)),
    ]
    return facts(_head(report)) + "".join(cards)


def _card(title: str, *parts: str) -> str:
    """Nothing where all parts are."""
    body = "".join(parts)
    return f"<article><h3>{markup(title)}</h3>{body}</article>" if body else ""


def _head(report: Json) -> list[tuple[str, str]]:
    rows = guest_rows(report)
    rows.append((f"{report['role']} of session", str(report["session"])))
    rows.append(("peer", str(report["peer"])))
    took = time_words(report["total_ms"])
    rows.append(("took", f"{took}, {size_words(report['wire_bytes'])} on the wire"))
    return rows


def _rounds(report: Json) -> str:
    rows = [round_cells(done) for done in report["rounds"]]
    return table(ROUND_HEADS, rows) if rows else ""


def _downtime(report: Json) -> str:
    downtime = report["downtime"]
    if not downtime:
        return ""
    return waterfall(downtime, report["predicted_downtime_ms"], "Downtime", _DOWNTIME)


def _faults(report: Json) -> str:
    cells = latency_cells(report)
    return _card(
        "Faults on pages that were missing",
        facts(fault_rows(report)),
        table(LATENCY_HEADS, cells) if cells else "",
        faults.distribution(report),
        faults.over_time(report),
    )


def _proof(report: Json) -> str:
    rows = [
        (check.name, check.words if check.ok else f"FAILED: {check.words}")
        for check in checks(report)
    ]
    return facts(rows)

# SPDX-License-Identifier: Apache-2.0
"""Post-copy in words: the pages that followed the guest, and what waiting for them cost."""

from __future__ import annotations

from collections.abc import Sequence

from pymigrate.page.facts import Json, Row
from pymigrate.page.words import count_words, micro_words, page_words, size_words, time_words

__all__ = ["LATENCY_HEADS", "fault_rows", "late_rows", "latency_cells"]

# Of latency_cells().
LATENCY_HEADS = ("latency", "count", "p50", "p90", "p99", "max")

# Members of faults, and what they are called in a table.
_PARTS = (
    ("queueing", "queueing"),
    ("network", "network"),
    ("placement", "placement"),
    ("local", "local faults"),
)


def late_rows(report: Json) -> list[Row]:
    """The pages that followed the guest; nothing where none did."""
    late = report.get("late")
    if not late:
        return []
    sent = f"{page_words(late['sent_pages'])} in {size_words(late['wire_bytes'])} on the wire"
    rows = [
        ("why", str(late["reason"])),
        ("left behind", f"{page_words(late['outstanding_pages'])} when the guest moved"),
        ("sent", f"{sent}: {_kinds(late)}"),
    ]
    if report["outcome"] != "completed":
        rows.append(("missing", f"{page_words(report['missing_pages'])} when last heard of"))
    else:
        rows.append(("last page", f"{time_words(late['duration_ms'])} after the switchover"))
    if late["recoveries"] or late["recovering_ms"]:
        times = "once" if late["recoveries"] == 1 else f"{late['recoveries']:,} times"
        lost = time_words(late["recovering_ms"])
        rows.append(("recovered", f"{times}, without a connection for {lost} together"))
    return rows


def _kinds(late: Json) -> str:
    """Why its pages were sent when they were."""
    asked, beside = late["answered_pages"], late["neighbour_pages"]
    pushed = max(0, late["sent_pages"] - asked - beside)
    requests = "1 request" if late["requests"] == 1 else f"{count_words(late['requests'])} requests"
    words = (
        f"{count_words(pushed)} pushed, {count_words(asked)} by fault ({requests}), "
        f"{count_words(beside)} as neighbours of these"
    )
    if late["refused_pages"]:
        words += f"; {count_words(late['refused_pages'])} refused, and sent again whole"
    return words


def fault_rows(report: Json) -> list[Row]:
    """What faults did to the guest; nothing where it could have none."""
    faults = report.get("faults")
    if not faults:
        return []
    if not faults["count"]:
        return [("faults", "none: every page was there before it was used"), *_last_page(report)]
    threads = "1 thread" if faults["threads"] == 1 else f"{faults['threads']:,} vCPUs and threads"
    rows = [
        (
            "stalled",
            f"{threads} for {time_words(faults['stalled_ms'])} together, "
            f"{time_words(faults['longest_stalled_ms'])} the one that waited most",
        )
    ]
    if faults["pushed"]:
        words = f"{count_words(faults['pushed'])} of {count_words(faults['count'])} pages"
        rows.append(("on the way", f"{words} had been pushed when they were asked for"))
    if faults["probes"]:
        share = 100 * faults["probes_used"] / faults["probes"]
        words = f"{count_words(faults['probes_used'])} of {count_words(faults['probes'])}"
        rows.append(("prefetch", f"{words} neighbours that were watched were used ({share:.0f}%)"))
    return rows + _last_page(report)


def _last_page(report: Json) -> list[Row]:
    """From the destination, where there is no word of the source."""
    last_ms = report["faults"]["last_page_ms"]
    if report.get("late") or not last_ms:
        return []
    return [("last page", f"{time_words(last_ms)} after the guest could run")]


def latency_cells(report: Json) -> list[Sequence[str]]:
    """Faults, and the parts of what they took; nothing where there were none."""
    faults = report.get("faults")
    if not faults:
        return []
    rows = [("faults", faults), *((name, faults[member]) for member, name in _PARTS)]
    return [(name, *_cells(latency)) for name, latency in rows if latency["count"]]


def _cells(latency: Json) -> list[str]:
    quantiles = (latency[key] for key in ("p50_us", "p90_us", "p99_us", "max_us"))
    return [count_words(latency["count"]), *map(micro_words, quantiles)]

# SPDX-License-Identifier: Apache-2.0
"""A report in words: what was migrated, and how it ended. Plain text, no markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymigrate.page.words import count_words, page_words, size_words, time_words

__all__ = [
    "DOWNTIME_PARTS",
    "Json",
    "Row",
    "closing",
    "ending",
    "guest_rows",
    "reason",
]

Json = Mapping[str, Any]
# A name and what is to be said of it.
Row = tuple[str, str]

# Members of downtime, and what the guest waits for in each, in this order.
DOWNTIME_PARTS = (
    ("quiesce", "until no vCPU ran"),
    ("final_round", "the last dirty pages"),
    ("state", "capture and load"),
    ("commit", "the handover"),
    ("resume", "until the vCPUs ran"),
)

_PLACES = {
    "source": "the guest runs at the source",
    "destination": "the guest runs at the destination",
    "file": "the guest is in the file",
    "unknown": "find out which side runs the guest before starting it again",
}


def guest_rows(report: Json) -> list[Row]:
    """The guest, the host and how it was sent; nothing where no guest is described."""
    config, tracker, rehearsal = report["config"], report["tracker"], report.get("rehearsal")
    if "memory_bytes" not in config:
        return []
    rows = [("guest", _guest_words(config)), ("host", _host_words(report["host"]))]
    if tracker:
        rows.append(("tracker", f"{tracker['kind']}, {tracker['variant']}"))
    if rehearsal:
        rows.append(("rehearsal", _rehearsal_words(rehearsal)))
    return rows


def _guest_words(config: Json) -> str:
    vcpus = "1 vCPU" if config["vcpus"] == 1 else f"{config['vcpus']} vCPUs"
    if config["backend"] == "threads":
        vcpus = vcpus.replace("vCPU", "writer thread")
    words = f"{size_words(config['memory_bytes'])} of {config['content']}, {vcpus}"
    if config["guest"] == "idle":
        return f"{words}, idle"
    rate = config["dirty_rate_pages_per_s"]
    pace = "as fast as it goes" if rate is None else f"{count_words(rate)} pages/s"
    working_set = size_words(config["working_set_bytes"])
    return f"{words}, {config['guest']} over {working_set}, {pace}"


def _host_words(host: Json) -> str:
    words = f"Linux {host['kernel']}, {host['cpus']} x {host['cpu']}"
    if host.get("kvm") == "kvm_pvm":
        return f"{words}, kvm_pvm (guests are interpreted)"
    return f"{words}, {host['kvm']}" if host.get("kvm") else words


def _rehearsal_words(rehearsal: Json) -> str:
    return (
        f"{size_words(rehearsal['state_bytes'])} of state, captured in "
        f"{time_words(rehearsal['capture_ms'])}, loaded in {time_words(rehearsal['load_ms'])}"
    )


def ending(report: Json) -> Row:
    """How it ended, as a tone (``good``, ``warn``, ``bad``) and in words."""
    outcome = str(report["outcome"])
    if outcome in ("not-converged", "cancelled"):
        return "warn", outcome.replace("-", " ")
    if outcome != "completed":
        return "bad", outcome.replace("-", " ")
    if report["role"] == "destination":
        return "good", "received"
    return "good", "measured" if report["guest"] == "source" else "migrated"


def closing(report: Json) -> str:
    """Where the guest is now, and what it took."""
    words = _place(report)
    if report.get("missing_pages") and report["guest"] == "destination":
        words += f", and {page_words(report['missing_pages'])} of it are missing there"
    if reason(report) or not report["wire_bytes"]:
        return words
    return f"{words}, {_sent(report)} in {time_words(report['total_ms'])}"


def reason(report: Json) -> str:
    """Why it did not complete; nothing where somebody wanted it so."""
    outcome = str(report["outcome"])
    if not report["error"] or outcome == "cancelled":
        return ""
    return str(report["error"]).removeprefix(f"{outcome.replace('-', ' ')}: ")


def _sent(report: Json) -> str:
    """Bytes on the wire, and the pages' own size where that is more."""
    total, sent = report.get("total"), size_words(report["wire_bytes"])
    if not total or total["raw_bytes"] <= 1.05 * report["wire_bytes"]:
        return sent
    return f"{sent} for {size_words(total['raw_bytes'])} of pages"


def _place(report: Json) -> str:
    """Where the guest is; a destination that failed only knows that it is not here."""
    if report["role"] == "destination" and report["guest"] in ("source", "file"):
        return "no guest runs here"
    return _PLACES[report["guest"]]

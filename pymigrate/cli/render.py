# SPDX-License-Identifier: Apache-2.0
"""A report as tables for a terminal, 80 columns wide.

Works on the JSON form, so that a report of another process, or of last week,
is shown in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pymigrate.cli.console import plain, stdout, table, titled
from pymigrate.cli.units import count_words, rate_words, size_words, time_words
from pymigrate.cli.verbose import encoding_table

__all__ = ["show_report"]

Json = Mapping[str, Any]

_OUTCOMES = {
    "failed": "[bold red]failed[/]",
    "not-converged": "[bold yellow]not converged[/]",
    "cancelled": "[bold yellow]cancelled[/]",
    "in-doubt": "[bold red]in doubt[/]",
}
_PLACES = {
    "source": "the guest runs at the source",
    "destination": "the guest runs at the destination",
    "file": "the guest is in the file",
    "unknown": "[bold]find out which side runs the guest before starting it again[/]",
}
_PARTS = (
    ("quiesce", "until no vCPU ran"),
    ("final_round", "the last dirty pages"),
    ("state", "capture and load"),
    ("commit", "the handover"),
    ("resume", "until the vCPUs ran"),
)
_BAR_CELLS = 20


def show_report(report: Json, out: Console | None = None) -> None:
    """Print one report."""
    out = out or stdout()
    for part in (_headline, _rounds, _pages, _downtime, _proof):
        lines = part(report)
        if lines is not None:
            out.print(lines)
            out.print()
    out.print(_closing(report))


def _headline(report: Json) -> Any:
    config, host, tracker = report["config"], report["host"], report["tracker"]
    if "memory_bytes" not in config:
        return None
    rows = table(header=False)
    rows.add_column(style="bold")
    rows.add_column(overflow="fold")
    rows.add_row("guest", _guest_words(config))
    rows.add_row("host", plain(_host_words(host)))
    if tracker:
        rows.add_row("tracker", plain(f"{tracker['kind']}, {tracker['variant']}"))
    rehearsal = report.get("rehearsal")
    if rehearsal:
        rows.add_row("rehearsal", _rehearsal_words(rehearsal))
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


def _rounds(report: Json) -> Any:
    if not report["rounds"]:
        return None
    rows = table()
    rows.add_column("#", justify="right", no_wrap=True)
    for name in ("pages", "zero", "sent", "time", "rate", "dirtied", "downtime"):
        rows.add_column(name, justify="right", no_wrap=True)
    for done in report["rounds"]:
        sealed = done["kind"] == "sealed"
        rows.add_row(
            "last" if sealed else str(done["epoch"]),
            count_words(done["sent_pages"]),
            count_words(done["zero_pages"]),
            size_words(done["wire_bytes"]),
            time_words(done["duration_ms"]),
            rate_words(done["bandwidth_bytes_per_s"] * 8),
            "" if sealed else count_words(done["pending_pages"]),
            "" if sealed else time_words(done["predicted_downtime_ms"]),
        )
    return titled("Rounds", rows)


def _pages(report: Json) -> Any:
    """How pages travelled, where some did otherwise than as they are."""
    total = report.get("total")
    plain_ones = ("raw", "zero", "hole")
    if not total or not any(
        n for k, n in total["pages_by_encoding"].items() if k not in plain_ones
    ):
        return None
    rows = encoding_table(total)
    return titled("Pages", rows) if rows is not None else None


def _downtime(report: Json) -> Any:
    downtime = report["downtime"]
    if not downtime:
        return None
    total = downtime["total_ms"]
    rows = table(header=False)
    rows.add_column(no_wrap=True)
    rows.add_column(justify="right", no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    for name, meaning in _PARTS:
        part = downtime[f"{name}_ms"]
        rows.add_row(
            name.replace("_", " "), time_words(part), _bar(part, total), f"[dim]{meaning}[/]"
        )
    rows.add_row("[bold]total[/]", f"[bold]{time_words(total)}[/]", "", _prediction(report, total))
    return titled("Downtime", rows)


def _bar(part: float, total: float) -> str:
    cells = part / total * _BAR_CELLS if total > 0 else 0
    return f"[cyan]{'█' * round(cells) or '▏'}[/]"


def _prediction(report: Json, total: float) -> str:
    predicted = report["predicted_downtime_ms"]
    if predicted is None:
        return ""
    off = total - predicted
    share = f" ({100 * off / total:+.0f}%)" if total > 0 else ""
    return f"[dim]predicted {time_words(predicted)}, {off:+.2f} ms off{share}[/]"


def _proof(report: Json) -> Any:
    checks = [*_verify_check(report), *_oracle_check(report), *_sides_check(report)]
    if not checks:
        return None
    rows = table(header=False)
    rows.add_column(width=6)
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    for ok, name, words in checks:
        rows.add_row("[green]ok[/]" if ok else "[bold red]FAILED[/]", name, words)
    return titled("Proof", rows)


def _verify_check(report: Json) -> list[tuple[bool, str, str]]:
    verify = report["verify"]
    if not verify:
        return []
    words = (
        f"{count_words(verify['pages'])} pages compared on both sides, "
        f"{count_words(verify['mismatches'])} mismatches"
    )
    return [(verify["mismatches"] == 0, "verify", words)]


def _oracle_check(report: Json) -> list[tuple[bool, str, str]]:
    oracle = report["oracle"]
    if not oracle:
        return []
    if not oracle["ok"]:
        return [(False, "oracle", plain(oracle["message"]))]
    words = f"{count_words(oracle['counters_checked'])} counters, "
    if oracle["content_checked"]:
        words += f"{count_words(oracle['content_checked'])} other pages, "
    words += f"time and {count_words(oracle['device_reads'])} device accesses are right"
    return [(True, "oracle", words)]


def _sides_check(report: Json) -> list[tuple[bool, str, str]]:
    proof = report.get("proof") or {}
    there, here = proof.get("destination"), proof.get("source")
    checks = []
    if there and here:
        checks.append(
            (
                here["stopped"],
                "one side",
                f"the source stands still at {here['beats_after']:,} beats",
            )
        )
    owner = there or here
    if owner:
        beats = owner["beats_after"] - owner["beats_before"]
        words = f"{beats:,} heartbeats in {time_words(owner['ran_for_ms'])} since"
        checks.append((beats > 0, "guest", words))
        if report["config"].get("content") == "untouched":
            words = f"{size_words(owner['allocated_bytes'])} of guest memory are allocated"
            checks.append((True, "holes", words))
    gap = report["guest_gap_ms"]
    if gap is not None and there:
        words = f"{time_words(gap)} at most between two of its heartbeats"
        if report["verify_ms"]:
            words += f", {time_words(report['verify_ms'])} of it for the verification"
        checks.append((True, "guest gap", words))
    return checks


def _closing(report: Json) -> str:
    outcome = report["outcome"]
    words = f"{_ending(report)}: {_place(report)}"
    if report["error"] and outcome != "cancelled":
        reason = str(report["error"]).removeprefix(f"{outcome.replace('-', ' ')}: ")
        return f"{words}\n{plain(reason)}"
    if not report["wire_bytes"]:
        return words
    return f"{words}, {_sent(report)} in {time_words(report['total_ms'])}"


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


def _ending(report: Json) -> str:
    if report["outcome"] != "completed":
        return _OUTCOMES[report["outcome"]]
    if report["role"] == "destination":
        return "[bold green]received[/]"
    return "[bold green]measured[/]" if report["guest"] == "source" else "[bold green]migrated[/]"

# SPDX-License-Identifier: Apache-2.0
"""How reports are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pymigrate.cli.render import show_report
from pymigrate.cli.summary import summarize


def shown(report: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    show_report(report)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return out


def report_of(**changes: Any) -> dict[str, Any]:
    """A report with everything in it."""
    done = {
        "epoch": 1, "kind": "fuzzy", "dirty_pages": 16777216, "sent_pages": 16777216,
        "zero_pages": 16777216, "raw_pages": 0, "hole_pages": 0, "wire_bytes": 1023 << 20,
        "duration_ms": 99_990.0, "harvest_ms": 1.0, "bandwidth_bytes_per_s": 124.9e6,
        "pending_pages": 16777216, "predicted_downtime_ms": 99_990.0, "decision": "continue",
        "reason": "",
    }  # fmt: skip
    return {
        "schema": "pymigrate.report/1", "outcome": "completed", "role": "source",
        "guest": "destination", "session": "00", "peer": "x", "host": {
            "kernel": "6.1.0", "cpu": "a processor with a name that is rather long", "cpus": 2,
            "kvm": "kvm_pvm", "arch": "x86_64", "memory_bytes": 1, "virtualized": True},
        "config": {"memory_bytes": 64 << 30, "vcpus": 64, "backend": "kvm", "guest": "partial",
                   "content": "untouched", "dirty_rate_pages_per_s": None,
                   "working_set_bytes": 1 << 30},
        "tracker": {"kind": "kvm-log", "variant": "manual-protect", "reason": "x"},
        "rounds": [done, {**done, "epoch": 2, "kind": "sealed"}],
        "rehearsal": {"pause_ms": 1.0, "quiesce_ms": 1.0, "capture_ms": 1.0, "resume_ms": 1.0,
                      "transfer_ms": 1.0, "load_ms": 1.0, "state_bytes": 20000},
        "downtime": {"total_ms": 100.0, "quiesce_ms": 0.0, "final_round_ms": 0.0, "state_ms": 0.0,
                     "commit_ms": 100.0, "resume_ms": 0.0},
        "predicted_downtime_ms": 1.0, "total_ms": 100_000.0, "wire_bytes": 1 << 40,
        "verify": {"pages": 16777216, "mismatches": 0, "duration_ms": 1.0}, "verify_ms": 1.0,
        "guest_gap_ms": 101.0, "error": None, "differences": [],
        "oracle": {"ok": True, "counters_checked": 262144, "content_checked": 16777216,
                   "steps": 1, "sweeps": 1, "device_reads": 1000000, "message": ""},
        "proof": {"ok": True, "source": {"beats_before": 5, "beats_after": 5, "stopped": True},
                  "destination": {"ran_for_ms": 1000.0, "beats_before": 5, "beats_after": 1005,
                                  "allocated_bytes": 4096, "guest_gap_ms": 101.0, "ok": True}},
        **changes,
    }  # fmt: skip


def test_pages_that_travelled_otherwise_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    pages = {"raw": 16777216, "delta": 16777216, "zstd": 0, "zero": 16777216, "hole": 0}
    sizes = {name: 1 << 40 for name in pages}
    total = {
        "wire_bytes": 1 << 40,
        "raw_bytes": 3 << 40,
        "pages_by_encoding": pages,
        "bytes_by_encoding": sizes,
    }
    out = shown(report_of(total=total), capsys)
    assert "Pages" in out and "delta" in out and "zstd" not in out
    assert "1.0 TiB for 3.0 TiB of pages in 100.00 s" in " ".join(out.split())
    plain = {name: count for name, count in pages.items() if name != "delta"}
    assert "Pages" not in shown(report_of(total={**total, "pages_by_encoding": plain}), capsys)


def test_the_widest_report_fits(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(report_of(), capsys)
    assert "migrated: the guest runs at the destination" in out
    assert "predicted 1.00 ms, +99.00 ms off" in out


@pytest.mark.parametrize(
    ("outcome", "guest", "words"),
    [
        ("failed", "source", "failed: the guest runs at the source"),
        ("not-converged", "source", "not converged: the guest runs at the source"),
        ("cancelled", "source", "cancelled: the guest runs at the source"),
        ("in-doubt", "unknown", "in doubt: find out which side runs the guest"),
    ],
)
def test_other_ends(
    outcome: str, guest: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(
        report_of(
            outcome=outcome,
            guest=guest,
            error="because [of] that",
            downtime=None,
            proof=None,
            oracle=None,
            rounds=[],
            rehearsal=None,
            verify=None,
            guest_gap_ms=None,
        ),
        capsys,
    )
    assert words in out
    assert ("because [of] that" in out) == (outcome != "cancelled")


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r["oracle"].update(ok=False, message="page 7 is old"), "oracle page 7 is old"),
        (lambda r: r["verify"].update(mismatches=3), "verify 16,777,216 pages compared"),
        (lambda r: r["proof"]["source"].update(stopped=False), "one side"),
        (lambda r: r["proof"]["destination"].update(beats_after=5), "guest 0 heartbeats"),
    ],
)
def test_a_proof_that_fails_is_marked(
    change: Change, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of()
    change(report)
    marked = [row for row in shown(report, capsys).splitlines() if row.startswith("FAILED")]
    assert len(marked) == 1
    assert line in " ".join(marked[0].split())


def test_a_summary_survives_runs_without_downtime() -> None:
    failed = report_of(
        outcome="failed", downtime=None, predicted_downtime_ms=None, guest_gap_ms=None
    )
    document = summarize([failed])
    assert document["outcome"] == "failed"
    assert document["summary"]["downtime_ms"] is None

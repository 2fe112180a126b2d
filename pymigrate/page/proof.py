# SPDX-License-Identifier: Apache-2.0
"""What shows that the guest is whole, check by check."""

from __future__ import annotations

from dataclasses import dataclass

from pymigrate.page.facts import Json
from pymigrate.page.words import count_words, size_words, time_words

__all__ = ["Check", "checks"]


@dataclass(frozen=True)
class Check:
    """Something that was looked at, and whether it is as it must be."""

    ok: bool
    name: str
    words: str


def checks(report: Json) -> list[Check]:
    """All that the report holds."""
    return [*_verified(report), *_judged(report), *_sides(report), *_gap(report)]


def _verified(report: Json) -> list[Check]:
    verify = report["verify"]
    if not verify:
        return []
    words = (
        f"{count_words(verify['pages'])} pages compared on both sides, "
        f"{count_words(verify['mismatches'])} mismatches"
    )
    return [Check(verify["mismatches"] == 0, "verify", words)]


def _judged(report: Json) -> list[Check]:
    oracle = report["oracle"]
    if not oracle:
        return []
    if not oracle["ok"]:
        return [Check(False, "oracle", str(oracle["message"]))]
    words = f"{count_words(oracle['counters_checked'])} counters, "
    if oracle["content_checked"]:
        words += f"{count_words(oracle['content_checked'])} other pages, "
    words += f"time and {count_words(oracle['device_reads'])} device accesses are right"
    return [Check(True, "oracle", words)]


def _sides(report: Json) -> list[Check]:
    """One side goes on, and the other stands still."""
    proof = report.get("proof") or {}
    there, here = proof.get("destination"), proof.get("source")
    found = []
    if there and here:
        words = f"the source stands still at {here['beats_after']:,} beats"
        found.append(Check(here["stopped"], "one side", words))
    if owner := there or here:
        beats = owner["beats_after"] - owner["beats_before"]
        words = f"{beats:,} heartbeats in {time_words(owner['ran_for_ms'])} since"
        found.append(Check(beats > 0, "guest", words))
        if report["config"].get("content") == "untouched":
            words = f"{size_words(owner['allocated_bytes'])} of guest memory are allocated"
            found.append(Check(True, "holes", words))
    return found


def _gap(report: Json) -> list[Check]:
    gap_ms = report["guest_gap_ms"]
    if gap_ms is None or not (report.get("proof") or {}).get("destination"):
        return []
    words = f"{time_words(gap_ms)} at most between two of its heartbeats"
    if report["verify_ms"]:
        words += f", {time_words(report['verify_ms'])} of it for the verification"
    return [Check(True, "guest gap", words)]

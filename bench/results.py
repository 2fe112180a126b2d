# SPDX-License-Identifier: Apache-2.0
"""How a measurement is kept: what was run, where, and every single run."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.peers.qemu_process import qemu_version
from bench.scenario import Ratio, Scenario
from bench.stats import best_of, median_run, paired_ratios, spread, summarize
from bench.task import GIB, Run, Task
from pymigrate.host import host_facts

SCHEMA = "pymigrate.bench/2"


class ResultsError(RuntimeError):
    """Results are not kept; the sentence says why."""


def figures(run: Run, task: Task) -> dict[str, Any]:
    """A run with what follows from it."""
    found = asdict(run)
    seconds = run.total_ms / 1000 if run.total_ms else None
    gib = task.touched_bytes / GIB
    cpus = (run.source_cpu_s, run.destination_cpu_s)
    known = run.outcome == "completed" and None not in cpus
    found["bytes_per_s"] = task.touched_bytes / seconds if seconds else None
    found["cpu_s_per_gib"] = sum(cpu or 0.0 for cpu in cpus) / gib if known and gib else None
    found |= _faults(run.extra)
    found["bulk_bytes_per_s"] = _bulk_rate(run)
    for name in ("wire_bytes", "link_bytes"):
        sent_bytes = getattr(run, name)
        counts = sent_bytes is not None and task.touched_bytes and seconds
        found[f"{name}_per_memory"] = sent_bytes / task.touched_bytes if counts else None
    return found


def _faults(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Latencies of a guest that went ahead of its pages, beside their floor."""
    faults, late = extra.get("faults"), extra.get("late")
    if not faults or not late:
        return {}
    floor_us = extra.get("touch_us", 0.0) + extra.get("link_us", 0.0)
    duration_ms = late["duration_ms"]
    return {
        "fault_count": faults["count"],
        "fault_p50_us": faults["p50_us"],
        "fault_p99_us": faults["p99_us"],
        "fault_p50_of_floor": faults["p50_us"] / floor_us if floor_us else None,
        "late_bytes_per_s": 1000 * late["wire_bytes"] / duration_ms if duration_ms else None,
        "late_sent_per_outstanding": late["sent_pages"] / max(1, late["outstanding_pages"]),
    }


def _bulk_rate(run: Run) -> float | None:
    """Bytes on the wire per second, of the round or the pages after the switchover
    that brought most of memory.
    """
    parts = [*run.rounds, *filter(None, [run.extra.get("late")])]
    # QEMU is looked at now and then, and does not tell its rounds.
    told = [(part["wire_bytes"], part["duration_ms"]) for part in parts if "duration_ms" in part]
    wire_bytes, duration_ms = max(told, default=(0, 0.0))
    return 1000 * wire_bytes / duration_ms if duration_ms else None


def document(scenario: Scenario, task: Task, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Everything about one scenario, as JSON."""
    by_name = {name: [figures(run, task) for run in made] for name, made in runs.items()}
    return {
        "schema": SCHEMA,
        "name": scenario.name,
        "title": scenario.title,
        "says": scenario.says,
        "task": asdict(task) | {"touched_bytes": task.touched_bytes},
        "facts": facts(),
        "contenders": [
            {"name": contender.name, "kind": type(contender).__name__}
            for contender in scenario.contenders
            if contender.name in by_name
        ],
        "runs": {name: _for_pictures(made) for name, made in by_name.items()},
        "summary": {name: summarize(made) for name, made in by_name.items()},
        "ratios": [found for ratio in scenario.ratios if (found := _ratio(ratio, by_name))],
    }


def _for_pictures(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rounds are kept of the median run alone: they are many, and drawn once."""
    drawn = median_run(runs)
    return [run if run is drawn else {**run, "rounds": []} for run in runs]


def _ratio(ratio: Ratio, runs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any] | None:
    candidates = {name: runs[name] for name in ratio.under if name in runs}
    under = best_of(candidates, ratio.figure, most=ratio.most)
    if under is None or ratio.over not in runs:
        return None
    values = paired_ratios(runs[ratio.over], runs[under], ratio.figure)
    found = spread(values)
    return {
        **asdict(ratio),
        "under": under,
        "values": values,
        "summary": asdict(found) if found else None,
    }


def facts() -> dict[str, Any]:
    """The host, the programs, the date and the command."""
    return {
        **asdict(host_facts()),
        "load_average": os.getloadavg()[0],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python", "-m", "bench.run", *sys.argv[1:]]),
        "python": platform.python_version(),
        "qemu": qemu_version(),
        "commit": _commit(),
        "transparent_hugepages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
    }


def _commit() -> str:
    """Of the checkout, marked where it was changed since.

    Results do not count as a change: each scenario of a run leaves some.
    """
    commit = _git("rev-parse", "--short=12", "HEAD")
    but_results = (":(top)", ":(top,exclude)bench/results")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *but_results)
    return f"{commit}-dirty" if commit and changed else commit or "unknown"


def _git(*words: str) -> str:
    """What git says about this checkout; empty where it is none."""
    done = subprocess.run(
        ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def check_free(path: Path, force: bool) -> None:
    """Results are never overwritten unasked.

    :raises ResultsError: something is there.
    """
    if path.exists() and not force:
        raise ResultsError(f"{path} exists: choose another --results, or overwrite it with --force")


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)

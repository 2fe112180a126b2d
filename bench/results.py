# SPDX-License-Identifier: Apache-2.0
"""How a measurement is kept: what was run, where, and every single run."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pymigrate.host import host_facts

MIB = 1 << 20
GIB = 1 << 30


@dataclass
class Result:
    """One benchmark.

    :ivar runs: one dictionary of figures for each run; names end in units.
    :ivar summary: min, median and max of every figure over the runs.
    """

    name: str
    parameters: dict[str, Any]
    runs: list[dict[str, Any]]
    summary: dict[str, dict[str, float]] = field(default_factory=dict)
    schema: str = "pymigrate.bench/1"
    command: str = ""
    host: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def summarize(result: Result) -> Result:
    """Fill in the summary, the host and the command."""
    for name, first in result.runs[0].items():
        if isinstance(first, (int, float)):
            values = [run[name] for run in result.runs]
            result.summary[name] = {
                "min": min(values),
                "median": statistics.median(values),
                "max": max(values),
            }
    result.host = asdict(host_facts())
    script = Path(sys.argv[0])
    result.command = " ".join(["python", f"bench/{script.name}", *sys.argv[1:]])
    return result

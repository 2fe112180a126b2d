# SPDX-License-Identifier: Apache-2.0
"""The micro-benchmarks: bench/test_micro*.py with pytest-benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.results import facts, write

HERE = Path(__file__).resolve().parent
NAME = "micro"
SCHEMA = "pymigrate.bench.micro/1"
_TIMEOUT_S = 900
_STATS = ("min", "max", "mean", "stddev", "median", "rounds", "iterations")


def run_micro(results: Path | None, quick: bool) -> bool:
    """Run them all; True when none failed.

    :param results: where what they found is written; None: only print.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as raw:
        files = sorted(str(path) for path in HERE.glob("test_micro*.py"))
        line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
        line += [f"--benchmark-max-time={0.05 if quick else 0.3}"]
        line += ["--benchmark-columns=min,median,max,rounds", f"--timeout={_TIMEOUT_S}"]
        line.append(f"--benchmark-json={raw.name}")
        done = subprocess.run(line, cwd=HERE.parent, timeout=_TIMEOUT_S)
        if results is not None and done.returncode == 0:
            write(results, condense(json.loads(Path(raw.name).read_text())))
        return done.returncode == 0


def condense(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of pytest-benchmark's file: not every round, no host names."""
    return {
        "schema": SCHEMA,
        "facts": facts(),
        "benchmarks": [
            {
                "name": one["name"],
                "fullname": one["fullname"],
                "extra_info": one["extra_info"],
                "stats": {name: one["stats"][name] for name in _STATS},
            }
            for one in raw["benchmarks"]
        ],
    }

# SPDX-License-Identifier: Apache-2.0
"""The micro-benchmarks: bench/test_micro*.py with pytest-benchmark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "micro"
_TIMEOUT_S = 600


def run_micro(results: Path | None, quick: bool) -> bool:
    """Run them all; True when none failed.

    :param results: a file for pytest-benchmark's JSON; None: only print.
    """
    files = sorted(str(path) for path in HERE.glob("test_micro*.py"))
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    line += [f"--benchmark-max-time={0.05 if quick else 0.5}"]
    line += ["--benchmark-columns=min,median,max,rounds", f"--timeout={_TIMEOUT_S}"]
    if results is not None:
        results.parent.mkdir(parents=True, exist_ok=True)
        line.append(f"--benchmark-json={results}")
    return subprocess.run(line, cwd=HERE.parent, timeout=_TIMEOUT_S).returncode == 0

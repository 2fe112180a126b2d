# SPDX-License-Identifier: Apache-2.0
"""Running the command line, for tests: small guests, short runs."""

from __future__ import annotations

import subprocess
import sys

PYMIGRATE = [sys.executable, "-m", "pymigrate"]
SMALL = ["--memory", "32M", "--working-set", "4M", "--dirty-rate", "2000"]
QUICK = [*SMALL, "--run-for", "200ms"]
TIMEOUT_S = 90


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [*PYMIGRATE, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )

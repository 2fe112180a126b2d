# SPDX-License-Identifier: Apache-2.0
"""The Python example does what it says; the C one is in test_packaging.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "python" / "embed.py"


@pytest.mark.uffd
@pytest.mark.lab_subset
def test_embedded_machine_arrives_whole(slowdown: float) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30 * slowdown,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16384 pages compared, 0 mismatches" in done.stdout
    assert "destination: the pages are whole" in done.stdout

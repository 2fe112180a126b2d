# SPDX-License-Identifier: Apache-2.0
"""The lab: a real kvm_amd with nested paging, Linux 6.1 (docs/testing.md)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import lab
import pytest

ROOT = Path(__file__).resolve().parent.parent
BOOT_TO_END_S = 600


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Where the VM leaves its results, with all it needs built before."""
    subprocess.run(["make", "-s", "-j2", "-C", str(ROOT / "csrc"), "tests"], check=True)
    return tmp_path


@pytest.mark.lab
@pytest.mark.timeout(BOOT_TO_END_S + 120)
def test_lab(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = lab.run(results, BOOT_TO_END_S)
    with capsys.disabled():
        print("\n" + capsys.readouterr().out, end="")
    assert not wrong


def write_results(results: Path, status: str, tests: int) -> None:
    (results / "status").write_text(status)
    (results / "junit.xml").write_text(
        f'<testsuites><testsuite tests="{tests}" skipped="1"/></testsuites>'
    )


def test_results_of_a_good_run_are_accepted(tmp_path: Path) -> None:
    write_results(tmp_path, "boot 0 1\nunits 0 60\npytest 0 99\ndemo 0 50\n", tests=3)
    assert lab.judge(tmp_path) == []


def test_a_vm_that_did_not_boot_is_a_failure(tmp_path: Path) -> None:
    assert lab.judge(tmp_path) == ["boot: did not finish"]


def test_a_failed_stage_is_a_failure(tmp_path: Path) -> None:
    write_results(tmp_path, "boot 0 1\nunits 1 60\npytest 0 99\ndemo 0 50\n", tests=3)
    assert lab.judge(tmp_path) == ["units: exit status 1"]


def test_a_run_cut_short_is_a_failure(tmp_path: Path) -> None:
    write_results(tmp_path, "boot 0 1\nunits 0 60\npytest 0 99\n", tests=3)
    assert lab.judge(tmp_path) == ["demo: did not finish"]


def test_a_run_of_nothing_but_skips_is_a_failure(tmp_path: Path) -> None:
    write_results(tmp_path, "boot 0 1\nunits 0 60\npytest 0 99\ndemo 0 50\n", tests=1)
    assert lab.judge(tmp_path) == ["pytest: no test ran"]

# SPDX-License-Identifier: Apache-2.0
"""Guests recorded into files, and restored from them lazily."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fault_pair import LIMIT_S, MIB, migrate, options, run_on
from fault_tunings import RAW

from pymigrate import Destination, Report
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.restoring import Restoring
from pymigrate.vmm import Backing, Vm, VmConfig

LIMIT_MS = int(LIMIT_S * 1000)


def record(path: Path, config: VmConfig, tuning: dict[str, Any] = RAW, warm: bool = True) -> None:
    """A guest that ran for a while, in a file."""
    with Vm(config, populate=True) as vm:
        if warm:
            vm.resume()
            run_on(vm, 1)
        report = migrate(vm, f"file:{path}", options(**tuning))
        assert report.outcome is Outcome.COMPLETED, report.error
        assert report.guest is Owner.FILE


def lazily(path: Path, backing: Backing | None = None, **more: Any) -> Destination:
    """A destination for the file; the backing may be another one there."""

    def build(description: dict[str, Any]) -> Vm:
        config = VmConfig.from_json(description["machine"])
        return Vm(replace(config, backing=backing or config.backing))

    return Destination(f"file:{path}", build, options(lazy=True, **more))


# Far from complete when something else happens.
SLOWLY = {"fill_limit_bytes_per_s": 4 * MIB}


def bounded(call: Callable[[], Report]) -> Report:
    """What hangs fails."""
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(call()), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "the destination hangs"
    return reports[0]


def start(destination: Destination) -> tuple[Report, Restoring, Vm]:
    report = bounded(destination.serve_one)
    assert report.outcome is Outcome.COMPLETED, report.error
    assert report.restore is not None and report.restore.running_ms > 0
    machine, restoring = destination.machine, destination.restoring
    assert isinstance(machine, Vm) and restoring is not None
    return report, restoring, machine


def refused(destination: Destination) -> str:
    with destination:
        report = bounded(destination.serve_one)
        assert destination.machine is None
    assert report.outcome is Outcome.FAILED and report.guest is Owner.FILE
    assert report.error and "Traceback" not in report.error
    return report.error

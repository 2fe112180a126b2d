# SPDX-License-Identifier: Apache-2.0
"""Lazy restore: python -m bench.restore [--memory-mib MIB] [--results DIR] [--force]

A guest is recorded into a file and restored from it, in turn without a
working set and with the one that the restore before recorded. The file is in
the page cache: what is measured is the restore, and not a disk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.results import ResultsError, check_free, facts, write
from pymigrate import Compression, Destination, Options, PolicyOptions, Source
from pymigrate.report import Outcome
from pymigrate.vmm import Backing, Content, Guest, Vm, VmConfig
from pymigrate.working_set import working_set_path

NAME = "restore"
SCHEMA = "pymigrate.bench.restore/1"
MIB = 1 << 20
HERE = Path(__file__).resolve().parent
# The guest is given this long to touch what it touches.
RUN_S = 1.0
BEAT_TIMEOUT_S = 10.0

Figures = dict[str, Any]


def main() -> int:
    options = _parser().parse_args()
    path = options.results / f"{NAME}.json" if options.results else None
    try:
        if path is not None:
            check_free(path, options.force)
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            found = measure(Path(directory) / "guest", options)
    except ResultsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if path is not None:
        write(path, found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.restore", description=__doc__)
    parser.add_argument("--memory-mib", type=int, default=2048, metavar="MIB")
    parser.add_argument("--working-set-mib", type=int, default=64, metavar="MIB")
    parser.add_argument("--rate", type=int, default=20_000, metavar="PAGES_PER_S")
    parser.add_argument("--guest", choices=[guest.value for guest in Guest], default="random")
    parser.add_argument("--content", choices=[c.value for c in Content], default="mixed")
    parser.add_argument("--backing", choices=[b.value for b in Backing], default="anonymous")
    parser.add_argument(
        "--compression", choices=[c.value for c in Compression], default="auto", help="of the file"
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each kind, in turn")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where the file is put")
    parser.add_argument("--results", type=Path, metavar="DIR", help="where results are kept")
    parser.add_argument("--force", action="store_true", help="overwrite results")
    return parser


def measure(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Record once, restore again and again; prints as it goes."""
    config = VmConfig(
        memory_bytes=options.memory_mib * MIB,
        working_set_bytes=options.working_set_mib * MIB,
        dirty_rate_pages_per_s=options.rate,
        guest=Guest(options.guest),
        content=Content(options.content),
        backing=Backing(options.backing),
    )
    record(path, config, Compression(options.compression))
    size = path.stat().st_size
    print(f"{options.memory_mib} MiB of {options.content} in {size / MIB:.0f} MiB")
    runs: dict[str, list[Figures]] = {"without": [], "with": []}
    for _ in range(options.runs):
        Path(working_set_path(str(path))).unlink(missing_ok=True)
        for kind, made in runs.items():
            made.append(restore(path))
            print(_words(kind, made[-1]))
    summary = {kind: _summary(made) for kind, made in runs.items()}
    ratios = [
        before["faults"] / max(1, after["faults"])
        for before, after in zip(runs["without"], runs["with"], strict=True)
    ]
    print(f"faults without the working set / with it: {_spread(ratios)}")
    for kind, figures in summary.items():
        print(f"{kind:8} call to running, ms: {figures['running_ms']}")
    return {
        "schema": SCHEMA,
        "config": config.to_json(),
        "file_bytes": size,
        "facts": facts() | {"command": " ".join(["python", "-m", "bench.restore", *sys.argv[1:]])},
        "runs": runs,
        "fault_ratios": ratios,
    }


def record(path: Path, config: VmConfig, compression: Compression) -> None:
    """The guest, after it ran for a while."""
    options = Options(compression=compression, policy=PolicyOptions(downtime_limit_ms=60_000))
    with Vm(config, populate=True) as vm:
        vm.resume()
        vm.wait_device_reads(2)
        with Source(vm, f"file:{path}", options) as source:
            report = source.migrate()
    if report.outcome is not Outcome.COMPLETED:
        raise ResultsError(f"the guest could not be recorded: {report.error}")


def restore(path: Path) -> Figures:
    """One restore: to the running guest, for a while, and to the last page."""

    def build(description: Mapping[str, Any]) -> Vm:
        return Vm(VmConfig.from_json(description["machine"]))

    begin = time.monotonic()
    with Destination(f"file:{path}", build, Options(lazy=True)) as destination:
        report = destination.serve_one()
        if report.outcome is not Outcome.COMPLETED:
            raise ResultsError(f"the guest could not be restored: {report.error}")
        restoring, machine = destination.restoring, destination.machine
        assert restoring is not None and isinstance(machine, Vm)
        beat_ms = 1000 * (_first_beat(machine) - begin)
        restoring.wait()
        time.sleep(max(0.0, begin + RUN_S - time.monotonic()))
        machine.pause()
        oracle = machine.oracle(content=True)
        if not oracle.ok:
            raise ResultsError(f"the restored guest is not whole: {oracle.message}")
        faults = restoring.faults()
    return {
        **asdict(restoring.report()),
        "first_beat_ms": beat_ms,
        "faults": faults.count,
        "fault_p50_us": faults.p50_us,
        "fault_p99_us": faults.p99_us,
        "stalled_ms": faults.stalled_ms,
    }


def _first_beat(vm: Vm) -> float:
    """When the guest was first seen to run, to a fraction of a millisecond."""

    def count() -> int:
        return sum(beat.count for beat in vm.heartbeats())

    before, deadline = count(), time.monotonic() + BEAT_TIMEOUT_S
    while count() == before:
        if time.monotonic() > deadline:
            raise ResultsError("the restored guest does not run")
        time.sleep(0.0001)
    return time.monotonic()


def _words(kind: str, made: Figures) -> str:
    return (
        f"{kind:8} running {made['running_ms']:6.1f} ms (index {made['index_ms']:5.1f}), first "
        f"beat {made['first_beat_ms']:6.1f} ms, {made['faults']:5} faults of "
        f"{made['fault_p50_us']:6.0f} us, {made['prefetched_pages']:6} pages prefetched, "
        f"complete {made['complete_ms']:7.0f} ms"
    )


def _summary(made: list[Figures]) -> dict[str, str]:
    return {name: _spread([run[name] for run in made]) for name in ("running_ms", "faults")}


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    sys.exit(main())

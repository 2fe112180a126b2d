# SPDX-License-Identifier: Apache-2.0
"""Bulk throughput: a migration of random memory beside a bare mover.

Pairs of runs, one directly after the other, because the machine drifts; the
ratio of each pair counts, and the median of the ratios is the result. Two
figures are given for the migration: *transfer*, the first round alone, which
is comparable with the bare mover; and *whole*, everything from connecting to
the running guest, memory allocation at the destination included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bare_mover import move, populated
from results import GIB, MIB, Result, summarize


@dataclass(frozen=True)
class Pair:
    """One bare move and one migration; all figures in bytes/s."""

    bare_bytes_per_s: float
    transfer_bytes_per_s: float
    whole_bytes_per_s: float
    downtime_ms: float

    @property
    def transfer_ratio(self) -> float:
        return self.transfer_bytes_per_s / self.bare_bytes_per_s

    @property
    def whole_ratio(self) -> float:
        return self.whole_bytes_per_s / self.bare_bytes_per_s


def migrate(size_mib: int, channels: int, backing: str) -> dict:
    """The report of one demo migration of an idle, random-filled guest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pymigrate", "demo", "--guest", "idle"]
        command += ["--content", "random", "--memory", f"{size_mib}M", "--backing", backing]
        command += ["--channels", str(channels), "--json", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
        report: dict = json.loads(path.read_text())
        return report


def measure(size_mib: int, channels: int, backing: str, source) -> Pair:
    size_bytes = size_mib * MIB
    bare_s = move(size_bytes, channels, source)
    report = migrate(size_mib, channels, backing)
    first = report["rounds"][0]
    return Pair(
        bare_bytes_per_s=size_bytes / bare_s,
        transfer_bytes_per_s=first["wire_bytes"] * 1000 / first["duration_ms"],
        whole_bytes_per_s=report["wire_bytes"] * 1000 / report["total_ms"],
        downtime_ms=report["downtime"]["total_ms"],
    )


def show(pair: Pair) -> None:
    print(
        f"bare {pair.bare_bytes_per_s * 8 / 1e9:5.1f} Gbit/s   "
        f"transfer {pair.transfer_bytes_per_s * 8 / 1e9:5.1f} ({pair.transfer_ratio:.2f})   "
        f"whole {pair.whole_bytes_per_s * 8 / 1e9:5.1f} ({pair.whole_ratio:.2f})   "
        f"downtime {pair.downtime_ms:.1f} ms",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--backing", default="memfd", choices=("memfd", "anonymous", "hugetlbfs"))
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()

    source = populated(options.memory_mib * MIB, os.urandom(64 * MIB))
    pairs = []
    for _ in range(options.pairs):
        pairs.append(measure(options.memory_mib, options.channels, options.backing, source))
        show(pairs[-1])
    ratio = statistics.median(pair.transfer_ratio for pair in pairs)
    whole = statistics.median(pair.whole_ratio for pair in pairs)
    print(
        f"median of {len(pairs)} pairs: transfer {ratio:.2f} of the bare mover, whole {whole:.2f}"
    )
    if options.json:
        result = Result(
            name="bulk",
            parameters={
                "memory_gib": options.memory_mib * MIB / GIB,
                "channels": options.channels,
                "backing": options.backing,
            },
            runs=[
                asdict(p) | {"transfer_ratio": p.transfer_ratio, "whole_ratio": p.whole_ratio}
                for p in pairs
            ],
        )
        summarize(result).write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

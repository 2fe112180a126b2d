# SPDX-License-Identifier: Apache-2.0
"""All benchmarks, one after the other; results go to bench/results/.

python bench/run.py [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
MICRO = ("bench/test_micro.py", "bench/test_micro_harvest.py")


def run(title: str, *command: str) -> bool:
    print(f"\n== {title}", flush=True)
    return subprocess.run([sys.executable, *command], cwd=HERE.parent).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair of each, results not kept")
    options = parser.parse_args()
    pairs = "1" if options.quick else "5"
    ok = True
    for backing in ("memfd", "anonymous"):
        keep = () if options.quick else ("--json", str(RESULTS / f"bulk-{backing}.json"))
        ok &= run(
            f"bulk transfer beside a bare mover, {backing} memory",
            *("bench/bulk.py", "--backing", backing, "--pairs", pairs, *keep),
        )
    keep_micro = () if options.quick else (f"--benchmark-json={RESULTS / 'micro.json'}",)
    ok &= run(
        "micro-benchmarks",
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", *MICRO),
        *("--benchmark-max-time=0.5", "--benchmark-columns=min,median,max,rounds", *keep_micro),
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Figures of docs/encodings.md: python -m bench.codecs [--results DIR] [--force]

Times are processor time of the measuring thread, so that other load on the
machine shows less; the least and the median of RUNS runs are kept.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.native import BLOCK, LZ4, PAGE, ZSTD, Pages, kernels, library
from bench.resend import comparison
from bench.results import ResultsError, check_free, facts, write

RUNS = 7
HOT_PAGES = 20000
STREAM_BYTES = 256 << 20
CONTENT_BYTES = 8 << 20
CONTENTS = ("text", "executable", "pointers", "random")
CANDIDATES = ((LZ4, 1), (ZSTD, -5), (ZSTD, -1), (ZSTD, 1), (ZSTD, 3))
GROUPS = (1, 4, 16, 64)
LINES = {1: 1 << 17, 4: 0x1000100010001, 16: 0x1111111111111111, 63: (1 << 63) - 1}
ENCODERS = {LZ4: "lz4", ZSTD: "zstd"}

Figures = dict[str, Any]


def timed(step: Callable[[], object], n_pages: int) -> Figures:
    """Processor time of a page; the first run is not counted."""
    found = []
    for _ in range(RUNS + 1):
        start = time.thread_time_ns()
        step()
        found.append((time.thread_time_ns() - start) / n_pages)
    return {"min_ns": min(found[1:]), "median_ns": statistics.median(found[1:])}


def small_steps() -> list[Figures]:
    """All but compression: of one page in the first cache, and of many in memory."""
    lib, hot, many = library(), Pages.of("executable", BLOCK), Pages(STREAM_BYTES)
    found = []
    for where, pages, stride, n in (
        ("cache", hot, 0, HOT_PAGES),
        ("memory", many, PAGE, many.n),
    ):
        steps: dict[str, Callable[[], object]] = {
            "hash": partial(lib.bench_hash, pages.at, stride, n),
            "sample": partial(lib.bench_sample, pages.at, stride, n, None),
        }
        for name, i in kernels().items():
            steps[f"prints {name}"] = partial(lib.bench_prints, i, pages.at, stride, n)
        for lines, mask in LINES.items():
            for step in ("encode", "apply"):
                run = getattr(lib, f"bench_delta_{step}")
                steps[f"delta {step} {lines}"] = partial(run, pages.at, stride, n, mask)
        found += [{"step": name, "where": where, **timed(run, n)} for name, run in steps.items()]
    changes = timed(partial(lib.bench_changes, HOT_PAGES), HOT_PAGES)
    return [*found, {"step": "changes", "where": "cache", **changes}]


def compression(content: str) -> list[Figures]:
    """Every candidate and group size on one content."""
    lib, pages = library(), Pages.of(content, CONTENT_BYTES)
    out, back = Pages(CONTENT_BYTES), Pages(CONTENT_BYTES)
    sizes = (ctypes.c_uint32 * pages.n)()
    found = []
    for encoding, level in CANDIDATES:
        for group in GROUPS:
            pack = (encoding, level, pages.at, pages.n, group, out.at, sizes)
            unpack = (encoding, out.at, sizes, pages.n, group, back.at)
            stored = lib.bench_compress(*pack)
            if lib.bench_decompress(*unpack) or back.map[:] != pages.map[:]:
                raise RuntimeError(f"{content} did not come back from {ENCODERS[encoding]}")
            found.append(
                {
                    "content": content,
                    "encoding": ENCODERS[encoding],
                    "level": level,
                    "group_pages": group,
                    "ratio": stored / CONTENT_BYTES,
                    "compress": timed(partial(lib.bench_compress, *pack), pages.n),
                    "decompress": timed(partial(lib.bench_decompress, *unpack), pages.n),
                }
            )
    return found


def sampling(content: str, pages: Pages) -> Figures:
    """What the test of a few bytes says, beside what zstd makes of each page.

    Level 1, one page at a time; a page is incompressible when less than a tenth
    is saved. Zero pages are left out: they never get there.
    """
    lib, n, out = library(), pages.n, Pages(pages.n * PAGE)
    flags, sizes = (ctypes.c_uint8 * n)(), (ctypes.c_uint32 * n)()
    lib.bench_sample(pages.at, PAGE, n, flags)
    lib.bench_compress(ZSTD, 1, pages.at, n, 1, out.at, sizes)
    zero = bytes(PAGE)
    kept = [i for i in range(n) if pages.map[i * PAGE : (i + 1) * PAGE] != zero]
    poor = {i for i in kept if sizes[i] > 0.9 * PAGE}
    random = {i for i in kept if flags[i]}
    return {
        "content": content,
        "pages": len(kept),
        "incompressible": len(poor),
        "called_random": len(random),
        "missed_savings": len(random - poor),
        "tried_in_vain": len(poor - random),
        "lost_share": sum(PAGE - sizes[i] for i in random) / (len(kept) * PAGE or 1),
    }


def packed_files() -> Pages:
    """Compressed files of this system, whole pages of each, one behind the other."""
    found = b""
    for path in sorted(Path("/usr/share").rglob("*.gz")):
        data = path.read_bytes()
        found += data[: len(data) // PAGE * PAGE]
        if len(found) >= CONTENT_BYTES:
            break
    made = Pages(len(found[:CONTENT_BYTES]))
    made.map[:] = found[:CONTENT_BYTES]
    return made


def samples() -> list[Figures]:
    """All contents, and files that are compressed already."""
    found = [sampling(content, Pages.of(content, CONTENT_BYTES)) for content in CONTENTS]
    return [*found, sampling("gzip files", packed_files())]


def measure() -> Figures:
    """All of it, compression first."""
    results: Figures = {"schema": "pymigrate.codecs/1", "facts": facts()}
    results["facts"]["command"] = " ".join(["python", "-m", "bench.codecs", *sys.argv[1:]])
    results["facts"]["kernels"] = list(kernels())
    parts: dict[str, Callable[[], list[Figures]]] = {
        "compression": lambda: [one for content in CONTENTS for one in compression(content)],
        "steps": small_steps,
        "resend": comparison,
        "sample": samples,
    }
    for name, part in parts.items():
        print(f"{name} ...", flush=True)
        results[name] = part()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    options = parser.parse_args()
    path = options.results / "codecs.json"
    try:
        check_free(path, options.force)
    except ResultsError as error:
        parser.error(str(error))
    write(path, measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Micro-benchmarks of the codecs, page by page as the workers use them.

Pages lie one behind the other in memory that no cache holds, except where the
name says so. docs/encodings.md has the figures of ``python -m bench.codecs``.
"""

from __future__ import annotations

import ctypes
from functools import cache

import pytest

from bench.native import LZ4, PAGE, ZSTD, Pages, kernels, library

MIB = 1 << 20
GROUPS = (1, 4, 16, 64)
CANDIDATES = [(LZ4, 1), (ZSTD, -1), (ZSTD, 1), (ZSTD, 2), (ZSTD, 3)]
CONTENTS = ("text", "executable", "pointers", "random")
HOT_PAGES = 10000


@cache
def memory(content: str, mib: int) -> Pages:
    return Pages.of(content, mib * MIB)


@pytest.mark.parametrize("name", ["avx512", "avx2", "scalar"])
@pytest.mark.parametrize("where", ["memory", "cache"])
def test_fingerprints(benchmark, where: str, name: str) -> None:
    if name not in kernels():
        pytest.skip(f"this processor has no {name}")
    pages = memory("executable", 64)
    stride, n = (PAGE, pages.n) if where == "memory" else (0, HOT_PAGES)
    benchmark.extra_info["bytes"] = n * PAGE
    benchmark(library().bench_prints, kernels()[name], pages.at, stride, n)


def test_changed_lines(benchmark) -> None:
    """From the fingerprints before and after, both in the cache."""
    benchmark.extra_info["bytes"] = HOT_PAGES * PAGE
    benchmark(library().bench_changes, HOT_PAGES)


def test_looks_random(benchmark) -> None:
    pages = memory("executable", 64)
    benchmark.extra_info["bytes"] = pages.n * PAGE
    benchmark(library().bench_sample, pages.at, PAGE, pages.n, None)


@pytest.mark.parametrize("lines", [1, 4, 16, 63])
@pytest.mark.parametrize("step", ["encode", "apply"])
def test_delta(benchmark, step: str, lines: int) -> None:
    pages = Pages(64 * MIB)
    run = getattr(library(), f"bench_delta_{step}")
    benchmark.extra_info["bytes"] = pages.n * PAGE
    benchmark(run, pages.at, PAGE, pages.n, sum(1 << line * 64 // lines for line in range(lines)))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    "candidate", CANDIDATES, ids=lambda c: f"{'lz4' if c[0] == LZ4 else 'zstd'}{c[1]}"
)
@pytest.mark.parametrize("content", CONTENTS)
def test_compress(benchmark, content: str, candidate: tuple[int, int], group: int) -> None:
    pages, out = memory(content, 4), Pages(4 * MIB)
    sizes = (ctypes.c_uint32 * pages.n)()
    run = library().bench_compress
    stored = benchmark(run, *candidate, pages.at, pages.n, group, out.at, sizes)
    benchmark.extra_info.update(bytes=pages.n * PAGE, ratio=stored / (pages.n * PAGE))

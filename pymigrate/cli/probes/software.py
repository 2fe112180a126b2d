# SPDX-License-Identifier: Apache-2.0
"""The processor and the libraries, as this build uses them."""

from __future__ import annotations

import importlib.metadata
import os

from pymigrate.cli.probes.finding import Finding, Group, Status
from pymigrate.host import cpu_flags, cpu_model

__all__ = ["probe"]

_VECTORS = {"avx512": "AVX-512", "avx2": "AVX2", "scalar": "no vector instructions"}


def probe() -> tuple[Group, bool]:
    """The findings, and whether the library itself works."""
    findings = [_processors()]
    try:
        findings += _library()
        works = True
    except ImportError as error:
        why, fix = "nothing can be migrated", "build it: pip install . in the source tree"
        findings.append(Finding("libpymigrate", Status.MISSING, str(error), why, fix))
        works = False
    findings += [_package(name) for name in ("lz4", "zstandard", "xxhash", "pyroute2")]
    return Group("Host and libraries", tuple(findings)), works


def _processors() -> Finding:
    count = len(os.sched_getaffinity(0))
    words = f"{count} x {cpu_model()}"
    if count == 1:
        why = "guest, sender and receiver share it: downtime and throughput suffer"
        return Finding("processors", Status.LIMITED, words, why, "use two or more")
    return Finding("processors", Status.OK, words)


def _library() -> list[Finding]:
    from pymigrate._engine import ffi, lib

    version = ffi.string(lib.pmig_version()).decode()
    kernel = ffi.string(lib.pmig_cpu_kernel()).decode()
    best = "avx512" if "avx512bw" in cpu_flags() else "avx2" if "avx2" in cpu_flags() else "scalar"
    words = _VECTORS.get(kernel, kernel)
    scan = Finding("page scan", Status.OK, f"{words} in use", "finds zero pages")
    if kernel == "scalar" and best != "scalar":
        why = f"the processor has {_VECTORS[best]}, this build does not use it"
        scan = Finding("page scan", Status.LIMITED, words, why)
    return [Finding("libpymigrate", Status.OK, f"version {version}"), scan]


def _package(name: str) -> Finding:
    try:
        return Finding(name, Status.OK, f"version {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, Status.MISSING, "not installed", fix=f"pip install {name}")

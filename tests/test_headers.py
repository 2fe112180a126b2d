# SPDX-License-Identifier: Apache-2.0
"""The public header and the shared library are what they say they are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
HEADER = CSRC / "pymigrate.h"
SHARED = CSRC / "build" / "libpymigrate.so.0"
# Directories of the build that are not in the library.
NOT_OURS = ("bench", "tests", "vmm")


def tool(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def shared() -> Path:
    tool("make", "-s", "-j2", "-C", str(CSRC))
    return SHARED


def code_of(header: Path) -> str:
    """A header without its comments."""
    return re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)


def declared_functions() -> set[str]:
    """Names followed by a parameter list, outside of other declarations."""
    outside_braces = re.sub(r"\{[^{}]*\}", "", code_of(HEADER))
    return set(re.findall(r"\b(pmig_\w+)\s*\(", outside_braces))


def exported_symbols(library: Path) -> set[str]:
    rows = (line.split() for line in tool("nm", "-D", "--defined-only", str(library)).splitlines())
    return {row[2].split("@")[0] for row in rows if row[1] in "TDBRVW"}


@pytest.mark.parametrize(
    ("compiler", "language"),
    [("cc", "c99"), ("cc", "c11"), ("cc", "gnu17"), ("c++", "c++17")],
)
def test_header_compiles_alone(tmp_path: Path, compiler: str, language: str) -> None:
    source = tmp_path / ("alone.cc" if compiler == "c++" else "alone.c")
    source.write_text('#include "pymigrate.h"\n')
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{CSRC}"]
    done = subprocess.run(
        [compiler, f"-std={language}", *flags, str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_library_exports_what_the_header_declares(shared: Path) -> None:
    assert exported_symbols(shared) == declared_functions()


def test_exported_symbols_are_versioned(shared: Path) -> None:
    table = tool("readelf", "--dyn-syms", "--wide", str(shared))
    exported = [line.split()[-1] for line in table.splitlines() if " pmig_" in line]
    assert exported
    assert [symbol for symbol in exported if not symbol.endswith("@@PYMIGRATE_0")] == []


def test_soname(shared: Path) -> None:
    assert "Library soname: [libpymigrate.so.0]" in tool("readelf", "-d", str(shared))


def test_library_has_no_global_state(shared: Path) -> None:
    """No object has a variable; tables of constants are in .data.rel.ro."""
    objects = [p for p in sorted((CSRC / "build").glob("*/*.o")) if p.parent.name not in NOT_OURS]
    assert objects
    variables = [
        f"{path.name}: {line}"
        for path in objects
        for line in tool("objdump", "--syms", str(path)).splitlines()
        if re.search(r" O (\.data|\.bss|\.tdata|\.tbss|\*COM\*)\t", line)
    ]
    assert variables == []


def test_library_does_not_exit_print_or_read_the_environment(shared: Path) -> None:
    undefined = {
        line.split()[-1].split("@")[0]
        for line in tool("nm", "-D", "--undefined-only", str(shared)).splitlines()
    }
    forbidden = {
        "exit", "_exit", "abort", "printf", "puts", "perror", "getenv", "secure_getenv",
        "signal", "sigaction",
    }  # fmt: skip
    assert undefined & forbidden == set()


def test_header_has_no_inline_functions_and_no_macros_for_constants() -> None:
    code = code_of(HEADER)
    assert "inline" not in code
    assert set(re.findall(r"^#define (\w+)", code, re.MULTILINE)) == {"PYMIGRATE_H"}


def test_versions_agree() -> None:
    header = dict(re.findall(r"PMIG_VERSION_(\w+) = (\d+)", HEADER.read_text()))
    version = ".".join(header[part] for part in ("MAJOR", "MINOR", "PATCH"))
    makefile = re.search(r"^VERSION\s*:= (.*)$", (CSRC / "Makefile").read_text(), re.MULTILINE)
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert makefile and project
    assert {version} == {makefile[1], project[1]}


def test_every_struct_is_size_versioned_or_fixed() -> None:
    """A struct the caller fills in or the library fills out can grow."""
    structs = re.findall(r"^struct (pmig_\w+) \{(.*?)^\};", HEADER.read_text(), re.M | re.S)
    fixed = {
        "pmig_error",
        "pmig_kvm_slot",
        "pmig_item",
        "pmig_block_pages",
        "pmig_latency",
        "pmig_fault_sample",
    }
    unversioned = {
        name for name, body in structs if not body.strip().startswith("uint32_t struct_size;")
    }
    assert unversioned == fixed

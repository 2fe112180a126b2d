# SPDX-License-Identifier: Apache-2.0
"""The layers of docs/architecture.md hold: who may include or import what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "pymigrate"
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)

# What each directory may include besides itself and the public header.
BELOW = {
    "base": set(),
    "memory": {"base"},
    "page": {"base"},
    "codec": {"base"},
    "state": {"base"},
    "uffd": {"base"},
    "dirty": {"base", "memory", "uffd"},
    "stream": {"base", "memory", "page"},
    "channel": {"base"},
    "fault": {"base", "memory", "uffd", "stream", "channel"},
    "transfer": {"base", "memory", "dirty", "page", "codec", "stream", "channel", "fault"},
    "restore": {"base", "memory", "page", "codec", "stream", "fault", "transfer"},
    "kvm": {"base", "state"},
    "vmm": set(),
}

# Who may reach outside, by the header that takes one there.
OUTSIDE = {
    "linux/kvm.h": r"(dirty/kvm\w*|dirty/dirty_kvm\w*|kvm/\w+|vmm/\w+)\.[ch]",
    "linux/userfaultfd.h": r"(uffd/uffd|dirty/dirty_uffd\w*|fault/register)\.[ch]",
    "sys/socket.h": r"channel/\w+\.[ch]",
    "netinet/*": r"channel/\w+\.[ch]",
    "lz4*": r"codec/\w+\.[ch]",
    "zstd*": r"codec/\w+\.[ch]",
    "xxhash.h": r"page/\w+\.[ch]",
}

PURE_MODULES = ("policy", "simulation", "report", "protocol", "inspector", "tuning")


def c_files() -> list[Path]:
    return sorted(
        path
        for suffix in ("*.c", "*.h")
        for path in CSRC.glob(f"*/{suffix}")
        if not path.parent.name.startswith("build")
    )


def name(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


def includes(path: Path) -> list[tuple[bool, str]]:
    """(is ours, header) for each include of a file."""
    found = INCLUDE.findall(path.read_text())
    return [(quote == '"', header) for quote, header in found]


def strays(path: Path) -> list[str]:
    """Includes of a file that reach above or beside its layer."""
    here = path.parent.name
    allowed = BELOW[here] | {here}
    return [
        header
        for ours, header in includes(path)
        if ours and "/" in header and header.split("/")[0] not in allowed
    ]


def matches(header: str, pattern: str) -> bool:
    return re.fullmatch(pattern.replace(".", r"\.").replace("*", ".*"), header) is not None


def test_every_directory_has_a_layer() -> None:
    assert {path.parent.name for path in c_files()} <= set(BELOW)


@pytest.mark.parametrize("path", c_files(), ids=name)
def test_c_includes_only_lower_layers(path: Path) -> None:
    assert strays(path) == []


@pytest.mark.parametrize("path", c_files(), ids=name)
def test_c_includes_are_relative_to_csrc(path: Path) -> None:
    missing = [header for ours, header in includes(path) if ours and not (CSRC / header).exists()]
    assert missing == []


@pytest.mark.parametrize("pattern", OUTSIDE)
def test_c_reaches_outside_only_where_meant(pattern: str) -> None:
    users = [
        name(path)
        for path in c_files()
        if any(not ours and matches(header, pattern) for ours, header in includes(path))
    ]
    assert [user for user in users if not re.fullmatch(OUTSIDE[pattern], user)] == []


def test_layers_have_no_cycle() -> None:
    order: list[str] = []
    while len(order) < len(BELOW):
        ready = [layer for layer in BELOW if layer not in order and BELOW[layer] <= set(order)]
        assert ready, f"cycle among {set(BELOW) - set(order)}"
        order.extend(ready)


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def package_of(path: Path, level: int) -> str:
    """The package that an import with level leading dots starts from."""
    parts = path.relative_to(ROOT).parts[:-level]
    return ".".join(parts)


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [package_of(path, node.level)] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
            found.add(module)
    return found


def test_only_the_engine_imports_the_native_module() -> None:
    users = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in python_files()
        if "pymigrate._native" in imports(path)
    }
    assert users == {"_engine"}


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_module_works_without_native_code(module: str) -> None:
    code = (
        "import sys\n"
        "sys.modules['pymigrate._native'] = None\n"
        "sys.modules['cffi'] = sys.modules['_cffi_backend'] = None\n"
        f"import pymigrate.{module}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", python_files(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_slow_imports_are_lazy(path: Path) -> None:
    """``import pyroute2`` takes 200 ms: it happens where it is used."""
    tree = ast.parse(path.read_text())
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    assert not {n for n in names if n.split(".")[0] == "pyroute2"}


@pytest.mark.parametrize("path", [*c_files(), *python_files()], ids=lambda p: p.name)
def test_source_names_its_licence(path: Path) -> None:
    first = path.read_text().splitlines()[0] if path.stat().st_size else ""
    assert "SPDX-License-Identifier: Apache-2.0" in first

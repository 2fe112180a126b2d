# SPDX-License-Identifier: Apache-2.0
"""What others install: the sdist, the wheel, the C library."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "c" / "migrate_memory.c"
BUILD_TIMEOUT_S = 300

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_S)


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Runs a command; its standard output. A failure shows all it said."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=dict(os.environ, **environment),
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "setup.py", "-q", "sdist", "-d", directory)
    (archive,) = directory.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, so what that forgets is found out here.

    The build dependencies are those of this environment, and nothing is
    optimised: what is tested is what is in the wheel, not how fast it is.
    """
    directory = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    run(*pip, "-w", directory, sdist, CFLAGS="-O0 -g0")
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has the wheel and its dependencies."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", wheel)
    return python


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the C library is installed."""
    directory = tmp_path_factory.mktemp("prefix")
    run("make", "-s", "-j2", "-C", ROOT / "csrc", "install", f"PREFIX={directory}")
    return directory


def test_sdist_holds_every_source_of_the_core(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "ls-files", "csrc", "pymigrate", "setup.py", "LICENSE").split()
    assert tracked
    assert set(tracked) - held == set()
    assert [name for name in held if name.startswith("csrc/build")] == []


def test_wheel_is_for_the_stable_abi(wheel: Path) -> None:
    assert "-cp310-abi3-linux_" in wheel.name


def test_wheel_holds_one_module_and_no_c(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith(".so")] == ["pymigrate/_native.abi3.so"]
    assert "pymigrate/py.typed" in names
    assert [name for name in names if name.endswith((".c", ".h", ".o", ".S"))] == []
    tops = {name.split("/")[0] for name in names}
    assert tops == {"pymigrate", f"pymigrate-{wheel.name.split('-')[1]}.dist-info"}


def test_module_exports_its_init_function_only(wheel: Path, tmp_path: Path) -> None:
    module = Path(zipfile.ZipFile(wheel).extract("pymigrate/_native.abi3.so", tmp_path))
    rows = run("nm", "-D", "--defined-only", module).splitlines()
    assert [row.split()[-1] for row in rows] == ["PyInit__native"]


def test_installed_wheel_runs(installed: Path, tmp_path: Path) -> None:
    assert "usage: pymigrate" in run(installed, "-m", "pymigrate", "--help", cwd=tmp_path)
    assert "usage: pymigrate" in run(installed.with_name("pymigrate"), "--help", cwd=tmp_path)


def test_installed_wheel_has_its_engine(installed: Path, tmp_path: Path) -> None:
    code = (
        "from pymigrate import _engine as e\n"
        "print(e.__file__, e.ffi.string(e.lib.pmig_version()).decode())"
    )
    file, version = run(installed, "-c", code, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.parent.parent)
    assert version == "0.1.0"


def test_editable_install_is_this_checkout(tmp_path: Path) -> None:
    code = "import pymigrate; print(pymigrate.__file__)"
    file = Path(run(sys.executable, "-c", code, cwd=tmp_path).strip())
    assert file == ROOT / "pymigrate" / "__init__.py"


def build_example(prefix: Path, binary: Path, *options: str) -> None:
    """Builds the C example the way its own first lines say."""
    search = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    cflags = run("pkg-config", "--cflags", "pymigrate", **search).split()
    libs = run("pkg-config", "--libs", *options, "pymigrate", **search).split()
    flags = ("-Wall", "-Wextra", "-Werror")
    run("cc", *flags, *cflags, EXAMPLE, *libs, "-pthread", "-o", binary)


def test_install_puts_everything_in_place(prefix: Path) -> None:
    installed = {
        path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if not path.is_dir()
    }
    assert installed == {
        "include/pymigrate.h",
        "lib/libpymigrate.a",
        "lib/libpymigrate.so",
        "lib/libpymigrate.so.0",
        "lib/pkgconfig/pymigrate.pc",
    }


@pytest.mark.parametrize("tracker", ["marked", pytest.param("uffd-wp", marks=pytest.mark.uffd)])
def test_c_program_migrates_memory(prefix: Path, tmp_path: Path, tracker: str) -> None:
    binary = tmp_path / "migrate_memory"
    build_example(prefix, binary)
    output = run(binary, tracker, LD_LIBRARY_PATH=str(prefix / "lib"))
    assert "16384 pages, 0 mismatches" in output
    assert "sealed" in output


def test_c_program_links_statically(prefix: Path, tmp_path: Path) -> None:
    (prefix / "lib" / "libpymigrate.so").rename(prefix / "lib" / "aside")
    try:
        build_example(prefix, tmp_path / "static", "--static")
    finally:
        (prefix / "lib" / "aside").rename(prefix / "lib" / "libpymigrate.so")
    needed = run("readelf", "-d", tmp_path / "static")
    assert "libpymigrate" not in needed
    assert "0 mismatches" in run(tmp_path / "static", "marked")

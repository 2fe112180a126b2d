# SPDX-License-Identifier: Apache-2.0
"""``python -m pymigrate`` as its users start it: a process, pipes, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("check", "demo", "send", "recv", "inspect")


def pymigrate(
    *arguments: str, options: tuple[str, ...] = (), stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the interpreter with options on the package with arguments."""
    done = subprocess.run(
        [sys.executable, *options, "-m", "pymigrate", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        env=dict(os.environ, **environment),
        timeout=60,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def test_version() -> None:
    done = pymigrate("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"pymigrate \d+\.\d+\.\d+\n", done.stdout)


def test_help_names_every_command() -> None:
    done = pymigrate("--help")
    assert done.returncode == 0
    assert [c for c in COMMANDS if not re.search(rf"^\s+{c}\b", done.stdout, re.M)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = pymigrate(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: pymigrate {command}")


@pytest.mark.parametrize("arguments", [(), ("no-such-command",), ("inspect", "--no-such-option")])
def test_usage_errors_exit_with_2(arguments: tuple[str, ...]) -> None:
    done = pymigrate(*arguments)
    assert done.returncode == 2
    assert "usage: pymigrate" in done.stderr
    assert done.stdout == ""


def test_an_error_is_one_sentence_and_no_traceback() -> None:
    done = pymigrate("inspect", "/nonexistent/stream")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("options", [("-X", "dev", "-W", "error"), ("-O",), ("-OO",), ("-I",)])
def test_interpreter_options_change_nothing(options: tuple[str, ...]) -> None:
    """Developer mode with warnings as errors; asserts and docstrings gone; isolated."""
    done = pymigrate("inspect", "-", options=options, stdin=b"not a stream")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_output_without_a_locale() -> None:
    done = pymigrate("check", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii:strict")
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pymigrate", "check"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_importing_the_package_is_quick_in_what_it_loads() -> None:
    """Help must not wait for libraries that only some commands use."""
    code = "import sys, pymigrate.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {"pyroute2", "asyncio"} & set(done.stdout.split()) == set()

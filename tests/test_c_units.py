# SPDX-License-Identifier: Apache-2.0
"""The C unit tests of tests/c, each as a test of its own.

They are built by csrc/Makefile three times: plain, with AddressSanitizer and
UBSan, and with ThreadSanitizer.  A program runs once; its TAP output tells
the result of each test in it.  Two run side by side.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIT = re.compile(r"\bUNIT\((\w+)\)")
RESULT = re.compile(r"^(ok|not ok) \d+ - (\w+)(?: # SKIP (.*))?$")
PROGRAM_TIMEOUT_S = 240
SIDE_BY_SIDE = 2
# Nothing in them is about threads, and ThreadSanitizer makes them ten times slower.
THREADLESS = (
    "test_codec_compress",
    "test_encode",
    "test_restore_fuzz",
    "test_restore_index",
    "test_stream_fuzz",
)


@dataclass(frozen=True)
class Variant:
    """One way to build and run the programs."""

    name: str
    sanitize: str
    directory: str
    launcher: tuple[str, ...] = ()


VARIANTS = (
    Variant("plain", "", "build"),
    Variant("asan", "address,undefined", "build-address"),
    # ThreadSanitizer's shadow does not fit the address space layouts that
    # kernels with more random bits than it knows of choose.
    Variant("tsan", "thread", "build-thread", ("setarch", platform.machine(), "-R")),
)


@dataclass(frozen=True)
class Outcome:
    """What a program said of one of its tests."""

    passed: bool
    skipped: str | None
    detail: str


@dataclass(frozen=True)
class Run:
    """What a program said and how it ended."""

    outcomes: dict[str, Outcome]
    returncode: int
    output: str


@cache
def build(variant: Variant) -> str | None:
    """Builds all programs of a variant, once; what the compiler said if it failed."""
    command = ["make", "-s", "-j2", "-C", str(ROOT / "csrc"), f"SANITIZE={variant.sanitize}"]
    done = subprocess.run([*command, "tests"], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else None


def parse(output: str) -> dict[str, Outcome]:
    """The results in TAP output; the comment after a result is its detail."""
    outcomes: dict[str, Outcome] = {}
    lines = output.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = RESULT.match(line)
        if match:
            outcomes[match[2]] = Outcome(match[1] == "ok", match[3], following)
    return outcomes


def run(variant: Variant, program: str) -> Run:
    """Runs a program."""
    binary = ROOT / "csrc" / variant.directory / "tests" / program
    command = [*variant.launcher, str(binary)]
    environment = dict(os.environ, TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1")
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        return Run(parse(said), -1, f"{said}\nstopped after {PROGRAM_TIMEOUT_S} s")
    said, complained = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return Run(parse(said), done.returncode, said[-4000:] + complained[-8000:])


class Runs:
    """Runs each of these programs once, however many tests ask.

    :param wanted: all that will be asked for, in that order.
    """

    def __init__(self, wanted: list[tuple[Variant, str]]) -> None:
        self._wanted = wanted
        self._pools: dict[Variant, ThreadPoolExecutor] = {}
        self._runs: dict[tuple[Variant, str], Future[Run]] = {}

    def of(self, variant: Variant, program: str) -> Run:
        """What that program did, of which all of its variant begin with the first."""
        failure = build(variant)
        if failure:
            return Run({}, -1, failure)
        if variant not in self._pools:
            self._pools[variant] = pool = ThreadPoolExecutor(SIDE_BY_SIDE)
            for other, name in self._wanted:
                if other == variant:
                    self._runs[variant, name] = pool.submit(run, variant, name)
        return self._runs[variant, program].result()

    def end(self) -> None:
        """Begin no others."""
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """Of the programs that were selected."""
    wanted = dict.fromkeys(
        (item.callspec.params["variant"], item.callspec.params["program"])
        for item in request.session.items
        if item.path == Path(__file__) and hasattr(item, "callspec")
    )
    found = Runs(list(wanted))
    yield found
    found.end()


def programs() -> dict[str, list[str]]:
    """Every program with the names of its tests, read from its source."""
    sources = sorted((ROOT / "tests" / "c").glob("test_*.c"))
    return {source.stem: UNIT.findall(source.read_text()) for source in sources}


def runs_in(variant: Variant, program: str) -> bool:
    """Is there anything that the variant could find?"""
    return variant.name != "tsan" or program not in THREADLESS


def cases() -> list[object]:
    """Every test of every program in every variant."""
    marks = {"asan": [pytest.mark.asan], "tsan": [pytest.mark.tsan]}
    return [
        pytest.param(variant, program, name, marks=marks.get(variant.name, []))
        for variant in VARIANTS
        for program, names in programs().items()
        if runs_in(variant, program)
        for name in names
    ]


# The first test of a variant builds it.
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("variant", "program", "name"),
    cases(),
    ids=lambda value: value.name if isinstance(value, Variant) else value,
)
def test_unit(runs: Runs, variant: Variant, program: str, name: str) -> None:
    result = runs.of(variant, program)
    assert name in result.outcomes, f"no result of {name}:\n{result.output}"
    outcome = result.outcomes[name]
    if outcome.skipped is not None:
        pytest.skip(outcome.skipped)
    assert outcome.passed, outcome.detail


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("variant", "program"),
    [
        pytest.param(
            variant,
            program,
            marks=getattr(pytest.mark, variant.name),
            id=f"{variant.name}-{program}",
        )
        for variant in VARIANTS
        for program in programs()
        if variant.sanitize and runs_in(variant, program)
    ],
)
def test_sanitizer_is_silent(runs: Runs, variant: Variant, program: str) -> None:
    result = runs.of(variant, program)
    assert result.returncode == 0, result.output


def test_every_program_has_tests() -> None:
    assert programs()
    assert all(names for names in programs().values())


def test_parse_reads_all_kinds_of_results() -> None:
    tap = "1..3\nok 1 - a\nnot ok 2 - b\n# b.c:3: x is 1\nok 3 - c # SKIP no c here\n"
    assert parse(tap) == {
        "a": Outcome(True, None, "not ok 2 - b"),
        "b": Outcome(False, None, "# b.c:3: x is 1"),
        "c": Outcome(True, "no c here", ""),
    }

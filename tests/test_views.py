# SPDX-License-Identifier: Apache-2.0
"""Lines for a log, where several threads have something to say."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pymigrate.cli.views import PlainView

THREADS = 4
NOTES = 200


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Threads take turns far more often than they do by themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switching")
def test_a_note_is_a_line_whoever_else_writes() -> None:
    read_fd, write_fd = os.pipe()
    with open(read_fd) as lines, ThreadPoolExecutor(THREADS) as pool:
        # As stderr is where Python does not buffer: every write is a system call.
        with io.TextIOWrapper(open(write_fd, "wb", 0), write_through=True) as stream:
            view = PlainView(stream)

            def tell(thread: int) -> None:
                for n in range(NOTES):
                    view.note(f"thread {thread}, note {n}")

            list(pool.map(tell, range(THREADS)))
        said = lines.read().splitlines()
    wanted = [f"thread {t}, note {n}" for t in range(THREADS) for n in range(NOTES)]
    assert sorted(said) == sorted(wanted)

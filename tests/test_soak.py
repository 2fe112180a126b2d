# SPDX-License-Identifier: Apache-2.0
"""One hundred migrations in a row between two processes, and what they cost.

The same two processes throughout, each in turn source and destination.
Whenever both are idle they hold exactly the file descriptors and threads
that they held after the warm-up, and their memory has stopped growing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fault_child import context, host
from fault_pair import LIMIT_S, MIB, small
from fault_usage import Usage

from pymigrate._engine import TrackerKind
from pymigrate.report import Outcome

MIGRATIONS = 100
# Every combination of direction and tracker has been seen five times by then.
WARM_UP = 20
# What the allocator and the interpreter still round up after the warm-up. The
# smallest thing a migration could leak for good, its page of buffers in each
# of eighty, would be far more.
GROWTH_BYTES = 2 * MIB
TRACKERS = [TrackerKind.KVM_LOG, TrackerKind.UFFD_WP]


class Child:
    """A process that does what it is asked, one thing after the other."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix:{path}"
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=host, args=(theirs, str(path)), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, *request: Any) -> None:
        self._pipe.send(request)

    def answer(self) -> Any:
        assert self._pipe.poll(LIMIT_S), "the child hangs"
        return self._pipe.recv()

    def call(self, *request: Any) -> Any:
        self.ask(*request)
        return self.answer()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(LIMIT_S)
        assert self._process.exitcode == 0


def migrate(source: Child, destination: Child, kind: TrackerKind) -> None:
    destination.ask("serve")
    assert destination.answer() == "listening"
    outcome, error = source.call("send", destination.address, kind)
    assert outcome is Outcome.COMPLETED, error
    assert destination.answer() is Outcome.COMPLETED


@pytest.mark.kvm
@pytest.mark.uffd
def test_a_hundred_migrations_leak_nothing(tmp_path: Path) -> None:
    children = [Child(tmp_path / "left"), Child(tmp_path / "right")]
    children[0].call("create", small())
    warm: dict[tuple[int, int], Usage] = {}
    for number in range(MIGRATIONS):
        owner = number % 2
        migrate(children[owner], children[1 - owner], TRACKERS[number // 2 % len(TRACKERS)])
        if number + 1 < WARM_UP:
            continue
        for which, child in enumerate(children):
            found = child.call("usage")
            known = warm.setdefault((which, owner), found)
            assert found.fds == known.fds, f"migration {number + 1}"
            assert found.threads == known.threads, f"migration {number + 1}"
            assert found.memory_bytes - known.memory_bytes <= GROWTH_BYTES, (
                f"migration {number + 1}"
            )
    children[MIGRATIONS % 2].call("prove")
    for child in children:
        child.close()

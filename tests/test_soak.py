# SPDX-License-Identifier: Apache-2.0
"""One hundred migrations in a row between two processes, and what they cost.

The same two processes throughout, each in turn source and destination.
Whenever both are idle they hold exactly the file descriptors and threads
that they held after the warm-up, and their memory has stopped growing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_hosts import Child, migrate_between
from fault_pair import MIB, small
from fault_usage import Usage

from pymigrate._engine import TrackerKind

MIGRATIONS = 100
# Every combination of direction and tracker has been seen five times by then.
WARM_UP = 20
# What the allocator holds back between migrations varies by 5 MiB, as buffers
# of 2 MiB come and go. The smallest thing that counts, a channel's buffers in
# each of eighty migrations, would be twenty times as much.
GROWTH_BYTES = 8 * MIB
TRACKERS = [TrackerKind.KVM_LOG, TrackerKind.UFFD_WP]


@pytest.mark.kvm
@pytest.mark.uffd
def test_a_hundred_migrations_leak_nothing(tmp_path: Path) -> None:
    with Child(tmp_path / "left") as left, Child(tmp_path / "right") as right:
        soak([left, right])


def soak(children: list[Child]) -> None:
    children[0].call("create", small())
    warm: dict[tuple[int, int], Usage] = {}
    for number in range(MIGRATIONS):
        owner = number % 2
        kind = TRACKERS[number // 2 % len(TRACKERS)]
        migrate_between(children[owner], children[1 - owner], kind)
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

# SPDX-License-Identifier: Apache-2.0
"""The list of the pages that a guest touched first."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymigrate.errors import MigrateError, WorkingSetError
from pymigrate.working_set import (
    MAX_PAGES,
    load_working_set,
    merge_working_sets,
    save_working_set,
    working_set_path,
)

MIB = 1 << 20
MEMORY = [
    {"gpa": 0, "size_bytes": 3 * MIB + 4096, "page_size_bytes": 4096, "name": "ram"},
    {"gpa": 1 << 32, "size_bytes": MIB, "page_size_bytes": 4096, "name": "high"},
]
# A partial block counts as one.
LIMIT = 64 * (13 + 4)


def test_path() -> None:
    assert working_set_path("/x/guest.pmig") == "/x/guest.pmig.ws"
    assert issubclass(WorkingSetError, MigrateError)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, LIMIT - 1), max_size=50))
def test_round_trip(tmp_path: Path, pages: list[int]) -> None:
    path = str(tmp_path / "list")
    save_working_set(path, MEMORY, pages)
    assert load_working_set(path, MEMORY) == pages
    assert os.listdir(tmp_path) == ["list"]


def test_layout(tmp_path: Path) -> None:
    path = tmp_path / "list"
    save_working_set(str(path), MEMORY, [70, 3])
    data = path.read_bytes()
    assert data[:24] == b"PMIGWS\0\0" + struct.pack("<IIQ", 1, 2, 2)
    assert data[32:] == struct.pack("<QQQQQQ", 0, 3 * MIB + 4096, 1 << 32, MIB, 70, 3)


def test_backing_and_names_do_not_matter(tmp_path: Path) -> None:
    path = str(tmp_path / "list")
    save_working_set(path, MEMORY, [5])
    other = [{**region, "page_size_bytes": 2 * MIB, "name": "x"} for region in MEMORY]
    assert load_working_set(path, other) == [5]


def test_no_more_than_the_engine_remembers(tmp_path: Path) -> None:
    path = str(tmp_path / "list")
    memory = [{"gpa": 0, "size_bytes": 4096 * (MAX_PAGES + 64)}]
    save_working_set(path, memory, range(MAX_PAGES + 10))
    assert load_working_set(path, memory) == list(range(MAX_PAGES))


@pytest.mark.parametrize(
    "other",
    [
        MEMORY[:1],
        [{**MEMORY[0], "size_bytes": 3 * MIB}, MEMORY[1]],
        [{**MEMORY[0], "gpa": 4096}, MEMORY[1]],
        MEMORY[::-1],
    ],
    ids=["fewer", "size", "gpa", "order"],
)
def test_another_machine_is_refused(tmp_path: Path, other: list[dict[str, int]]) -> None:
    path = str(tmp_path / "list")
    save_working_set(path, MEMORY, [5])
    with pytest.raises(WorkingSetError, match="of a machine with other memory"):
        load_working_set(path, other)


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "list"
    save_working_set(str(path), MEMORY, [9, 8, 7])
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(WorkingSetError):
            load_working_set(str(path), MEMORY)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(WorkingSetError):
            load_working_set(str(path), MEMORY)
    path.write_bytes(whole + b"x")
    with pytest.raises(WorkingSetError):
        load_working_set(str(path), MEMORY)


def test_page_past_the_end_is_noticed(tmp_path: Path) -> None:
    path = str(tmp_path / "list")
    save_working_set(path, MEMORY, [LIMIT])
    with pytest.raises(WorkingSetError, match=str(LIMIT)):
        load_working_set(path, MEMORY)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(WorkingSetError, match="no such file"):
        load_working_set(str(tmp_path / "list"), MEMORY)


def test_list_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "list"
    (tmp_path / f"list.{os.getpid()}.new").mkdir()
    save_to = str(path)
    path.write_bytes(b"old")
    with pytest.raises(WorkingSetError, match="directory"):
        save_working_set(save_to, MEMORY, [1])
    assert path.read_bytes() == b"old"


def test_merge() -> None:
    assert merge_working_sets([], [3, 1]) == [3, 1]
    assert merge_working_sets([3, 1], [1, 7, 5]) == [3, 1, 7, 5]
    assert len(merge_working_sets(range(MAX_PAGES), [MAX_PAGES])) == MAX_PAGES

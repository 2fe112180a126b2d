# SPDX-License-Identifier: Apache-2.0
"""The transition tables, walked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pymigrate.states import (
    DESTINATION_TRANSITIONS,
    FILE_TRANSITIONS,
    SOURCE_TRANSITIONS,
    DestinationState,
    SourceState,
    StateTrack,
)

S, D = SourceState, DestinationState
TABLES = [
    pytest.param(SOURCE_TRANSITIONS, S.NEW, id="source"),
    pytest.param(FILE_TRANSITIONS, S.NEW, id="file"),
    pytest.param(DESTINATION_TRANSITIONS, D.LISTENING, id="destination"),
]


def reachable(table: Mapping[Any, frozenset[Any]], start: Any, without: Any = None) -> set[Any]:
    """States that can follow start, not passing through a state."""
    found, todo = set(), [start]
    while todo:
        state = todo.pop()
        if state not in found and state != without:
            found.add(state)
            todo.extend(table[state])
    return found


@pytest.mark.parametrize(("table", "start"), TABLES)
def test_every_state_is_reachable_and_known(table: Any, start: Any) -> None:
    assert reachable(table, start) == set(table)


@pytest.mark.parametrize(("table", "start"), TABLES)
def test_every_state_can_end(table: Any, start: Any) -> None:
    ends = {state for state, following in table.items() if not following}
    assert all(reachable(table, state) & ends for state in table)


@pytest.mark.parametrize(("table", "start"), TABLES)
def test_track_follows_exactly_the_table(table: Any, start: Any) -> None:
    for state in table:
        for target in table:
            track = StateTrack(state, table)
            if target in table[state]:
                track.to(target)
                assert track.state is target
            else:
                with pytest.raises(RuntimeError, match="is not a transition"):
                    track.to(target)
                assert track.state is state


def test_tables_cover_their_enums() -> None:
    assert set(SOURCE_TRANSITIONS) == set(S)
    assert set(DESTINATION_TRANSITIONS) == set(D)


def test_guest_is_handed_over_only_through_the_commit() -> None:
    assert S.COMPLETED not in reachable(SOURCE_TRANSITIONS, S.NEW, without=S.COMMITTING)
    assert D.RUNNING not in reachable(DESTINATION_TRANSITIONS, D.LISTENING, without=D.COMMITTED)


def test_source_resumes_after_the_commit_only_if_the_destination_was_asked() -> None:
    after = reachable(SOURCE_TRANSITIONS, S.COMMITTING, without=S.RESOLVING)
    assert S.ROLLING_BACK not in after


def test_destination_that_runs_or_discards_never_does_the_other() -> None:
    assert D.DISCARDING not in reachable(DESTINATION_TRANSITIONS, D.RUNNING)
    assert not {D.RUNNING, D.COMMITTED} & reachable(DESTINATION_TRANSITIONS, D.DISCARDING)


def test_hook_sees_every_state_and_can_fail_all_but_the_last() -> None:
    seen: list[Any] = []

    def hook(state: Any) -> None:
        seen.append(state)
        raise ValueError("no")

    track = StateTrack(S.NEW, SOURCE_TRANSITIONS, hook)
    for state in (S.ROLLING_BACK,):
        with pytest.raises(ValueError, match="no"):
            track.to(state)
    track.to(S.FAILED)
    assert seen == [S.ROLLING_BACK, S.FAILED]

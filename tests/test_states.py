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
# The guest runs, and pages are missing.
AHEAD = (D.POSTCOPY, D.RECOVERING, D.LOST)
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
    gone = {S.COMPLETED, S.POSTCOPY, S.RECOVERING, S.INCOMPLETE}
    assert not gone & reachable(SOURCE_TRANSITIONS, S.NEW, without=S.COMMITTING)
    before = reachable(DESTINATION_TRANSITIONS, D.LISTENING, without=D.COMMITTED)
    assert not {D.RUNNING, *AHEAD} & before


def test_source_resumes_after_the_commit_only_if_the_destination_was_asked() -> None:
    for state in (S.COMMITTING, S.POSTCOPY, S.RECOVERING, S.INCOMPLETE):
        after = reachable(SOURCE_TRANSITIONS, state, without=S.RESOLVING)
        assert S.ROLLING_BACK not in after


def test_destination_that_runs_or_discards_never_does_the_other() -> None:
    for state in (D.RUNNING, *AHEAD):
        after = reachable(DESTINATION_TRANSITIONS, state)
        assert not {D.DISCARDING, D.FAILED, D.BROKEN} & after
    runs = {D.RUNNING, D.COMMITTED, *AHEAD}
    assert not runs & reachable(DESTINATION_TRANSITIONS, D.DISCARDING)


@pytest.mark.parametrize("state", AHEAD)
def test_guest_ahead_of_its_pages_ends_with_all_of_them_or_waits(state: Any) -> None:
    after = reachable(DESTINATION_TRANSITIONS, state)
    assert {s for s in after if not DESTINATION_TRANSITIONS[s]} == {D.RUNNING}


@pytest.mark.parametrize("state", [S.POSTCOPY, S.RECOVERING, S.INCOMPLETE])
def test_source_keeps_pages_until_they_have_arrived(state: Any) -> None:
    """Unless the destination says that it never ran the guest."""
    after = reachable(SOURCE_TRANSITIONS, state, without=S.RESOLVING)
    assert {s for s in after if not SOURCE_TRANSITIONS[s]} == {S.COMPLETED}


def test_nobody_waits_without_a_way_to_be_waited_for_again() -> None:
    assert SOURCE_TRANSITIONS[S.INCOMPLETE] == {S.RECOVERING}
    assert DESTINATION_TRANSITIONS[D.LOST] == {D.RECOVERING}


def test_files_have_all_pages() -> None:
    assert not {S.POSTCOPY, S.RECOVERING, S.INCOMPLETE} & set(FILE_TRANSITIONS)


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

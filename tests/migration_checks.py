# SPDX-License-Identifier: Apache-2.0
"""What the migration tests look at: states, owners, and acts at a state."""

from __future__ import annotations

from typing import Any

import pytest
from migration_kit import Guest, Receiving

from pymigrate import DestinationState, SourceState, TrackerKind
from pymigrate.errors import NotSupportedError

S, D = SourceState, DestinationState


BEFORE_COMMIT_SOURCE = [
    S.CONNECTING,
    S.HANDSHAKE,
    S.CHANNELS,
    S.PRECOPY,
    S.REHEARSING,
    S.QUIESCING,
    S.CAPTURING,
    S.FINAL_ROUND,
    S.PREPARING,
    S.PREPARED,
    S.VERIFYING,
]
BEFORE_COMMIT_DESTINATION = [
    D.HANDSHAKE,
    D.CHANNELS,
    D.RECEIVING,
    D.REHEARSING,
    D.LOADING,
    D.PREPARED,
]


def word(value: Any) -> str:
    return str(getattr(value, "value", value))


def usable(kind: TrackerKind) -> None:
    """Skip where this kernel has no such tracker."""
    guest = Guest(writes=False)
    try:
        guest.machine.tracker(kind).close()
    except NotSupportedError as error:
        pytest.skip(str(error))
    finally:
        guest.machine.close()


def assert_at_source(guest: Guest, side: Receiving | None = None) -> None:
    """The source runs the guest, nobody else does, and nothing is lost."""
    assert guest.running
    if side is not None:
        assert not any(other.runs for other in side.guests)
    guest.machine.pause()
    guest.check_oracle()
    guest.machine.resume()


def assert_at_destination(guest: Guest, side: Receiving) -> None:
    """The destination runs it, the source does not, and nothing is lost."""
    assert not guest.running
    other = side.guest
    assert (other.runs, other.before_runs) == (1, 1)
    other.machine.pause()
    assert other.steps == guest.steps
    other.check_oracle()
    assert other.content() == guest.content()


def at(state: Any, action: Any) -> Any:
    """A hook that acts once, at a state."""
    done: list[Any] = []

    def hook(now: Any) -> None:
        if now is state and not done:
            done.append(now)
            action()

    return hook


def raising() -> None:
    raise RuntimeError("injected")

# SPDX-License-Identifier: Apache-2.0
"""The blackout's own decision: pausing is taken back when too much is left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pymigrate._blackout import MAX_RETAKES, Blackout, limit_blackout
from pymigrate._trouble import Trouble
from pymigrate.errors import StepTimeoutError
from pymigrate.policy import PolicyOptions, SwitchoverCosts
from pymigrate.states import SOURCE_TRANSITIONS, SourceState, StateTrack

S = SourceState
LIMIT_MS = 100.0


class Script:
    """Stands in for guest, rounds and sender; notes what is done to them."""

    def __init__(self, *left_pages: int) -> None:
        self.left = list(left_pages)
        self.done: list[str] = []
        self.sender = SimpleNamespace(put=lambda kind, data: self.done.append("put"))

    def pause(self) -> float:
        self.done.append("pause")
        return 0.0

    def resume(self) -> float:
        self.done.append("resume")
        return 0.0

    def release(self) -> None:
        self.done.append("release")

    def capture(self) -> tuple[bytes, float]:
        self.done.append("capture")
        return b"state", 0.0

    def pending_pages(self) -> int:
        return self.left.pop(0)

    def downtime_ms(self, _costs: SwitchoverCosts, pages: int) -> float:
        return float(pages)

    def sealed(self) -> Any:
        self.done.append("sealed")
        return "stats"

    def leave(self) -> Any:
        self.done.append("leave")
        return "stats"


def blackout(script: Any, track: StateTrack[SourceState]) -> Blackout:
    options = PolicyOptions(downtime_limit_ms=LIMIT_MS)
    return Blackout(script, script, script, track, options)


def attempts(script: Script) -> int:
    """How many pauses it took until everything was sent."""
    track = StateTrack(S.PRECOPY, SOURCE_TRANSITIONS)
    switch = blackout(script, track)
    for count in range(1, 10):
        if switch.capture(SwitchoverCosts()) is not None:
            assert track.state is S.FINAL_ROUND
            return count
        assert track.state is S.PRECOPY
        assert script.done[-1] == "resume"
    raise AssertionError("never switched")


def test_state_is_captured_before_the_last_pages() -> None:
    script = Script(10)
    assert attempts(script) == 1
    assert script.done == ["pause", "release", "capture", "put", "sealed"]


def test_somewhat_more_than_the_limit_is_sent_now() -> None:
    assert attempts(Script(int(2 * LIMIT_MS))) == 1


def test_much_more_than_the_limit_is_taken_back() -> None:
    script = Script(1000, 10)
    assert attempts(script) == 2
    assert script.done == ["pause", "resume", "pause", "release", "capture", "put", "sealed"]


def test_taking_back_is_bounded() -> None:
    assert attempts(Script(*[1000] * 10)) == MAX_RETAKES + 1


def test_guest_that_leaves_its_pages_is_paused_once() -> None:
    """However many there are: they are named, not sent."""
    script: Any = Script()
    track = StateTrack(S.PRECOPY, SOURCE_TRANSITIONS)
    assert blackout(script, track).leave().stats == "stats"
    assert track.state is S.FINAL_ROUND
    assert script.done == ["pause", "release", "capture", "put", "leave"]


def test_late_is_trouble() -> None:
    trouble = Trouble()
    timer = limit_blackout(trouble, 10)
    trouble.wait(5)
    timer.join(5)
    with pytest.raises(StepTimeoutError, match=r"not prepared within 0\.01 s"):
        trouble.check()

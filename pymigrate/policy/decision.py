# SPDX-License-Identifier: Apache-2.0
"""What a policy answers, and what may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pymigrate.policy.measurement import RoundMeasurement, SwitchoverCosts

if TYPE_CHECKING:
    from pymigrate.policy.options import PolicyOptions

__all__ = ["Action", "Decision", "PolicyFunction"]


class Action(str, Enum):
    """What to do after a round."""

    CONTINUE = "continue"
    SWITCH = "switch"
    THROTTLE = "throttle"
    POST_COPY = "post-copy"
    GIVE_UP = "give-up"


@dataclass(frozen=True)
class Decision:
    """The decision, and the prediction that it rests on.

    :ivar predicted_downtime_ms: of switching now.
    :ivar predicted_total_ms: of the whole migration, if the decision holds.
    :ivar reachable_downtime_ms: the least that further rounds could lead to,
        by the model; None where that was not asked.
    :ivar throttle_percent: THROTTLE: from now on keep the guest from running
        for so much of its time, and go on with another round.
    :ivar hold: leave hot pages to the last round, from the next round on.

    POST_COPY: switch, and send what is pending afterwards. It needs no
    rehearsal before, since one belongs to it.
    """

    action: Action
    predicted_downtime_ms: float
    predicted_total_ms: float
    reason: str
    reachable_downtime_ms: float | None = None
    throttle_percent: int = 0
    hold: bool = False


class PolicyFunction(Protocol):
    """A policy: pure, called after every round.

    costs is None as long as the switchover was not rehearsed; SWITCH is not
    a choice then. An exception fails the migration; the source resumes.
    """

    def __call__(
        self,
        history: Sequence[RoundMeasurement],
        costs: SwitchoverCosts | None,
        options: PolicyOptions,
        /,
    ) -> Decision: ...

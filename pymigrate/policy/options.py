# SPDX-License-Identifier: Apache-2.0
"""Limits that a decision keeps, and which policy makes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from pymigrate.policy.decision import PolicyFunction

__all__ = ["PolicyKind", "PolicyOptions", "PostCopy"]


class PolicyKind(str, Enum):
    """What the built-in policies aim at; values are their names."""

    DOWNTIME = "downtime"
    TIME_BUDGET = "time-budget"
    MINIMAL_TRAFFIC = "minimal-traffic"


class PostCopy(str, Enum):
    """Whether the guest may move before all of its pages have."""

    NEVER = "never"
    AUTO = "auto"  # where rounds do not bring the downtime within its limit
    AFTER_FIRST_ROUND = "after-first-round"
    NOW = "now"


@dataclass(frozen=True)
class PolicyOptions:
    """Limits that the decision keeps.

    :ivar policy: a built-in policy, or a function of the history, the costs
        (None until the switchover was rehearsed) and these options.
    :ivar downtime_limit_ms: never switch when more is predicted.
    :ivar max_rounds: rounds before the switchover, at most.
    :ivar max_total_ms: no further round is begun after this; None: no limit.
    :ivar time_budget_ms: time-budget: all is to be over by then.
    :ivar stall_rounds: give up when so many rounds brought no improvement.
    :ivar stall_gain: the share of the best prediction that counts as one.
    :ivar settle_ms: below the limit, downtime not worth another round.
    :ivar downtime_weight: downtime: how many ms of pre-copy one ms less of
        downtime is worth, once within the limit.
    :ivar optimism: give up when no number of rounds would bring the downtime
        below the limit, not even if the guest dirtied pages at so much of
        the rate that was measured.
    :ivar throttle_percent: the guest may be kept from running for so much of
        its time before the migration is given up; 0: never.
    :ivar throttle_step: by so many percent more each time.
    :ivar post_copy: whether to leave pages to be sent after the switchover,
        and when. AUTO does it before it would throttle the guest.
    """

    downtime_limit_ms: float = 300.0
    max_rounds: int = 30
    max_total_ms: float | None = None
    stall_rounds: int = 4
    stall_gain: float = 0.05
    settle_ms: float = 1.0
    policy: PolicyKind | PolicyFunction = PolicyKind.DOWNTIME
    time_budget_ms: float | None = None
    downtime_weight: float = 10.0
    optimism: float = 0.75
    throttle_percent: int = 0
    throttle_step: int = 10
    post_copy: PostCopy = PostCopy.NEVER

    def __post_init__(self) -> None:
        if not self.downtime_limit_ms > 0:
            raise ValueError(f"downtime_limit_ms is {self.downtime_limit_ms}, expected above 0")
        if not 0 <= self.throttle_percent <= 99:
            raise ValueError(f"throttle_percent is {self.throttle_percent}, expected 0 to 99")
        if not 1 <= self.throttle_step <= 99:
            raise ValueError(f"throttle_step is {self.throttle_step}, expected 1 to 99")
        if self.policy is PolicyKind.TIME_BUDGET and not (self.time_budget_ms or 0) > 0:
            raise ValueError("the policy time-budget needs time_budget_ms above 0")

    @property
    def policy_name(self) -> str:
        """Of a built-in policy its name, else that of the function."""
        if isinstance(self.policy, PolicyKind):
            return self.policy.value
        return getattr(self.policy, "__qualname__", type(self.policy).__name__)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**vars(self), "policy": self.policy_name, "post_copy": self.post_copy.value}

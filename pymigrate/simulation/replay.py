# SPDX-License-Identifier: Apache-2.0
"""A policy, asked after every round of a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymigrate.policy import Action, Decision, PolicyOptions, RoundMeasurement, decide
from pymigrate.simulation.trace import Trace
from pymigrate.simulation.world import World

__all__ = ["Replay", "ReplayedRound", "replay"]

# A policy that never stops is stopped here.
MAX_ROUNDS = 1000
_LAST = (Action.SWITCH, Action.POST_COPY, Action.GIVE_UP)


@dataclass(frozen=True)
class ReplayedRound:
    """A round, the decision after it, and what switching would have taken.

    :ivar recorded: it is a round of the trace, not made from its model.
    """

    measured: RoundMeasurement
    decision: Decision
    downtime_ms: float
    recorded: bool


@dataclass(frozen=True)
class Replay:
    """How a migration would have gone.

    :ivar action: SWITCH, POST_COPY or GIVE_UP.
    :ivar total_ms: until the guest runs at the destination and no page is
        missing, or was given up.
    :ivar wire_bytes: of all rounds and of the pages that were left.
    :ivar downtime_ms: what came of the prediction; None when given up.
    """

    rounds: tuple[ReplayedRound, ...]
    action: Action
    predicted_downtime_ms: float
    downtime_ms: float | None
    total_ms: float
    wire_bytes: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rounds = [
            {
                **vars(done.measured),
                "decision": done.decision.action.value,
                "reason": done.decision.reason,
                "predicted_downtime_ms": done.decision.predicted_downtime_ms,
                "predicted_total_ms": done.decision.predicted_total_ms,
                "reachable_downtime_ms": done.decision.reachable_downtime_ms,
                "downtime_ms": done.downtime_ms,
                "recorded": done.recorded,
            }
            for done in self.rounds
        ]
        return {**vars(self), "action": self.action.value, "rounds": rounds}


def replay(trace: Trace, options: PolicyOptions) -> Replay:
    """Replay until the policy switches, leaves or gives up.

    :raises PolicyError: a policy of the caller's own failed, or never stops.
    """
    world = World(trace)
    history: list[RoundMeasurement] = []
    rounds: list[ReplayedRound] = []
    throttle, hold = 0, False
    while len(history) < MAX_ROUNDS:
        following = world.next_round(history, throttle, hold) if history else trace.rounds[0]
        history.append(following)
        decision = decide(history, world.known_costs(history), options)
        recorded = tuple(history) == trace.rounds[: len(history)]
        downtime_ms = world.downtime_ms(history)
        rounds.append(ReplayedRound(following, decision, downtime_ms, recorded))
        if decision.action in _LAST:
            break
        hold = decision.hold
        if decision.action is Action.THROTTLE:
            throttle = decision.throttle_percent
    return _end(world, history, rounds)


def _end(world: World, history: list[RoundMeasurement], rounds: list[ReplayedRound]) -> Replay:
    last = rounds[-1]
    action = last.decision.action if last.decision.action in _LAST else Action.GIVE_UP
    wire_bytes = float(sum(r.wire_bytes for r in history))
    moved = action is not Action.GIVE_UP
    downtime_ms = world.leaving_ms() if action is Action.POST_COPY else last.downtime_ms
    return Replay(
        rounds=tuple(rounds),
        action=action,
        predicted_downtime_ms=last.decision.predicted_downtime_ms,
        downtime_ms=downtime_ms if moved else None,
        # With or without the guest waiting for them, the pages take as long.
        total_ms=last.measured.elapsed_ms + (last.downtime_ms if moved else 0.0),
        wire_bytes=wire_bytes + (world.last_bytes(history) if moved else 0.0),
        reason=last.decision.reason,
    )

# SPDX-License-Identifier: Apache-2.0
"""How a migration gets to each state of the protocol, and what breaks there.

The states come from the protocol's own tables. One that an ordinary migration
does not pass needs a route here; a state added without one fails its case for
not being reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fault_pair import MachineFactory, build
from fault_proxy import Proxy

from pymigrate.errors import TooLateError
from pymigrate.policy import PolicyOptions
from pymigrate.source import Source
from pymigrate.states import (
    DESTINATION_TRANSITIONS,
    SOURCE_TRANSITIONS,
    DestinationState,
    SourceState,
    State,
)
from pymigrate.vmm import Vm, VmConfig

SOURCE, DESTINATION = "source", "destination"


@dataclass(frozen=True)
class Place:
    """A state of one side. The two enums share words, so say whose it is."""

    side: str
    state: State

    def __str__(self) -> str:
        return f"{self.side}-{self.state.value}"


@dataclass(frozen=True)
class Route:
    """What has to happen on the way.

    :ivar at: faults, by the place that sets them off.
    :ivar options: of the source.
    """

    at: Mapping[Place, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    factory: MachineFactory = build


class BrokenVm(Vm):
    """Its guest cannot be started."""

    def resume(self) -> None:
        raise RuntimeError("no power")


def build_broken(description: dict[str, Any]) -> Vm:
    return BrokenVm(VmConfig.from_json(description["machine"]))


def _source(state: SourceState) -> Place:
    return Place(SOURCE, state)


def _destination(state: DestinationState) -> Place:
    return Place(DESTINATION, state)


_S, _D = SourceState, DestinationState
_LOST = Route({_destination(_D.RECEIVING): "cut all"})
_ROUTES = {
    _source(_S.RESOLVING): Route({_destination(_D.COMMITTED): "cut control"}),
    _source(_S.IN_DOUBT): Route({_destination(_D.COMMITTED): "vanish"}),
    _source(_S.ROLLING_BACK): _LOST,
    _source(_S.FAILED): _LOST,
    _source(_S.CANCELLED): Route({_source(_S.PRECOPY): "cancel"}),
    _source(_S.NOT_CONVERGED): Route(
        options={"policy": PolicyOptions(downtime_limit_ms=1e-3, max_rounds=2)}
    ),
    _destination(_D.WAITING): Route({_destination(_D.PREPARED): "cut control"}),
    _destination(_D.DISCARDING): _LOST,
    _destination(_D.FAILED): _LOST,
    _destination(_D.BROKEN): Route(factory=build_broken),
}
# The guest has moved, and its pages have not: nobody takes it back, so other rules
# hold, and test_postcopy_recovery.py goes there.
LATE_SOURCE = (_S.POSTCOPY, _S.RECOVERING, _S.INCOMPLETE)
LATE_DESTINATION = (_D.POSTCOPY, _D.RECOVERING, _D.LOST)
# Those that some transition leads to: where on_state is called.
SOURCE_PLACES = [
    _source(s)
    for s in _S
    if s not in LATE_SOURCE and any(s in to for to in SOURCE_TRANSITIONS.values())
]
DESTINATION_PLACES = [
    _destination(s)
    for s in _D
    if s not in LATE_DESTINATION and any(s in to for to in DESTINATION_TRANSITIONS.values())
]
PLACES = SOURCE_PLACES + DESTINATION_PLACES


def route_to(place: Place) -> Route:
    return _ROUTES.get(place, Route())


class Stage:
    """Knows where both sides are, and does at each place what is planned.

    :ivar proxy: between the sides; set once it is there.
    :ivar source: likewise, if it is in this process.
    """

    def __init__(self, route: Route) -> None:
        self.proxy: Proxy | None = None
        self.source: Source | None = None
        self.reached: set[Place] = set()
        self._plan: dict[Place, list[Callable[[], object]]] = {}
        for place, fault in route.at.items():
            self.plan(place, fault)

    def plan(self, place: Place, fault: str | Callable[[], object]) -> None:
        """Do it when the place is reached for the first time."""
        act = (lambda: self.break_by(fault)) if isinstance(fault, str) else fault
        self._plan.setdefault(place, []).append(act)

    def hook(self, side: str) -> Callable[[State], object]:
        """on_state of a side; returns what a child has to do itself."""

        def on_state(state: State) -> object:
            place = Place(side, state)
            self.reached.add(place)
            told = [act() for act in self._plan.pop(place, [])]
            return next((word for word in told if word), "go on")

        return on_state

    def break_by(self, fault: str) -> object:
        """Let a fault happen, by its name."""
        if fault == "cancel":
            if self.source is None:
                return fault
            with suppress(TooLateError):
                self.source.cancel()
            return None
        proxy = self.proxy
        assert proxy is not None
        acts: dict[str, Callable[[], None]] = {
            "cut control": lambda: proxy.cut("control"),
            "cut first data": lambda: proxy.cut("data", 0),
            "cut last data": lambda: proxy.cut("data", 1),
            "cut all": proxy.cut,
            "vanish": proxy.vanish,
            "swallow": proxy.swallow,
        }
        acts[fault]()
        return None

    def heal(self) -> None:
        """The network works again."""
        assert self.proxy is not None
        self.proxy.heal()

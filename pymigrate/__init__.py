# SPDX-License-Identifier: Apache-2.0
"""Live migration of running virtual machines.

The names below are the public interface. They are loaded when first used, so
that the pure modules (policy, report, protocol, inspector) work where the
compiled library does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymigrate._engine import (
        DirtyTracker,
        KvmSlot,
        Memory,
        Region,
        StateItem,
        StateList,
        TrackerKind,
    )
    from pymigrate.addresses import Address, parse_address
    from pymigrate.destination import Destination
    from pymigrate.errors import MigrateError
    from pymigrate.machine import CallableMachine, Machine
    from pymigrate.options import Options
    from pymigrate.policy import Action, Decision, PolicyKind, PolicyOptions
    from pymigrate.report import ExitCode, Guest, Outcome, Report
    from pymigrate.source import Source, SourceProgress
    from pymigrate.states import DestinationState, SourceState
    from pymigrate.tuning import Choice, Compression, Tuning

__version__ = "0.1.0"

_HOMES = {
    "pymigrate._engine": (
        "DirtyTracker",
        "KvmSlot",
        "Memory",
        "Region",
        "StateItem",
        "StateList",
        "TrackerKind",
    ),
    "pymigrate.addresses": ("Address", "parse_address"),
    "pymigrate.destination": ("Destination",),
    "pymigrate.errors": ("MigrateError",),
    "pymigrate.machine": ("CallableMachine", "Machine"),
    "pymigrate.options": ("Options",),
    "pymigrate.policy": ("Action", "Decision", "PolicyKind", "PolicyOptions"),
    "pymigrate.report": ("ExitCode", "Guest", "Outcome", "Report"),
    "pymigrate.source": ("Source", "SourceProgress"),
    "pymigrate.states": ("DestinationState", "SourceState"),
    "pymigrate.tuning": ("Choice", "Compression", "Tuning"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Action",
    "Address",
    "CallableMachine",
    "Choice",
    "Compression",
    "Decision",
    "Destination",
    "DestinationState",
    "DirtyTracker",
    "ExitCode",
    "Guest",
    "KvmSlot",
    "Machine",
    "Memory",
    "MigrateError",
    "Options",
    "Outcome",
    "PolicyKind",
    "PolicyOptions",
    "Region",
    "Report",
    "Source",
    "SourceProgress",
    "SourceState",
    "StateItem",
    "StateList",
    "TrackerKind",
    "Tuning",
    "__version__",
    "parse_address",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pymigrate' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

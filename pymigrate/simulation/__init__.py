# SPDX-License-Identifier: Apache-2.0
"""Recorded migrations, and what other policies would have made of them.

A trace holds the rounds of a real migration; replaying it needs no guest.
Pure: no native code, no clock.
"""

from __future__ import annotations

from pymigrate.simulation.oracle import Option, best_option, options_of
from pymigrate.simulation.replay import Replay, ReplayedRound, replay
from pymigrate.simulation.trace import SCHEMA, Sealed, Trace, TraceError, parse_trace, trace_of
from pymigrate.simulation.world import MeasuredGrowth, World

__all__ = [
    "SCHEMA",
    "MeasuredGrowth",
    "Option",
    "Replay",
    "ReplayedRound",
    "Sealed",
    "Trace",
    "TraceError",
    "World",
    "best_option",
    "options_of",
    "parse_trace",
    "replay",
    "trace_of",
]

# SPDX-License-Identifier: Apache-2.0
"""When to switch over: pure functions of what was measured.

Theory of operation: docs/policy.md. The pages pending after a round are
counted exactly, so the downtime of switching *now* follows from the time that
such pages took and from the rehearsed costs; and how many pages the guest
dirties in windows of different lengths says what further rounds would leave.
No clock, no I/O, no native code.
"""

from __future__ import annotations

from pymigrate.policy.decide import decide
from pymigrate.policy.decision import Action, Decision, PolicyFunction
from pymigrate.policy.growth import Growth, fit_growth
from pymigrate.policy.measurement import (
    BULK_BYTES,
    PAGE_BYTES,
    RAW_PAGE_BYTES,
    RoundMeasurement,
    SwitchoverCosts,
)
from pymigrate.policy.model import Model, Step, estimate, final_downtime_ms
from pymigrate.policy.options import PolicyKind, PolicyOptions, PostCopy

__all__ = [
    "BULK_BYTES",
    "PAGE_BYTES",
    "RAW_PAGE_BYTES",
    "Action",
    "Decision",
    "Growth",
    "Model",
    "PolicyFunction",
    "PolicyKind",
    "PolicyOptions",
    "PostCopy",
    "RoundMeasurement",
    "Step",
    "SwitchoverCosts",
    "decide",
    "estimate",
    "final_downtime_ms",
    "fit_growth",
]

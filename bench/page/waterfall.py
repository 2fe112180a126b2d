# SPDX-License-Identifier: Apache-2.0
"""Where the downtime of one contender went."""

from __future__ import annotations

from typing import Any

from bench.stats import median_run
from pymigrate.page.waterfall import waterfall

__all__ = ["downtime"]


def downtime(result: dict[str, Any], name: str) -> str:
    """Of one contender of ours, in its median run."""
    run = median_run(result["runs"].get(name, []))
    parts = run["extra"].get("downtime") if run else None
    if not run or not parts:
        return ""
    caption = (
        f"The downtime of {name} in its median run, part by part; the line is what the decision to"
        " switch over was based on."
    )
    label = f"{result['title']}: downtime"
    return waterfall(parts, run["predicted_downtime_ms"], label, caption)

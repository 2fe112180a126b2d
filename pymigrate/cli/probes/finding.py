# SPDX-License-Identifier: Apache-2.0
"""What a probe finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "Group", "Status"]


class Status(enum.Enum):
    """How a line of the check ends."""

    OK = "ok"
    LIMITED = "limited"  # works, with a fallback or within bounds
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line.

    :ivar detail: what was found.
    :ivar why: what it is for, or what is lost without it.
    :ivar fix: what to do about it; empty where nothing is to be done.
    """

    name: str
    status: Status
    detail: str
    why: str = ""
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status.value,
            "detail": self.detail,
            "why": self.why,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class Group:
    """Lines under one heading."""

    title: str
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "findings": [f.to_json() for f in self.findings]}

# SPDX-License-Identifier: Apache-2.0
"""One set of connections from a source: messages, and pages."""

from __future__ import annotations

from dataclasses import dataclass

from pymigrate._intake import DataSockets, Intake
from pymigrate._link import Link

__all__ = ["Connection"]


@dataclass(frozen=True)
class Connection:
    """What a destination holds while a source is in reach."""

    link: Link
    sockets: DataSockets
    intake: Intake

    def close(self, drain_ms: int = 0) -> None:
        """End it all; idempotent.

        :param drain_ms: for the source to read what was said last.
        """
        self.intake.close()
        self.sockets.close()
        self.link.close(drain_ms)

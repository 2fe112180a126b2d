# SPDX-License-Identifier: Apache-2.0
"""Exit codes, and the errors that end a command in one sentence."""

from __future__ import annotations

import enum

__all__ = ["CommandError", "Exit"]


class Exit(enum.IntEnum):
    """What a shell script can rely on."""

    DONE = 0
    FAILED = 1  # nothing was handed over: the source still owns the guest
    USAGE = 2
    NOT_MIGRATED = 3  # not converged or cancelled; the source runs
    OPERATOR = 4  # failed after commit: somebody has to decide


class CommandError(Exception):
    """Ends the command; str() is one sentence that says what to do."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code

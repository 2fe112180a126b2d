# SPDX-License-Identifier: Apache-2.0
"""Exit codes, and the errors that end a command in one sentence."""

from __future__ import annotations

from pymigrate.report import ExitCode as Exit

__all__ = ["CommandError", "Exit"]


class CommandError(Exception):
    """Ends the command; str() is one sentence that says what to do."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code

# SPDX-License-Identifier: Apache-2.0
"""How the memory of a guest came out of its file while it ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymigrate.cli.console import titled
from pymigrate.cli.render.lists import named_list
from pymigrate.page.facts import Json
from pymigrate.page.restore import restore_rows

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["restore_list"]


def restore_list(report: Json) -> Group | None:
    """Nothing for a guest whose memory was there before it ran."""
    rows = restore_rows(report)
    return titled("Memory from the file", named_list(rows)) if rows else None

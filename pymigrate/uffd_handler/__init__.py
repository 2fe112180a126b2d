# SPDX-License-Identifier: Apache-2.0
"""A handler of page faults for VMMs that restore lazily, as Firecracker does.

docs/uffd-handler.md is for its users.
"""

from __future__ import annotations

from pymigrate.uffd_handler.file_supply import FileSupply
from pymigrate.uffd_handler.handler import handle_faults
from pymigrate.uffd_handler.handshake import GuestRegion, Handshake, parse_regions
from pymigrate.uffd_handler.report import HandlerOutcome, HandlerReport, PrefetchReport
from pymigrate.uffd_handler.server_supply import ServerSupply
from pymigrate.uffd_handler.service import HandlerOptions
from pymigrate.uffd_handler.supply import Plan, Supply

__all__ = [
    "FileSupply",
    "GuestRegion",
    "HandlerOptions",
    "HandlerOutcome",
    "HandlerReport",
    "Handshake",
    "Plan",
    "PrefetchReport",
    "ServerSupply",
    "Supply",
    "handle_faults",
    "parse_regions",
]

# SPDX-License-Identifier: Apache-2.0
"""A server that gives the pages of a memory file to those who run the guest.

docs/protocol.md, "Pages of a file", is normative; docs/uffd-handler.md is for
its users.
"""

from __future__ import annotations

from pymigrate.page_server.server import PageServer
from pymigrate.page_server.session import SessionReport

__all__ = ["PageServer", "SessionReport"]

# SPDX-License-Identifier: Apache-2.0
"""Live migration of running virtual machines."""

from __future__ import annotations

__version__ = "0.1.0"

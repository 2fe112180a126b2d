# SPDX-License-Identifier: Apache-2.0
"""The ``pymigrate`` command."""

from pymigrate.cli.main import main

__all__ = ["main"]

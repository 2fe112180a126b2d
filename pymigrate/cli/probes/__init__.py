# SPDX-License-Identifier: Apache-2.0
"""Probes of this host: each tries the thing itself and says what it found."""

from pymigrate.cli.probes.finding import Finding, Group, Status

__all__ = ["Finding", "Group", "Status"]

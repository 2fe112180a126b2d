# SPDX-License-Identifier: Apache-2.0
"""Options that only ``demo`` and the benchmarks use, on the processes they start."""

from __future__ import annotations

import argparse

__all__ = ["add_child_options"]


def add_child_options(parser: argparse.ArgumentParser) -> None:
    """Options for the process that starts this one."""
    parser.add_argument("--events", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.add_argument("--netns", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)

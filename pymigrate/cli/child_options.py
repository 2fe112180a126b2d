# SPDX-License-Identifier: Apache-2.0
"""Options that only ``demo`` uses, on the processes that it starts."""

from __future__ import annotations

import argparse

__all__ = ["add_child_options"]


def add_child_options(parser: argparse.ArgumentParser) -> None:
    """Options that only demo uses."""
    parser.add_argument("--events", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.add_argument("--netns", type=int, metavar="FD", help=argparse.SUPPRESS)

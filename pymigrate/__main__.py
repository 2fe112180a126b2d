# SPDX-License-Identifier: Apache-2.0
"""``python -m pymigrate`` is the ``pymigrate`` command."""

from __future__ import annotations

import sys

from pymigrate.cli import main

if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""What kinds of contenders look like: classes of the style sheet."""

from __future__ import annotations

CLASSES = {
    "Ours": "ours",
    "Qemu": "qemu",
    "BareMover": "limit",
    "Iperf": "limit",
    "Memcpy": "limit",
}

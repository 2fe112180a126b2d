# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page of all results: inline SVG, no scripts, no network."""

from bench.page.page import build_page, load_results

__all__ = ["build_page", "load_results"]

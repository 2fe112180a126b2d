# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: ``python -m bench.run``; docs/benchmarks.md says how to read them."""

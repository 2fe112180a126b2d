# SPDX-License-Identifier: Apache-2.0
"""Builds the one native module; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["pymigrate/_native_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)

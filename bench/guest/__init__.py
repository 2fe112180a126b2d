# SPDX-License-Identifier: Apache-2.0
"""The guest that other hypervisors run."""

from bench.guest.build import BootImage, Program, build_image, read_status

__all__ = ["BootImage", "Program", "build_image", "read_status"]

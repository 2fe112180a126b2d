# SPDX-License-Identifier: Apache-2.0
"""Assembles boot.S and fills in what the guest is to do."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent

PAGE_BYTES = 4096
TICK_HZ = 1000
UNLIMITED = 0xFFFFFFFF
SECTOR_BYTES = 512
IMAGE_BYTES = 64 << 10
# The layout of boot.S.
PARAMETERS_AT = 0x1E0
STATUS_AT = 0x9000
# What the guest itself uses lies below; nothing else is kept there.
LOW_BYTES = 2 << 20
# The guest runs without paging, in 32 bits, and RAM ends here at the latest.
MAX_ADDRESS = 3 << 30


class Program(IntEnum):
    """What a step does."""

    IDLE = 0
    WORD = 1  # adds 1 to the first word of the next page
    PAGE = 2  # writes a number all over the next page


@dataclass(frozen=True)
class BootImage:
    """A guest, and what it does.

    :ivar rate_pages_per_s: None: as fast as it goes.
    :ivar first: where the working set begins; a multiple of a page.
    """

    program: Program
    first: int = LOW_BYTES
    working_set_bytes: int = 0
    rate_pages_per_s: int | None = 0

    def parameters(self) -> bytes:
        """As boot.S declares them."""
        end = self.first + self.working_set_bytes
        if end > MAX_ADDRESS:
            raise ValueError("the boot guest reaches the first 3 GiB only")
        if self.program is not Program.IDLE and self.working_set_bytes < PAGE_BYTES:
            raise ValueError("a guest that writes needs a working set")
        return struct.pack("<4I", self.program, self.first, end, self._rate())

    def _rate(self) -> int:
        """Steps in a tick as 16.16 fixed point."""
        if self.program is Program.IDLE:
            return 0
        if self.rate_pages_per_s is None:
            return UNLIMITED
        rate = round(self.rate_pages_per_s * 65536 / TICK_HZ)
        if not 0 <= rate < UNLIMITED:
            raise ValueError(f"{self.rate_pages_per_s} pages/s are too many for one tick")
        return rate


@cache
def assemble() -> bytes:
    """The image without parameters.

    :raises subprocess.CalledProcessError: the binutils refuse it.
    """
    with tempfile.TemporaryDirectory() as folder:
        made, linked, image = (Path(folder) / name for name in ("boot.o", "boot.elf", "boot.bin"))
        subprocess.run(["as", "--32", HERE / "boot.S", "-o", made], check=True)
        script = HERE / "boot.ld"
        subprocess.run(["ld", "-m", "elf_i386", "-T", script, made, "-o", linked], check=True)
        subprocess.run(["objcopy", "-O", "binary", linked, image], check=True)
        return image.read_bytes()


def build_image(guest: BootImage) -> bytes:
    """64 KiB to start a machine from; its first 512 bytes are a boot sector."""
    image = bytearray(assemble())
    if len(image) != IMAGE_BYTES or image[SECTOR_BYTES - 2 : SECTOR_BYTES] != b"\x55\xaa":
        raise RuntimeError("boot.S and boot.ld do not make a boot sector in a 64 KiB image")
    parameters = guest.parameters()
    image[PARAMETERS_AT : PARAMETERS_AT + len(parameters)] = parameters
    return bytes(image)


def read_status(status: bytes) -> tuple[int, int]:
    """Ticks and steps from the 8 bytes at STATUS_AT; both modulo 2^32."""
    ticks, steps = struct.unpack("<2I", status)
    return ticks, steps

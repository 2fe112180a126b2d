# SPDX-License-Identifier: Apache-2.0
"""Build recipe of ``pymigrate._native``: the C core and the reference VMM.

The declarations come from the marked regions of the C headers, so Python
sees exactly what a C program sees.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")
HEADERS = ("pymigrate.h", "vmm/vmm.h")
PACKAGES = ("liblz4", "libzstd", "libxxhash")
MARKED = re.compile(r"/\* cffi: begin \*/(.*?)/\* cffi: end \*/", re.DOTALL)


def pkg_config(option: str) -> list[str]:
    """What pkg-config says of the compression and hash libraries."""
    try:
        done = subprocess.run(
            ["pkg-config", option, *PACKAGES], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or error
        raise SystemExit(
            "pymigrate needs the headers of lz4, zstd and xxhash to build "
            "(on Debian: apt-get install pkg-config liblz4-dev libzstd-dev "
            f"libxxhash-dev): {detail}"
        ) from error
    return done.stdout.split()


def declarations() -> str:
    """The marked regions of all headers."""
    parts = []
    for header in HEADERS:
        marked = MARKED.findall((CSRC / header).read_text())
        if not marked:
            raise SystemExit(f"{CSRC / header}: no region marked for the binding")
        parts.extend(marked)
    return "\n".join(parts)


def sources() -> list[str]:
    """Every C file of the engine and the reference VMM."""
    return sorted(str(path) for path in CSRC.glob("*/*.c"))


def dependencies() -> list[str]:
    """What the module is rebuilt for besides its sources."""
    suffixes = (".h", ".S", ".map")
    return sorted(str(path) for path in CSRC.rglob("*") if path.suffix in suffixes)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "pymigrate._native",
    "\n".join(f'#include "{header}"' for header in HEADERS),
    sources=sources(),
    include_dirs=[str(CSRC)],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=[
        "-std=gnu11",
        "-O2",
        "-g",
        "-pthread",
        "-fvisibility=hidden",
        # The guest programs are included by the assembler.
        f"-Wa,-I{CSRC}",
        *pkg_config("--cflags"),
    ],
    # The header makes pmig_* visible for the shared library; here they are
    # nobody else's business.
    extra_link_args=[
        "-pthread",
        f"-Wl,--version-script={CSRC / 'python.map'}",
        *pkg_config("--libs"),
    ],
    depends=dependencies(),
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)

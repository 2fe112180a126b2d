# SPDX-License-Identifier: Apache-2.0
"""The options that say what the reference guest is, and what is made of them."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.units import parse_count, parse_size, size_words

if TYPE_CHECKING:
    from pymigrate.vmm import VmConfig

__all__ = ["TRACKERS", "add_guest_options", "choose_backend", "guest_config"]

TRACKERS = ("auto", "kvm-log", "kvm-ring", "uffd-wp", "marked")
GUESTS = ("sweep", "random", "read", "partial", "idle")
CONTENTS = (
    "zero",
    "random",
    "text",
    "executable",
    "pointers",
    "repeated",
    "mixed",
    "untouched",
)
BACKINGS = ("memfd", "hugetlbfs", "anonymous", "thp")
BACKENDS = ("kvm", "threads")

_HUGE_PAGE_BYTES = 2 << 20
_MIN_MEMORY_BYTES = 8 << 20
_MAX_MEMORY_BYTES = 64 << 30
_UNLIMITED = "unlimited"


def add_guest_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; all have defaults."""
    guest = parser.add_argument_group("the guest")
    guest.add_argument(
        "--memory", type=parse_size, default="256M", metavar="SIZE", help="default: 256M"
    )
    guest.add_argument("--vcpus", type=parse_count, default=1, metavar="N", help="default: 1")
    guest.add_argument(
        "--guest",
        choices=GUESTS,
        default="sweep",
        help="what each vCPU does with its part of the working set: bump a counter in every page "
        "in order, in random pages, check all and bump few, write a part of every page, or "
        "nothing (default: sweep)",
    )
    guest.add_argument(
        "--working-set", type=parse_size, metavar="SIZE", help="what it writes (default: 16M)"
    )
    guest.add_argument(
        "--dirty-rate",
        type=_dirty_rate,
        default="10000",
        metavar="PAGES_PER_S",
        help="of all vCPUs together, or 'unlimited' (default: 10000)",
    )
    guest.add_argument(
        "--write-bytes",
        type=parse_count,
        default=64,
        metavar="N",
        help="how much of a page --guest partial writes, a multiple of 8 up to 4032 (default: 64)",
    )
    guest.add_argument(
        "--tick-hz",
        type=parse_count,
        default=1000,
        metavar="N",
        help="how often a vCPU that has a rate, or nothing to do, wakes up and beats, at most "
        "10000 (default: 1000)",
    )
    guest.add_argument(
        "--content",
        choices=CONTENTS,
        default="random",
        help="what the other pages hold: 'text' is like prose, 'executable' is cut out of programs "
        "of this system, 'pointers' is like a heap, 'untouched' are never allocated "
        "(default: random)",
    )
    guest.add_argument(
        "--backing",
        choices=BACKINGS,
        default="memfd",
        help="what guest memory is made of; thp is anonymous memory in transparent huge pages",
    )
    guest.add_argument(
        "--backend",
        choices=BACKENDS,
        help="vCPUs, or threads that write memory (default: kvm where /dev/kvm works)",
    )


def _dirty_rate(text: str) -> int | None:
    """Pages per second; None stands for as fast as it goes."""
    if text == _UNLIMITED:
        return None
    try:
        value = int(text.replace(",", ""))
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a rate: write pages per second, like 10000, or {_UNLIMITED!r}"
        )
    return value


def choose_backend(wanted: str | None) -> tuple[str, str]:
    """The backend to use, and a sentence where the choice needs one."""
    if wanted:
        return wanted, ""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return "threads", f"/dev/kvm: {reason}; memory written by threads is migrated instead"
    return "kvm", ""


def guest_config(args: argparse.Namespace) -> VmConfig:
    """The machine that the options describe.

    :raises CommandError: they contradict each other.
    """
    from pymigrate._engine import TrackerKind
    from pymigrate.vmm import Backend, Backing, Content, Guest, VmConfig

    backend, _ = choose_backend(args.backend)
    _check_sizes(args.memory, args.working_set)
    if backend == "threads" and args.tracker in ("kvm-log", "kvm-ring"):
        raise CommandError(
            f"--tracker {args.tracker} needs --backend kvm: use auto, uffd-wp or marked",
            Exit.USAGE,
        )
    return VmConfig(
        memory_bytes=args.memory,
        vcpus=args.vcpus,
        backend=Backend(backend),
        backing=Backing(args.backing),
        guest=Guest(args.guest),
        working_set_bytes=_working_set(args),
        dirty_rate_pages_per_s=args.dirty_rate,
        write_bytes=args.write_bytes,
        tick_hz=args.tick_hz,
        content=Content(args.content),
        tracker=TrackerKind(args.tracker),
    )


def _working_set(args: argparse.Namespace) -> int:
    if args.working_set is not None:
        return int(args.working_set)
    return 0 if args.guest == "idle" else min(16 << 20, args.memory // 4)


def _check_sizes(memory: int, working_set: int | None) -> None:
    if memory % _HUGE_PAGE_BYTES or not _MIN_MEMORY_BYTES <= memory <= _MAX_MEMORY_BYTES:
        raise CommandError(
            f"--memory must be a multiple of 2M from 8M to 64G, {size_words(memory)} is not",
            Exit.USAGE,
        )
    if working_set is not None and working_set > memory:
        raise CommandError(
            f"--working-set {size_words(working_set)} is more than --memory {size_words(memory)}",
            Exit.USAGE,
        )

# SPDX-License-Identifier: Apache-2.0
"""What a machine of the reference VMM is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from pymigrate._engine import TrackerKind, ffi, lib

__all__ = ["Backend", "Backing", "Content", "Guest", "VmConfig"]

MIB = 1 << 20


class Backend(str, Enum):
    """Who runs the guest programs."""

    KVM = "kvm"
    THREADS = "threads"


class Backing(str, Enum):
    """What guest RAM is made of."""

    MEMFD = "memfd"
    HUGETLBFS = "hugetlbfs"
    ANONYMOUS = "anonymous"
    THP = "thp"


class Guest(str, Enum):
    """What each vCPU does with its slice of the working set."""

    SWEEP = "sweep"
    RANDOM = "random"
    READ = "read"
    PARTIAL = "partial"
    IDLE = "idle"


class Content(str, Enum):
    """What RAM holds at the start."""

    ZERO = "zero"
    RANDOM = "random"
    TEXT = "text"
    REPEATED = "repeated"
    MIXED = "mixed"
    UNTOUCHED = "untouched"
    EXECUTABLE = "executable"
    POINTERS = "pointers"


@dataclass(frozen=True)
class VmConfig:
    """A machine; words are accepted where enums are declared.

    :ivar memory_bytes: a multiple of 2 MiB, 8 MiB to 64 GiB.
    :ivar working_set_bytes: what the guest writes, a multiple of 4096.
    :ivar dirty_rate_pages_per_s: of all vCPUs together; 0 no writes, None as
        fast as it goes.
    :ivar write_bytes: guest partial: bytes written into a page at a time.
    :ivar seed: of content and of random programs.
    :ivar tracker: the one it will be used with: kvm-ring makes the dirty
        rings, marked the guest's own log.
    :ivar ring_entries: of each dirty ring, a power of two; 0: 65536.
    :ivar tick_hz: heartbeats per second of a paced guest; 0: 1000.
    """

    memory_bytes: int = 256 * MIB
    vcpus: int = 1
    backend: Backend = Backend.KVM
    backing: Backing = Backing.MEMFD
    guest: Guest = Guest.SWEEP
    working_set_bytes: int = 16 * MIB
    dirty_rate_pages_per_s: int | None = 10000
    write_bytes: int = 64
    content: Content = Content.RANDOM
    seed: int = 1
    tracker: TrackerKind = TrackerKind.AUTO
    ring_entries: int = 0
    tick_hz: int = 0

    def __post_init__(self) -> None:
        for name, kind in _WORDS.items():
            object.__setattr__(self, name, kind(getattr(self, name)))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; :meth:`from_json` is the inverse."""
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VmConfig:
        """Read what :meth:`to_json` gave; it may come from a peer.

        :raises ValueError: a member is unknown or its value is impossible.
        """
        known = {field.name: field for field in fields(cls)}
        for name, value in data.items():
            if name not in known:
                raise ValueError(f"machine: {name!r} is not a member of VmConfig")
            _check_type(name, value, known[name].default)
        return cls(**data)

    def differences(self, other: VmConfig) -> list[str]:
        """Why the state of self cannot be loaded into other."""
        found = [
            f"machine: {name} is {_plain(getattr(self, name))} at the source, "
            f"{_plain(getattr(other, name))} at the destination"
            for name in _GUEST_VISIBLE
            if getattr(self, name) != getattr(other, name)
        ]
        if (self.tracker is TrackerKind.MARKED) != (other.tracker is TrackerKind.MARKED):
            found.append("machine: only one side's guest keeps a log of its writes")
        return found

    def to_native(self, *, populate: bool) -> Any:
        """A ``struct pvmm_config *``."""
        rate = self.dirty_rate_pages_per_s
        config = ffi.new("struct pvmm_config *")
        config.struct_size = ffi.sizeof("struct pvmm_config")
        config.flags = (lib.PVMM_POPULATE if populate else 0) | (
            lib.PVMM_UNLIMITED if rate is None else 0
        )
        config.memory_bytes = self.memory_bytes
        config.working_set_bytes = self.working_set_bytes
        config.rate_pages_per_s = rate or 0
        config.seed = self.seed
        config.n_vcpus = self.vcpus
        config.backend = getattr(lib, f"PVMM_BACKEND_{self.backend.name}")
        config.backing = getattr(lib, f"PVMM_BACKING_{self.backing.name}")
        config.program = getattr(lib, f"PVMM_PROGRAM_{self.guest.name}")
        config.content = getattr(lib, f"PVMM_CONTENT_{self.content.name}")
        config.write_bytes = self.write_bytes
        config.tracker = self.tracker.code
        config.ring_entries = self.ring_entries
        config.tick_hz = self.tick_hz
        return config


_WORDS: dict[str, type[Enum]] = {
    "backend": Backend,
    "backing": Backing,
    "guest": Guest,
    "content": Content,
    "tracker": TrackerKind,
}

_GUEST_VISIBLE = (
    "memory_bytes",
    "vcpus",
    "backend",
    "guest",
    "working_set_bytes",
    "content",
    "seed",
    "write_bytes",
)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _check_type(name: str, value: Any, default: Any) -> None:
    """Only what JSON can hold for a member of that default is let through."""
    if name == "dirty_rate_pages_per_s" and value is None:
        return
    wanted = str if isinstance(default, Enum) else type(default)
    if type(value) is not wanted and not isinstance(value, Enum):
        raise ValueError(f"machine: {name} is {value!r}, expected {wanted.__name__}")

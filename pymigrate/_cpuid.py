# SPDX-License-Identifier: Apache-2.0
"""Comparing the CPUID that a guest sees with what a host offers.

A guest keeps the CPUID it was started with: it is loaded at the destination
as it was. So what matters is whether the host can stand behind it: each
feature bit that the guest sees must be offered. Leaves that only inform
(caches, topology, model, brand) may differ.

Some bits are not features of a host, and are left out of the comparison:

- OSXSAVE and OSPKE mirror CR4, APIC the APIC's enable bit, MONITOR an enable
  bit too: the guest itself switches them.
- HTT and CmpLegacy describe the topology the owner chose, HYPERVISOR that
  there is one.
- The APIC ids (leaf 1 ebx, 0xb and 0x1f edx) are of one vCPU; the size in
  leaf 0xd ebx follows XCR0. None of them is a feature register, so they are
  never looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from pymigrate._cpu_features import FEATURES, KVM_FEATURES, XSAVE_COMPONENTS, Register, Word

__all__ = ["Cpuid", "cpuid_differences"]

# Not features of a host; the reasons are above.
_MASKED: Final[dict[Word, int]] = {
    (0x1, 0, "ecx"): 1 << 3 | 1 << 27 | 1 << 31,
    (0x1, 0, "edx"): 1 << 9 | 1 << 28,
    (0x7, 0, "ecx"): 1 << 4,
    (0x80000001, 0, "ecx"): 1 << 1,
}

# AMD repeats these bits of leaf 1 edx there.
_AMD_REPEATS: Final = 0x0183F3FF

_REGISTERS: Final[tuple[Register, ...]] = ("eax", "ebx", "ecx", "edx")
_KVM_SIGNATURE: Final = b"KVMKVMKVM\0\0\0"


class Cpuid:
    """A list of CPUID entries as a table.

    :param entries: of a description; ValueError where they are malformed.
    """

    def __init__(self, entries: Any) -> None:
        if not isinstance(entries, list):
            raise ValueError("cpuid is not a list")
        self._table: dict[Word, int] = {}
        for entry in entries:
            self._enter(entry)

    def _enter(self, entry: Any) -> None:
        if not isinstance(entry, Mapping):
            raise ValueError("a cpuid entry is not an object")
        leaf, index = _u32(entry, "function"), _u32(entry, "index")
        for register in _REGISTERS:
            self._table[(leaf, index, register)] = _u32(entry, register)

    def get(self, leaf: int, index: int, register: Register) -> int:
        """A register; 0 where the leaf is not there, as the processor does."""
        return self._table.get((leaf, index, register), 0)

    def components(self) -> int:
        """What the guest may set in XCR0 and IA32_XSS, as one mask."""
        supervisor = self.get(0xD, 1, "ecx") | self.get(0xD, 1, "edx") << 32
        return self.user_components() | supervisor

    def user_components(self) -> int:
        """What the guest may set in XCR0."""
        return self.get(0xD, 0, "eax") | self.get(0xD, 0, "edx") << 32

    def vendor(self) -> str:
        """The vendor's name, "" where there is no leaf 0."""
        return self._text(0, ("ebx", "edx", "ecx")).decode("ascii", "replace")

    def kvm_features(self) -> int:
        """The paravirtual features, wherever Hyper-V's leaves have moved them."""
        for leaf in range(0x40000000, 0x40010000, 0x100):
            if self._text(leaf, ("ebx", "ecx", "edx")) == _KVM_SIGNATURE:
                return self.get(leaf + 1, 0, "eax")
        return 0

    def _text(self, leaf: int, registers: Iterable[Register]) -> bytes:
        words = [self.get(leaf, 0, register) for register in registers]
        return struct.pack("<3I", *words) if any(words) else b""


def _u32(entry: Mapping[str, Any], name: str) -> int:
    value: Any = entry.get(name)
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError(f"{name} of a cpuid entry is {value!r}, not a 32-bit number")
    return value


def _any(masks: Iterable[int]) -> int:
    result = 0
    for mask in masks:
        result |= mask
    return result


def _bits(mask: int) -> Iterator[int]:
    return (bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def cpuid_differences(guest: Cpuid, offers: list[Cpuid], extra: Mapping[Word, int]) -> list[str]:
    """Why a guest that sees ``guest`` cannot run where any of ``offers`` holds.

    :param offers: what the host supports, and what its machine was given.
    :param extra: bits that the host has though its CPUID does not say so.
    """
    return [
        *_vendor(guest, offers),
        *_features(guest, offers, extra),
        *_kvm_features(guest, offers),
        *_components(guest, offers),
        *_widths(guest, offers),
    ]


def _vendor(guest: Cpuid, offers: list[Cpuid]) -> Iterator[str]:
    theirs, ours = guest.vendor(), offers[0].vendor()
    if theirs and ours and theirs != ours:
        yield f"CPU vendor: the source has {theirs}, this host {ours}"


def _names(guest: Cpuid, word: Word) -> int:
    """The bits of a feature register that count."""
    value = guest.get(*word) & ~_MASKED.get(word, 0)
    if word == (0x80000001, 0, "edx"):
        value &= ~_AMD_REPEATS
    return value


def _features(guest: Cpuid, offers: list[Cpuid], extra: Mapping[Word, int]) -> Iterator[str]:
    for word, names in FEATURES.items():
        offered = _any(cpuid.get(*word) for cpuid in offers) | extra.get(word, 0)
        for bit in _bits(_names(guest, word) & ~offered):
            leaf, index, register = word
            yield (
                f"CPUID leaf {leaf:#x}.{index} {register}: the source has "
                f"{names.get(bit, 'an unnamed feature')} (bit {bit}), this host has not"
            )


def _kvm_features(guest: Cpuid, offers: list[Cpuid]) -> Iterator[str]:
    offered = _any(cpuid.kvm_features() for cpuid in offers)
    for bit in _bits(guest.kvm_features() & ~offered):
        name = KVM_FEATURES.get(bit, "an unnamed feature")
        yield (
            f"CPUID leaf 0x40000001.0 eax: the source has KVM's {name} (bit {bit}), "
            "this host has not"
        )


def _component(bit: int) -> str:
    return f"XSAVE component {XSAVE_COMPONENTS.get(bit, 'without a name')} (bit {bit})"


def _components(guest: Cpuid, offers: list[Cpuid]) -> Iterator[str]:
    """The components, and where in the area they lie: KVM copies it as it is."""
    offered = _any(cpuid.components() for cpuid in offers)
    for bit in _bits(guest.components()):
        if not offered >> bit & 1:
            yield f"{_component(bit)}: the source has it, this host has not"
        elif bit >= 2 and guest.user_components() >> bit & 1:
            yield from _component_place(bit, guest, offers)


def _component_place(bit: int, guest: Cpuid, offers: list[Cpuid]) -> Iterator[str]:
    place = _place_of(bit)
    theirs = place(guest)
    if theirs not in [place(cpuid) for cpuid in offers]:
        ours = place(offers[0])
        yield (
            f"{_component(bit)}: at the source it has {theirs[0]} bytes at {theirs[1]}, "
            f"on this host {ours[0]} bytes at {ours[1]}"
        )


def _place_of(bit: int) -> Callable[[Cpuid], tuple[int, int]]:
    return lambda cpuid: (cpuid.get(0xD, bit, "eax"), cpuid.get(0xD, bit, "ebx"))


# leaf, register, lowest bit, width, what it is
_WIDTHS: Final[tuple[tuple[int, Register, int, int, str], ...]] = (
    (0x80000008, "eax", 0, 8, "physical address bits"),
    (0x80000008, "eax", 8, 8, "linear address bits"),
    (0xA, "eax", 0, 8, "version of the performance counters"),
    (0xA, "eax", 8, 8, "general performance counters"),
    (0xA, "eax", 16, 8, "bits of the performance counters"),
)


def _widths(guest: Cpuid, offers: list[Cpuid]) -> Iterator[str]:
    for leaf, register, low, width, what in _WIDTHS:
        mask = (1 << width) - 1
        theirs = guest.get(leaf, 0, register) >> low & mask
        ours = max(cpuid.get(leaf, 0, register) >> low & mask for cpuid in offers)
        if theirs > ours:
            yield f"CPUID leaf {leaf:#x}.0 {register}: {what}: {theirs} at the source, {ours} here"

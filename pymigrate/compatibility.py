# SPDX-License-Identifier: Apache-2.0
"""Can this host run the machine that a source describes?

Pure functions over descriptions (``Machine.describe()``); the member ``kvm``
is specified in docs/kvm-state.md. The source's description comes from a peer
and may have any shape: what is wrong with it is a difference, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pymigrate._cpu_features import MSRS, Word
from pymigrate._cpuid import Cpuid, cpuid_differences

__all__ = ["differences", "kvm_differences", "memory_differences"]

# KVM runs a guest without scaling its TSC up to this distance
# (Documentation/virt/kvm/api.rst, KVM_SET_TSC_KHZ).
TSC_TOLERANCE_PPM: Final = 250

# Capabilities without which loading still works, and why.
REPLACEABLE_CAPABILITIES: Final[dict[str, str]] = {
    "KVM_CAP_EXCEPTION_PAYLOAD": "needed only while an exception is pending, which loading checks",
    "KVM_CAP_X86_TRIPLE_FAULT_EVENT": "needed only while one is pending, which loading checks",
    "KVM_CAP_X86_SMM": "needed only in system management mode, which loading checks",
    "KVM_CAP_SREGS2": "KVM_SET_SREGS does, unless PAE paging is on, which loading checks",
    "KVM_CAP_VCPU_ATTRIBUTES": "the TSC is written by its MSR instead",
    "KVM_CAP_NESTED_STATE": "needed only by nested guests; CPUID says whether there can be any",
    "KVM_CAP_XSAVE2": "KVM_SET_XSAVE loads; the components are compared one by one",
}

# Capabilities that only a machine with the device needs.
_DEVICE_CAPABILITIES: Final[dict[str, tuple[str, object]]] = {
    "KVM_CAP_IRQCHIP": ("irqchip", "full"),
    "KVM_CAP_SPLIT_IRQCHIP": ("irqchip", "split"),
    "KVM_CAP_PIT2": ("pit", True),
    "KVM_CAP_PIT_STATE2": ("pit", True),
}

_TSC_DEADLINE: Final[Word] = (0x1, 0, "ecx")
_TSC_DEADLINE_BIT: Final = 24


@dataclass(frozen=True)
class _Kvm:
    """A checked description; the members as in docs/kvm-state.md."""

    arch: str
    caps: Mapping[str, int]
    cpuid: Cpuid
    host_cpuid: Cpuid
    msrs: frozenset[int]
    xsave_bytes: int
    tsc_khz: int
    tsc_scaling: bool
    n_vcpus: int
    irqchip: str
    pit: bool


def differences(source: Mapping[str, Any], destination: Mapping[str, Any]) -> list[str]:
    """What makes it impossible to run ``source``'s machine in ``destination``'s.

    :param source: the description of the machine at the source.
    :param destination: that of the machine, or the host, that shall take it.
    :return: a sentence for each difference, which names what differs; empty
        when there is none.
    """
    return [
        *memory_differences(source.get("memory"), destination.get("memory")),
        *kvm_differences(source.get("kvm"), destination.get("kvm")),
    ]


def memory_differences(source: Any, destination: Any) -> list[str]:
    """What differs between two memory maps, as ``Memory.describe()`` gives them.

    Guest physical layout must be equal; what backs it may differ.
    """
    for maps, whose in ((source, "source"), (destination, "destination")):
        if not isinstance(maps, list) or not all(isinstance(r, Mapping) for r in maps):
            return [f"memory map: the {whose}'s description has none"]
    if len(source) != len(destination):
        return [
            f"memory map: the source has {len(source)} regions, the destination {len(destination)}"
        ]
    return [
        f"memory map: region {index}: {key} is {theirs.get(key)!r} at the source, "
        f"{ours.get(key)!r} at the destination"
        for index, (theirs, ours) in enumerate(zip(source, destination, strict=True))
        for key in ("name", "gpa", "size_bytes")
        if theirs.get(key) != ours.get(key)
    ]


def kvm_differences(source: Any, destination: Any) -> list[str]:
    """What differs between two ``kvm`` descriptions; None: not a KVM machine."""
    if source is None and destination is None:
        return []
    if source is None:
        return ["the source is not a KVM machine, the destination is one"]
    if destination is None:
        return ["the source is a KVM machine, the destination is not"]
    try:
        theirs = _parse(source)
    except ValueError as error:
        return [f"the source's description of its KVM machine is malformed: {error}"]
    return list(_compare(theirs, _parse(destination)))


def _member(description: Mapping[str, Any], name: str, kind: type) -> Any:
    value = description.get(name)
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}, not {kind.__name__}")
    return value


def _number(description: Mapping[str, Any], name: str) -> int:
    value: int = _member(description, name, int)
    if value < 0:
        raise ValueError(f"{name} is negative")
    return value


def _numbers(values: Any, name: str) -> None:
    if not all(type(value) is int for value in values):
        raise ValueError(f"{name} holds something that is not a number")


def _parse(description: Any) -> _Kvm:
    if not isinstance(description, Mapping):
        raise ValueError("it is not an object")
    caps = _member(description, "caps", dict)
    msrs = _member(description, "msrs", list)
    _numbers(caps.values(), "caps")
    _numbers(msrs, "msrs")
    return _Kvm(
        arch=_member(description, "arch", str),
        caps=caps,
        cpuid=Cpuid(description.get("cpuid")),
        host_cpuid=Cpuid(description.get("host_cpuid")),
        msrs=frozenset(msrs),
        xsave_bytes=_number(_member(description, "xsave", dict), "size"),
        tsc_khz=_number(description, "tsc_khz"),
        tsc_scaling=_member(description, "tsc_scaling", bool),
        n_vcpus=_number(description, "n_vcpus"),
        irqchip=_member(description, "irqchip", str),
        pit=_member(description, "pit", bool),
    )


def _compare(source: _Kvm, destination: _Kvm) -> Iterator[str]:
    if source.arch != destination.arch:
        yield f"architecture: {source.arch} at the source, {destination.arch} here"
        return
    yield from _machine(source, destination)
    yield from _capabilities(source, destination)
    yield from cpuid_differences(
        source.cpuid, [destination.host_cpuid, destination.cpuid], _unsaid(destination)
    )
    yield from _msrs(source, destination)
    yield from _xsave(source, destination)
    yield from _tsc(source, destination)


def _machine(source: _Kvm, destination: _Kvm) -> Iterator[str]:
    """The parts the owner chose; a host without a machine has none yet."""
    if not source.n_vcpus or not destination.n_vcpus:
        return
    if source.n_vcpus != destination.n_vcpus:
        yield f"vCPUs: {source.n_vcpus} at the source, {destination.n_vcpus} at the destination"
    if source.irqchip != destination.irqchip:
        yield (
            f"in-kernel irqchip: {source.irqchip} at the source, "
            f"{destination.irqchip} at the destination"
        )
    if source.pit != destination.pit:
        has, lacks = ("source", "destination") if source.pit else ("destination", "source")
        yield f"in-kernel PIT: the {has} has one, the {lacks} has not"


def _needs(machine: _Kvm, capability: str) -> bool:
    if capability in REPLACEABLE_CAPABILITIES:
        return False
    if capability in _DEVICE_CAPABILITIES and machine.n_vcpus:
        member, value = _DEVICE_CAPABILITIES[capability]
        return bool(getattr(machine, member) == value)
    return True


def _capabilities(source: _Kvm, destination: _Kvm) -> Iterator[str]:
    for name, value in source.caps.items():
        if value and not destination.caps.get(name) and _needs(source, name):
            yield f"capability {name}: the source's kernel has it, this one has not"


def _unsaid(destination: _Kvm) -> dict[Word, int]:
    """KVM does not list the deadline timer in its CPUID, but by a capability."""
    has = bool(destination.caps.get("KVM_CAP_TSC_DEADLINE_TIMER"))
    return {_TSC_DEADLINE: has << _TSC_DEADLINE_BIT}


def _msrs(source: _Kvm, destination: _Kvm) -> Iterator[str]:
    for index in sorted(source.msrs - destination.msrs):
        name = f" ({MSRS[index]})" if index in MSRS else ""
        yield f"MSR {index:#x}{name}: the source has it, this host has not"


def _xsave(source: _Kvm, destination: _Kvm) -> Iterator[str]:
    """The end of the last component, by CPUID leaf 0xd."""
    cpuid, components = source.cpuid, source.cpuid.user_components()
    needed_bytes = max(
        (
            cpuid.get(0xD, bit, "ebx") + cpuid.get(0xD, bit, "eax")
            for bit in range(2, components.bit_length())
            if components >> bit & 1
        ),
        default=0,
    )
    if needed_bytes > destination.xsave_bytes:
        yield (
            f"XSAVE area: the guest's components need {needed_bytes} bytes, "
            f"this host's KVM has {destination.xsave_bytes}"
        )


def _tsc(source: _Kvm, destination: _Kvm) -> Iterator[str]:
    """0 is a frequency that is not known."""
    theirs, ours = source.tsc_khz, destination.tsc_khz
    if not theirs or not ours or destination.tsc_scaling:
        return
    if abs(theirs - ours) * 1_000_000 > ours * TSC_TOLERANCE_PPM:
        yield (
            f"TSC: the guest's runs at {theirs} kHz, this host's at {ours} kHz, "
            "and it cannot scale it (KVM_CAP_TSC_CONTROL)"
        )

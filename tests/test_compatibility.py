# SPDX-License-Identifier: Apache-2.0
"""A description fits itself; whatever the destination lacks is named."""

from __future__ import annotations

import ast
import copy
import inspect
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pymigrate import _cpu_features, _cpuid, compatibility
from pymigrate._cpu_features import FEATURES, KVM_FEATURES, MSRS, XSAVE_COMPONENTS
from pymigrate.compatibility import (
    REPLACEABLE_CAPABILITIES,
    differences,
    kvm_differences,
    memory_differences,
)

CAPS = (
    "KVM_CAP_ADJUST_CLOCK",
    "KVM_CAP_DEBUGREGS",
    "KVM_CAP_IRQCHIP",
    "KVM_CAP_MP_STATE",
    "KVM_CAP_PIT2",
    "KVM_CAP_SREGS2",
    "KVM_CAP_TSC_DEADLINE_TIMER",
    "KVM_CAP_VCPU_EVENTS",
    "KVM_CAP_XCRS",
)


def entry(function: int, index: int = 0, **registers: int) -> dict[str, int]:
    zeros = dict.fromkeys(("eax", "ebx", "ecx", "edx"), 0)
    return {"function": function, "index": index, "flags": 0} | zeros | registers


def base_cpuid() -> list[dict[str, int]]:
    """An Intel processor with AVX under KVM."""
    return [
        entry(0x0, eax=0x1C, ebx=0x756E6547, ecx=0x6C65746E, edx=0x49656E69),
        entry(0x1, eax=0xC06F2, ebx=0x01020800, ecx=0xFFFFFFFF, edx=0xFFFFFFFF),
        entry(0x6, eax=0x4),
        entry(0x7, 0, eax=2, ebx=0xFFFFFFFF, ecx=0xFFFFFFFF, edx=0xFFFFFFFF),
        entry(0x7, 1, eax=0xFFFFFFFF, ecx=0x20, edx=0xFFFFFFFF),
        entry(0x7, 2, edx=0x3F),
        entry(0xA, eax=0x07300802),
        entry(0xD, 0, eax=0xE7, ebx=0xA80, ecx=0xA80),
        entry(0xD, 1, eax=0x1F, ecx=0x1800),
        entry(0xD, 2, eax=0x100, ebx=0x240),
        entry(0xD, 5, eax=0x40, ebx=0x440),
        entry(0xD, 6, eax=0x200, ebx=0x480),
        entry(0xD, 7, eax=0x400, ebx=0x680),
        entry(0x40000000, eax=0x40000001, ebx=0x4B4D564B, ecx=0x564B4D56, edx=0x4D),
        entry(0x40000001, eax=0x01007EFB),
        entry(0x80000001, ecx=0x3FFFFFFF, edx=0xFFF80800),
        entry(0x80000007, edx=0x100),
        entry(0x80000008, eax=0x3930, ebx=0xFFFFFFFF),
        entry(0x8000000A, edx=0xFFFFFFFF),
        entry(0x80000021, eax=0xFFFFFFFF),
    ]


def machine(**members: Any) -> dict[str, Any]:
    return {
        "arch": "x86_64",
        "caps": dict.fromkeys(CAPS, 1),
        "cpuid": base_cpuid(),
        "host_cpuid": base_cpuid(),
        "msrs": [0x174, 0x277, 0x4B564D01, 0xC0000081, 0xC0010117],
        "xsave": {"size": 4096, "xcr0": 0xE7},
        "tsc_khz": 2_300_000,
        "tsc_scaling": False,
        "n_vcpus": 2,
        "irqchip": "full",
        "pit": True,
    } | members


def memory() -> list[dict[str, Any]]:
    return [
        {"name": "low", "gpa": 0, "size_bytes": 1 << 20},
        {"name": "high", "gpa": 1 << 32, "size_bytes": 1 << 30},
    ]


def clear(description: dict[str, Any], word: tuple[int, int, str], bit: int) -> None:
    leaf, index, register = word
    for list_name in ("cpuid", "host_cpuid"):
        for item in description[list_name]:
            if (item["function"], item["index"]) == (leaf, index):
                item[register] &= ~(1 << bit)


words = st.builds(entry, *[st.integers(0, 0xFF)] * 2) | st.sampled_from(base_cpuid())
u32 = st.integers(0, (1 << 32) - 1)


@st.composite
def descriptions(draw: st.DrawFn) -> dict[str, Any]:
    """Any machine whose guest's CPUID is what its owner liked."""
    cpuid = [
        item | draw(st.fixed_dictionaries(dict.fromkeys(("eax", "ebx", "ecx", "edx"), u32)))
        for item in draw(st.lists(words, max_size=8))
    ]
    return machine(
        cpuid=cpuid,
        caps=draw(st.dictionaries(st.sampled_from(CAPS), st.integers(0, 4096))),
        msrs=draw(st.lists(u32)),
        xsave={"size": 1 << 33, "xcr0": 0},
        tsc_khz=draw(u32),
        n_vcpus=draw(st.integers(0, 64)),
        irqchip=draw(st.sampled_from(("full", "split", "none"))),
        pit=draw(st.booleans()),
    )


def without_vendor(description: dict[str, Any]) -> dict[str, Any]:
    """A guest whose vendor is not its host's is rightly refused."""
    kept = [item for item in description["cpuid"] if item["function"] != 0]
    return description | {"cpuid": kept}


@given(descriptions())
def test_a_description_fits_itself(description: dict[str, Any]) -> None:
    description = without_vendor(description)
    assert kvm_differences(description, copy.deepcopy(description)) == []


def test_the_base_fits_itself() -> None:
    whole = {"memory": memory(), "kvm": machine()}
    assert differences(whole, copy.deepcopy(whole)) == []
    assert differences({"memory": memory(), "kvm": None}, {"memory": memory(), "kvm": None}) == []


MASKED_BITS = [(word, bit) for word, mask in _cpuid._MASKED.items() for bit in _cpuid._bits(mask)]
COMPARED_BITS = [
    (word, bit, name)
    for word, names in FEATURES.items()
    for bit, name in names.items()
    if (word, bit) not in MASKED_BITS
]


@given(st.sampled_from(COMPARED_BITS))
def test_every_removed_feature_is_named(feature: tuple[tuple[int, int, str], int, str]) -> None:
    word, bit, name = feature
    destination = machine(caps={name: 1 for name in CAPS if "DEADLINE" not in name})
    source = copy.deepcopy(destination)
    clear(destination, word, bit)
    leaf, index, register = word
    assert kvm_differences(source, destination) == [
        f"CPUID leaf {leaf:#x}.{index} {register}: the source has {name} (bit {bit}), "
        "this host has not"
    ]


def test_every_named_feature_is_tried() -> None:
    """The base has each of them, or removing it would prove nothing."""
    cpuid = _cpuid.Cpuid(base_cpuid())
    assert len(COMPARED_BITS) > 200
    for word, bit, name in COMPARED_BITS:
        assert cpuid.get(*word) >> bit & 1, name


@pytest.mark.parametrize(("word", "bit"), MASKED_BITS)
def test_masked_bits_may_differ(word: tuple[int, int, str], bit: int) -> None:
    destination = machine()
    clear(destination, word, bit)
    assert kvm_differences(machine(), destination) == []


def test_volatile_leaves_may_differ() -> None:
    source = machine()
    for item in source["cpuid"]:
        if item["function"] == 0x1:
            item["ebx"] = 0x07000800
        if (item["function"], item["index"]) == (0xD, 0):
            item["ebx"] = 0x240
    source["cpuid"] += [entry(0xB, 0, edx=7), entry(0x1F, 0, edx=7), entry(0x4, 3, eax=0x4C163)]
    assert kvm_differences(source, machine()) == []


def test_kvm_features_are_named() -> None:
    destination = machine()
    clear(destination, (0x40000001, 0, "eax"), 5)
    assert kvm_differences(machine(), destination) == [
        "CPUID leaf 0x40000001.0 eax: the source has KVM's steal_time (bit 5), this host has not"
    ]
    assert KVM_FEATURES[5] == "steal_time"


def test_kvm_features_behind_hyperv_leaves() -> None:
    source = machine()
    for item in source["cpuid"]:
        if item["function"] in (0x40000000, 0x40000001):
            item["function"] += 0x100
    source["cpuid"].append(entry(0x40000000, ebx=0x7263694D, ecx=0x666F736F, edx=0x76482074))
    assert kvm_differences(source, machine()) == []
    destination = machine()
    clear(destination, (0x40000001, 0, "eax"), 0)
    assert "clocksource (bit 0)" in kvm_differences(source, destination)[0]


@pytest.mark.parametrize("bit", [2, 5, 6, 7])
def test_xsave_components_are_named(bit: int) -> None:
    destination = machine()
    clear(destination, (0xD, 0, "eax"), bit)
    assert kvm_differences(machine(), destination) == [
        f"XSAVE component {XSAVE_COMPONENTS[bit]} (bit {bit}): the source has it, this host has not"
    ]


def test_xsave_component_elsewhere() -> None:
    source = machine()
    source["cpuid"][12]["ebx"] = 0x700
    assert kvm_differences(source, machine()) == [
        "XSAVE component AVX-512-upper-registers (bit 7): at the source it has 1024 bytes at 1792, "
        "on this host 1024 bytes at 1664"
    ]


def test_xsave_area_too_small() -> None:
    destination = machine(xsave={"size": 2048, "xcr0": 0xE7})
    assert kvm_differences(machine(), destination) == [
        "XSAVE area: the guest's components need 2688 bytes, this host's KVM has 2048"
    ]


@given(st.sampled_from(CAPS))
def test_every_removed_capability_is_named(name: str) -> None:
    destination = machine(caps={other: 1 for other in CAPS if other != name})
    destination["cpuid"] = destination["host_cpuid"] = base_cpuid()
    found = kvm_differences(machine(), destination)
    sentence = f"capability {name}: the source's kernel has it, this one has not"
    assert found == ([] if name in REPLACEABLE_CAPABILITIES else [sentence])


def test_capability_of_a_device_the_machine_lacks() -> None:
    source = machine(irqchip="none", pit=False)
    destination = machine(irqchip="none", pit=False, caps=dict.fromkeys(CAPS, 1))
    del destination["caps"]["KVM_CAP_PIT2"]
    assert kvm_differences(source, destination) == []


def test_deadline_timer_is_offered_by_its_capability() -> None:
    destination = machine()
    clear(destination, (0x1, 0, "ecx"), 24)
    assert kvm_differences(machine(), destination) == []
    del destination["caps"]["KVM_CAP_TSC_DEADLINE_TIMER"]
    assert any("tsc_deadline_timer" in found for found in kvm_differences(machine(), destination))


def test_a_bit_that_the_destination_machine_has_been_given_is_offered() -> None:
    destination = machine()
    for item in destination["host_cpuid"]:
        item["ecx"] = 0 if item["function"] == 0x1 else item["ecx"]
    assert kvm_differences(machine(), destination) == []


@given(st.sampled_from(machine()["msrs"]))
def test_every_removed_msr_is_named(index: int) -> None:
    destination = machine(msrs=[other for other in machine()["msrs"] if other != index])
    name = f" ({MSRS[index]})" if index in MSRS else ""
    assert kvm_differences(machine(), destination) == [
        f"MSR {index:#x}{name}: the source has it, this host has not"
    ]


@pytest.mark.parametrize(
    ("member", "value", "sentence"),
    [
        ("n_vcpus", 1, "vCPUs: 2 at the source, 1 at the destination"),
        ("irqchip", "split", "in-kernel irqchip: full at the source, split at the destination"),
        ("pit", False, "in-kernel PIT: the source has one, the destination has not"),
        ("arch", "aarch64", "architecture: x86_64 at the source, aarch64 here"),
    ],
)
def test_machine_differences(member: str, value: object, sentence: str) -> None:
    assert kvm_differences(machine(), machine(**{member: value})) == [sentence]


def test_a_host_without_a_machine_has_no_vcpus_to_compare() -> None:
    assert kvm_differences(machine(), machine(n_vcpus=0, irqchip="none", pit=False)) == []


def test_vendor() -> None:
    destination = machine()
    amd = entry(0x0, eax=0xD, ebx=0x68747541, ecx=0x444D4163, edx=0x69746E65)
    destination["cpuid"][0] = destination["host_cpuid"][0] = amd
    assert kvm_differences(machine(), destination) == [
        "CPU vendor: the source has GenuineIntel, this host AuthenticAMD"
    ]


def test_address_width() -> None:
    destination = machine()
    for name in ("cpuid", "host_cpuid"):
        destination[name][17]["eax"] = 0x302E
    assert kvm_differences(machine(), destination) == [
        "CPUID leaf 0x80000008.0 eax: physical address bits: 48 at the source, 46 here",
        "CPUID leaf 0x80000008.0 eax: linear address bits: 57 at the source, 48 here",
    ]


@pytest.mark.parametrize(
    ("ours", "scaling", "fits"),
    [
        (2_300_000, False, True),
        (2_300_500, False, True),
        (2_301_000, False, False),
        (2_299_000, False, False),
        (1_000_000, True, True),
        (0, False, True),
    ],
)
def test_tsc_frequency(ours: int, scaling: bool, fits: bool) -> None:
    found = kvm_differences(machine(), machine(tsc_khz=ours, tsc_scaling=scaling))
    assert (found == []) == fits
    assert fits or ("2300000 kHz" in found[0] and f"{ours} kHz" in found[0])


def test_one_side_without_kvm() -> None:
    assert kvm_differences(machine(), None) == [
        "the source is a KVM machine, the destination is not"
    ]
    assert kvm_differences(None, machine()) == [
        "the source is not a KVM machine, the destination is one"
    ]


@pytest.mark.parametrize(
    ("key", "value"), [("name", "other"), ("gpa", 4096), ("size_bytes", 1 << 21)]
)
def test_memory_region(key: str, value: object) -> None:
    destination = memory()
    destination[0][key] = value
    assert memory_differences(memory(), destination) == [
        f"memory map: region 0: {key} is {memory()[0][key]!r} at the source, "
        f"{value!r} at the destination"
    ]


def test_memory_regions_missing() -> None:
    assert memory_differences(memory(), memory()[:1]) == [
        "memory map: the source has 2 regions, the destination 1"
    ]
    assert memory_differences(None, memory()) == ["memory map: the source's description has none"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.sampled_from([*machine(), "extra"]), json_values)
def test_whatever_a_peer_describes_is_answered(member: str, value: Any) -> None:
    """Never an exception; a member of the wrong type never passes."""
    found = kvm_differences(machine(**{member: value}), machine())
    assert all(isinstance(sentence, str) for sentence in found)
    if member != "extra" and type(value) is not type(machine()[member]):
        assert "malformed" in found[0]


@given(json_values)
def test_whatever_memory_a_peer_describes_is_answered(value: Any) -> None:
    assert value == memory() or memory_differences(value, memory())


@pytest.mark.parametrize("module", [compatibility, _cpuid, _cpu_features])
def test_no_native_code(module: Any) -> None:
    imported = {
        node.module
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    ours = {name for name in imported if name.startswith("pymigrate")}
    assert ours <= {"pymigrate._cpu_features", "pymigrate._cpuid"}

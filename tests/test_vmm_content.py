# SPDX-License-Identifier: Apache-2.0
"""What RAM of the reference VMM holds, and that the oracle knows it."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from fault_pair import migrate_well, options, small

from pymigrate._engine import PAGE_BYTES
from pymigrate.vmm import Backend, Content, Vm

MIB = 1 << 20
CORPUS_DIGEST = 0xFF8  # csrc/vmm/layout.h
PATTERNED = [content for content in Content if content is not Content.UNTOUCHED]

# How many times smaller deflate makes blocks of 256 KiB: as real memory of
# that kind, whatever programs this system has.
RATIOS = {
    Content.RANDOM: (0.99, 1.01),
    Content.TEXT: (2.5, 5),
    Content.EXECUTABLE: (1.3, 5),
    Content.POINTERS: (2, 8),
}


def machine(content: Content, **changes: object) -> Vm:
    config = small(backend=Backend.THREADS, content=content, dirty_rate_pages_per_s=None)
    return Vm(config if not changes else small(**{**config.__dict__, **changes}), populate=True)


def content_of(vm: Vm) -> bytes:
    """The second half of RAM, which nobody writes."""
    return bytes(vm.ram()[vm.config.memory_bytes // 2 :])


@pytest.mark.parametrize("content", list(Content))
def test_oracle_knows_it(content: Content) -> None:
    with machine(content) as vm:
        vm.resume()
        vm.wait_device_reads(2, timeout_ms=60000)
        vm.pause()
        result = vm.oracle(content=True)
        assert result.ok, result.message
        assert result.content_checked > 3000
        vm.ram()[vm.config.memory_bytes - 1] ^= 1
        assert "has changed" in vm.oracle(content=True).message


@pytest.mark.parametrize("content", PATTERNED)
def test_follows_from_the_seed(content: Content) -> None:
    with machine(content) as one, machine(content) as same, machine(content, seed=2) as other:
        assert content_of(one) == content_of(same)
        assert (content_of(one) != content_of(other)) == (content is not Content.ZERO)


@pytest.mark.parametrize("content", RATIOS)
def test_compresses_like_the_real_thing(content: Content) -> None:
    with machine(content) as vm:
        data = content_of(vm)
    block = 64 * PAGE_BYTES
    packed = sum(len(zlib.compress(data[at : at + block], 1)) for at in range(0, len(data), block))
    least, most = RATIOS[content]
    assert least < len(data) / packed < most


@pytest.mark.parametrize("content", [Content.TEXT, Content.EXECUTABLE, Content.POINTERS])
def test_few_pages_are_the_same(content: Content) -> None:
    with machine(content, memory_bytes=64 * MIB) as vm:
        data = content_of(vm)
    pages = [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]
    assert len(set(pages)) > 0.9 * len(pages)


@pytest.mark.parametrize("content", [Content.TEXT, Content.EXECUTABLE, Content.POINTERS])
@pytest.mark.uffd
def test_migrates(content: Content, tmp_path: Path) -> None:
    with machine(content, dirty_rate_pages_per_s=20_000) as vm:
        vm.resume()
        migrate_well(vm, f"unix:{tmp_path}/control", options())


def test_programs_of_another_host() -> None:
    """The oracle does not call content damaged that it cannot make again."""
    with machine(Content.EXECUTABLE) as vm:
        assert vm.oracle(content=True).ok
        vm.ram()[CORPUS_DIGEST] ^= 0x10
        result = vm.oracle()
        assert not result.ok
        assert "differ from those on this host" in result.message

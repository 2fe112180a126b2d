# SPDX-License-Identifier: Apache-2.0
"""A snapshot of the reference guest, restored lazily, and judged by its oracle.

The guest writes to its working set all the while, keeps time and uses its
device; the oracle then checks every page of memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_child import context
from uffd_guest import guest
from uffd_kit import LIMIT_S, PAGE_BYTES, ZERO, Commands

from pymigrate.vmm import Backend, Backing, Content, Guest, Vm, VmConfig

pytestmark = [pytest.mark.uffd, pytest.mark.kvm]

MIB = 1 << 20
BEATS = 10


class Snapshot:
    """Of a guest that has run; memory in a file with holes, as a VMM writes it."""

    def __init__(self, path: Path, config: VmConfig) -> None:
        with Vm(config, populate=True) as vm:
            vm.resume()
            vm.wait_device_reads(BEATS, 60_000)
            vm.pause()
            self.state = vm.save_state()
            ram = vm.ram()
            with path.open("wb") as file:
                file.truncate(len(ram))
                for at in range(0, len(ram), PAGE_BYTES):
                    if (page := bytes(ram[at : at + PAGE_BYTES])) != ZERO:
                        file.seek(at)
                        file.write(page)
            ram.release()


@pytest.mark.parametrize("remote", [False, True], ids=["file", "server"])
@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed"])
def test_a_snapshot_is_restored_lazily(tmp_path: Path, remote: bool, killed: bool) -> None:
    config = VmConfig(
        memory_bytes=32 * MIB,
        vcpus=2,
        backend=Backend.KVM,
        backing=Backing.ANONYMOUS,
        guest=Guest.RANDOM,
        working_set_bytes=8 * MIB,
        dirty_rate_pages_per_s=20_000,
        content=Content.MIXED,
    )
    snapshot = Snapshot(tmp_path / "guest.mem", config)
    found = Commands(tmp_path, tmp_path / "guest.mem", remote)
    here, there = context.Pipe()
    try:
        handler = found.handler("--fill", "none" if killed else "all")
        arguments = (there, config, snapshot.state, found.socket, BEATS)
        vmm = context.Process(target=guest, args=arguments, daemon=True)
        vmm.start()
        assert here.poll(LIMIT_S) and here.recv() == "running"
        if killed:
            handler.kill()
            handler = found.handler()
        assert here.poll(LIMIT_S) and here.recv() == "alive"
        assert handler.wait() == 0
        assert found.report()["took_over"] is killed
        here.send("enough")
        assert here.poll(LIMIT_S)
        assert here.recv() == (True, "")
        vmm.join(LIMIT_S)
        assert vmm.exitcode == 0
    finally:
        found.close()
        if vmm.is_alive():
            vmm.kill()
        here.close()

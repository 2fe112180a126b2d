# SPDX-License-Identifier: Apache-2.0
"""One QEMU: its command line, its control connection, its memory, its end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from bench.peers.processes import ProcessMemory, before_exec, cpu_s, find_mapping
from bench.peers.qmp import Qmp
from bench.task import MIB, Task

_START_TIMEOUT_S = 30.0

# Like for like with --backing of the reference VMM. There is no "anonymous":
# QEMU always asks for transparent huge pages where memory is anonymous.
_BACKENDS = {
    "thp": "memory-backend-ram",
    "memfd": "memory-backend-memfd,share=on",
    "hugetlbfs": "memory-backend-memfd,share=on,hugetlb=on,hugetlbsize=2M",
}


def find_qemu() -> str:
    """The program, or a sentence that says how to get it."""
    path = shutil.which("qemu-system-x86_64")
    if path is None:
        raise RuntimeError("qemu-system-x86_64 is missing: install qemu-system-x86")
    return path


def qemu_version() -> str:
    """As it says itself."""
    done = subprocess.run([find_qemu(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].removeprefix("QEMU emulator version ")


def command_line(image: Path, task: Task, qmp_fd: int) -> list[str]:
    """A PC with the boot guest as its firmware, and nothing that it does not need."""
    size = f"{task.memory_bytes // MIB}M"
    return [
        find_qemu(),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "pc,accel=kvm,memory-backend=ram", "-cpu", "qemu64,-sse3", "-smp", "1"),
        *("-m", size, "-object", f"{_BACKENDS[task.backing]},id=ram,size={size}"),
        # A tick that the host was too busy for is lost, as in the reference VMM.
        *("-global", "kvm-pit.lost_tick_policy=discard"),
        *("-bios", str(image)),
        *("-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"),
    ]


class QemuProcess:
    """A QEMU that does not run its guest yet.

    It is killed when this is closed or when this process dies.

    :ivar setup_s: from starting it until it answered.
    """

    def __init__(
        self, image: bytes, task: Task, *, incoming: bool = False, netns_fd: int = -1
    ) -> None:
        begin = time.monotonic()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._firmware = tempfile.NamedTemporaryFile(suffix=".bin")  # noqa: SIM115
        self._firmware.write(image)
        self._firmware.flush()
        here, there = socket.socketpair()
        line = command_line(Path(self._firmware.name), task, there.fileno())
        self._child = subprocess.Popen(
            [*line, *(("-incoming", "defer") if incoming else ("-S",))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=[fd for fd in (there.fileno(), netns_fd) if fd >= 0],
            preexec_fn=before_exec(netns_fd),
        )
        there.close()
        self._memory_bytes = task.memory_bytes
        try:
            self.qmp = Qmp(here, _START_TIMEOUT_S)
        except Exception as error:
            here.close()
            self._end()
            raise RuntimeError(f"QEMU did not start: {self.last_words()}") from error
        self.setup_s = time.monotonic() - begin

    @property
    def pid(self) -> int:
        return self._child.pid

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def memory(self) -> ProcessMemory:
        """Guest memory; below 3 GiB an offset is a guest physical address."""
        return ProcessMemory(self.pid, find_mapping(self.pid, self._memory_bytes))

    def last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        said = [line for line in lines if line.strip() and "warning:" not in line]
        return said[-1] if said else "it said nothing"

    def close(self) -> None:
        """Kill it; idempotent."""
        self.qmp.close()
        self._end()
        self._errors.close()
        self._firmware.close()

    def _end(self) -> None:
        self._child.kill()
        self._child.wait()

    def __enter__(self) -> QemuProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

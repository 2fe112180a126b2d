#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots the lab VM and runs the lab's share of the tests in it.

The lab is Debian's kernel under QEMU's TCG with an emulated AMD CPU that has
SVM, so the real ``kvm-amd`` with nested paging runs in it.  virtme-ng boots it
on this machine's own root file system, read-only: the checkout, its
``.venv`` and the system's libraries are at the same paths inside.  Through
the mount of virtme-ng every open and read is a question to the host, so the
files of Python are mounted once more, to be kept in memory.  What
comes back is a results directory, written to by ``lab_guest.sh``:

    status        one line for each stage: its name, exit status and seconds, in order
    STAGE.log     what the stage printed
    alive         touched every few seconds as long as the VM lives
    junit.xml     pytest's account of what ran inside
    demo-*.json   the reports of the demo, one for each tracker

QEMU's emulation of SVM now and then locks the whole VM up, more often the
busier its host is. A VM whose sign of life stays away is therefore booted
once more; nothing that our own code does wrong looks like that, since the
guest script bounds every stage and goes on touching ``alive``.

Exit status: 0 everything ran and passed; 1 something failed, the VM did
not boot, or it ran out of time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUEST_SCRIPT = ROOT / "scripts" / "lab_guest.sh"
STAGES = ("boot", "units", "pytest", "demo")
LOG_TAIL_LINES = 40
BOOTS = 2
WATCH_INTERVAL_S = 2
# Booting takes 20 s on an idle host, and minutes on a very busy one.
BOOT_S = 240
LOCKED_UP_S = 90
LOCKED_UP = "the VM locked up"
# Tag of the second mount of the root file system.
KEPT = "kept"
# What virtme-ng calls, and the Debian packages that have it.
COMMANDS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "file": "file",
}


@dataclass(frozen=True)
class Lab:
    """What the VM is made from."""

    kernel: Path
    vng: Path
    # One: QEMU's threads race in the emulation of SVM and lock the VM up.
    cpus: int = 1
    memory: str = "3G"
    cpu_model: str = "EPYC,+svm"

    def command(self, results: Path) -> list[str]:
        """The command that boots the VM and runs the guest script in it."""
        share = f"local,path=/,security_model=none,readonly=on,multidevs=remap,mount_tag={KEPT}"
        kept = [ROOT / ".venv", ROOT / "pymigrate", sysconfig.get_path("stdlib")]
        script = [GUEST_SCRIPT, ROOT, results, KEPT, *kept]
        return [
            str(self.vng),
            "--verbose",
            *("--run", str(self.kernel)),
            "--disable-kvm",
            *("--cpus", str(self.cpus)),
            # With one CPU Linux trusts the TSC, which QEMU's is not worth.
            *("--append", "tsc=unstable"),
            *("--memory", self.memory),
            *("--rwdir", str(results)),
            f"--qemu-opts=-cpu {self.cpu_model} -virtfs {share}",
            *("--exec", shlex.join(["sh", *map(str, script)])),
        ]


def find_kernel() -> Path | None:
    """Debian's newest kernel that is installed with its KVM modules."""
    kernels = [
        image
        for image in Path("/boot").glob("vmlinuz-*-amd64")
        if Path("/lib/modules", image.name.removeprefix("vmlinuz-"), "kernel/arch/x86/kvm").is_dir()
    ]
    return max(kernels, key=lambda image: image.stat().st_mtime, default=None)


def find_vng() -> Path | None:
    """virtme-ng's command: that of this environment, else that on PATH."""
    beside = Path(sys.executable).with_name("vng")
    found = str(beside) if beside.exists() else shutil.which("vng")
    return Path(found) if found else None


def missing() -> str | None:
    """What this machine lacks to boot the lab, or None."""
    for command, package in COMMANDS.items():
        if not shutil.which(command):
            return f"{command} (Debian: {package})"
    if find_kernel() is None:
        return "a Debian kernel with its modules (Debian: linux-image-amd64)"
    if find_vng() is None:
        return "vng (pip install virtme-ng)"
    return None


def is_alive(results: Path, started: float) -> bool:
    """Whether the VM gave a sign of life lately, or may still be booting."""
    try:
        return time.time() - (results / "alive").stat().st_mtime < LOCKED_UP_S
    except FileNotFoundError:
        return time.time() - started < BOOT_S


def watch(vm: subprocess.Popen[bytes], results: Path, deadline: float) -> str | None:
    """Wait for the VM's end; the reason when it has to be stopped, or None."""
    started = time.time()
    while vm.poll() is None:
        if time.monotonic() > deadline:
            return "out of time"
        if not is_alive(results, started):
            return LOCKED_UP
        # The guest writes through 9p, of which inotify sees nothing.
        with contextlib.suppress(subprocess.TimeoutExpired):
            vm.wait(WATCH_INTERVAL_S)
    return None


def boot(lab: Lab, results: Path, deadline: float) -> str | None:
    """Run the VM to its end; the reason when it had to be stopped, or None."""
    environment = dict(os.environ)
    environment["PATH"] = f"{lab.vng.parent}:{environment['PATH']}"
    with (results / "console.log").open("wb") as console:
        vm = subprocess.Popen(
            lab.command(results),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            return watch(vm, results, deadline)
        finally:
            # QEMU is a child of vng: without this it outlives both.
            if vm.poll() is None:
                os.killpg(vm.pid, signal.SIGKILL)
                vm.wait()


@dataclass(frozen=True)
class Stage:
    """How a stage ended, and after how long by the VM's clock."""

    exit_status: int
    duration_s: int


def read_status(results: Path) -> dict[str, Stage]:
    """The stages that came to their end."""
    path = results / "status"
    lines = path.read_text().splitlines() if path.exists() else []
    fields = (line.split() for line in lines)
    return {name: Stage(int(code), int(seconds)) for name, code, seconds in fields}


def pytest_ran(results: Path) -> int:
    """How many pytest tests ran, and were not skipped, inside the VM."""
    path = results / "junit.xml"
    if not path.exists():
        return 0
    suites = ElementTree.parse(path).getroot().iter("testsuite")
    return sum(int(s.get("tests", 0)) - int(s.get("skipped", 0)) for s in suites)


def judge(results: Path) -> list[str]:
    """Everything that is wrong with what came back; empty when all is well."""
    status = read_status(results)
    wrong = []
    for stage in STAGES:
        if stage not in status:
            wrong.append(f"{stage}: did not finish")
            break
        if status[stage].exit_status != 0:
            wrong.append(f"{stage}: exit status {status[stage].exit_status}")
    if not wrong and pytest_ran(results) == 0:
        wrong.append("pytest: no test ran")
    return wrong


def tail(path: Path) -> str:
    """The end of a log, for a failure message."""
    if not path.exists():
        return "(nothing)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def report(results: Path, wrong: list[str], duration_s: float) -> None:
    """Tell what happened on standard output."""
    for stage in STAGES:
        failed = any(reason.startswith(f"{stage}:") for reason in wrong)
        log = results / f"{stage}.log"
        if failed:
            print(f"-- {stage}, the end of its log --\n{tail(log)}")
    status = read_status(results)
    if "boot" not in status:
        print(f"-- console --\n{tail(results / 'console.log')}")
    took = ", ".join(f"{name} {stage.duration_s} s" for name, stage in status.items())
    print(f"lab: {pytest_ran(results)} pytest tests ran in the VM, {duration_s:.0f} s in all")
    print(f"lab: of them {took}" if took else "lab: no stage came to its end")
    for reason in wrong:
        print(f"lab: FAILED {reason}")


def run(results: Path, timeout_s: float) -> list[str]:
    """Boot, run, judge and report; what went wrong, empty when nothing did."""
    reason = missing()
    if reason:
        return [f"boot: this machine lacks {reason}"]
    kernel, vng = find_kernel(), find_vng()
    assert kernel is not None and vng is not None
    started = time.monotonic()
    wrong: list[str] = []
    for attempt in range(1, BOOTS + 1):
        here = results / f"boot-{attempt}"
        here.mkdir()
        stopped = boot(Lab(kernel, vng), here, started + timeout_s)
        wrong = [stopped] if stopped else []
        wrong += judge(here)
        report(here, wrong, time.monotonic() - started)
        if stopped != LOCKED_UP:
            break
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the lab's tests in a VM with kvm-amd.")
    parser.add_argument("--results", type=Path, help="directory for logs (default: temporary)")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    arguments = parser.parse_args()
    if arguments.results:
        arguments.results.mkdir(parents=True, exist_ok=True)
        return 1 if run(arguments.results.resolve(), arguments.timeout) else 0
    with tempfile.TemporaryDirectory(prefix="pymigrate-lab-") as results:
        return 1 if run(Path(results), arguments.timeout) else 0


if __name__ == "__main__":
    sys.exit(main())

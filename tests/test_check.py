# SPDX-License-Identifier: Apache-2.0
"""What ``pymigrate check`` finds, and what it says where something is missing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pymigrate import host
from pymigrate.cli import main
from pymigrate.cli.probes import Finding, Group, Status, kvm, memory, network, software
from pymigrate.network import NetworkError


def by_name(group: Group) -> dict[str, Finding]:
    return {finding.name: finding for finding in group.findings}


def refuse(code: int) -> Callable[..., Any]:
    """A function that fails as a system call would."""

    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


# ---- the command ------------------------------------------------------------


@pytest.mark.kvm
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "pymigrate.check/1" and report["possible"] is True
    assert report["host"]["kvm"] and report["host"]["kernel"] == os.uname().release
    findings = [finding for group in report["groups"] for finding in group["findings"]]
    assert {finding["status"] for finding in findings} <= {"ok", "limited", "missing"}
    names = {finding["name"] for finding in findings}
    assert {"/dev/kvm", "dirty log", "userfaultfd", "kvm-log", "marked", "shaped link"} <= names


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "can be migrated here" in out
    assert max(map(len, out.splitlines())) <= 80


def test_everything_missing_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Finding("libpymigrate", Status.MISSING, "cannot be loaded", "nothing", "build it")
    monkeypatch.setattr(software, "probe", lambda: (Group("Host", (broken,)), False))
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "No guest can be migrated here." in out and "build it" in out


@pytest.mark.uffd
def test_no_kvm_is_still_a_migration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Finding("/dev/kvm", Status.MISSING, "does not exist", "why", "load kvm_amd")
    monkeypatch.setattr(kvm, "probe", lambda: (Group("KVM", (absent,)), False))
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "load kvm_amd" in out and "written by threads can be migrated" in out
    assert "uffd-wp" in out and "kvm-log" not in out


# ---- KVM --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.EACCES, "usermod -aG kvm"),
        (errno.ENOENT, "load kvm_intel or kvm_amd"),
        (errno.ENODEV, "firmware"),
        (errno.EPERM, "usermod -aG kvm"),
    ],
)
def test_a_device_that_does_not_open(code: int, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", refuse(code))
    group, usable = kvm.probe()
    assert not usable and len(group.findings) == 1
    assert group.findings[0].status is Status.MISSING and fix in group.findings[0].fix


def without(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Hide capabilities from KVM_CHECK_EXTENSION."""
    ask = kvm._check
    monkeypatch.setattr(kvm, "_check", lambda fd, n: 0 if n in numbers else ask(fd, n))


@pytest.mark.kvm
def test_what_a_migration_needs_not(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, 168, 192, 223, 157, 60, 208)
    group, usable = kvm.probe()
    found = by_name(group)
    assert usable
    assert found["dirty log"].status is Status.LIMITED
    assert "Linux 5.2" in found["dirty log"].why
    assert found["dirty ring"].status is Status.LIMITED
    assert found["nested state"].status is Status.LIMITED


@pytest.mark.kvm
def test_what_a_migration_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, 136)
    group, usable = kvm.probe()
    assert not usable
    finding = by_name(group)["immediate exit"]
    assert finding.status is Status.MISSING and "Linux 4.13" in finding.fix


@pytest.mark.kvm
def test_a_machine_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    call = fcntl.ioctl

    def busy(fd: int, request: int, *rest: Any) -> Any:
        return refuse(errno.EBUSY)() if request == kvm._KVM_CREATE_VM else call(fd, request, *rest)

    monkeypatch.setattr(fcntl, "ioctl", busy)
    group, usable = kvm.probe()
    assert not usable
    assert by_name(group)["create a VM"].status is Status.MISSING


@pytest.mark.parametrize(
    ("modules", "flags", "backend"),
    [
        (["kvm_intel"], ["vmx"], "kvm_intel"),
        (["kvm_amd", "kvm_intel"], ["svm"], "kvm_amd"),
        (["kvm_amd", "kvm_intel"], ["vmx"], "kvm_intel"),
        (["kvm_pvm"], [], "kvm_pvm"),
        ([], ["vmx"], "kvm"),
    ],
)
@pytest.mark.kvm
def test_backends(
    modules: list[str],
    flags: list[str],
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in modules:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset(flags))
    assert host.kvm_backend(tmp_path) == backend


# ---- memory -----------------------------------------------------------------


def test_userfaultfd_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_by_system_call", lambda: -errno.EPERM)
    monkeypatch.setattr(os, "open", refuse(errno.EACCES))
    fd, finding = memory._userfaultfd()
    assert fd == -1 and finding.status is Status.MISSING
    assert "vm.unprivileged_userfaultfd" in finding.fix


@pytest.mark.uffd
def test_features_of_an_older_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 6.1: write protection of all memory, not asynchronous."""
    monkeypatch.setattr(memory, "_features", lambda _fd: (1 << 13) - 1)
    found = by_name(memory.probe())
    assert found["write protection"].status is Status.OK
    assert found["asynchronous protection"].status is Status.LIMITED
    assert "wp-async (6.7)" in found["features"].why


@pytest.mark.parametrize(("features", "status"), [(0, "missing"), (1, "limited"), (0x1001, "ok")])
def test_write_protection(features: int, status: str) -> None:
    assert memory._wp(features).status.value == status


@pytest.mark.parametrize(
    ("answer", "detail"),
    [(refuse(errno.ENOTTY), "absent"), (lambda *_: 0, "does not report a written page")],
)
def test_pagemap_scan_that_does_not_work(
    answer: Any, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_scan_page", answer)
    finding = memory._pagemap_scan()
    assert finding.status is Status.LIMITED and finding.detail == detail


def test_pagemap_scan_argument_is_that_of_the_kernel() -> None:
    """struct pm_scan_arg has 12 members of 8 bytes; the number encodes its size."""
    assert memory._PM_SCAN_ARG.size == struct.calcsize("12Q") == memory._PAGEMAP_SCAN >> 16 & 0x3FFF


def test_huge_pages_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmap.mmap", refuse(errno.ENOMEM))
    finding = memory._huge_pages()
    assert finding.status is Status.LIMITED and "vm.nr_hugepages" in finding.fix


# ---- network and libraries --------------------------------------------------


def test_a_link_without_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_rate: int) -> Any:
        raise NetworkError("a shaped link takes root: run it as root")

    monkeypatch.setattr(network, "shaped_link", refused)
    finding = by_name(network.probe())["shaped link"]
    assert finding.status is Status.LIMITED
    assert (finding.detail, finding.fix) == ("a shaped link takes root", "run it as root")


def test_a_library_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError("no module named pymigrate._native")

    monkeypatch.setattr(software, "_library", missing)
    group, works = software.probe()
    assert not works
    assert by_name(group)["libpymigrate"].status is Status.MISSING


def test_a_package_that_is_not_installed() -> None:
    finding = software._package("surely-not-installed")
    assert finding.status is Status.MISSING and finding.fix == "pip install surely-not-installed"

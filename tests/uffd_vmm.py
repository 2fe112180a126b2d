# SPDX-License-Identifier: Apache-2.0
"""A VMM that restores lazily, as a process of its own.

It does what Firecracker does with a snapshot whose memory is to be handled by
another process: maps anonymous memory, of huge pages where it is told to,
registers it with a userfaultfd that reports removals, hands that over, and
runs a guest in it under KVM. It knows nothing of pymigrate: what it has are
system calls.

The guest is a few instructions in memory of its own, in 32-bit mode without
paging: it walks a list of addresses, adds up words of each page and, if told
so, counts in the page's last word. Commands come as JSON lines on standard
input, answers go to standard output, in order; those of a busy vCPU come when
it is done.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import mmap
import os
import platform
import socket
import struct
import sys
import threading
import zlib
from typing import Any

PAGE_BYTES = 4096
HUGE_BYTES = 2 << 20
MADV_DONTNEED = 4
MADV_DONTDUMP = 16
MAP_HUGETLB = 0x40000
MAP_NORESERVE = 0x4000

# userfaultfd(2)
SYS_USERFAULTFD = 323 if platform.machine() == "x86_64" else 282
UFFDIO_API = 0xC018AA3F
UFFDIO_REGISTER = 0xC020AA00
UFFD_API = 0xAA
UFFD_FEATURE_EVENT_REMOVE = 1 << 3
UFFDIO_REGISTER_MODE_MISSING = 1

# <linux/kvm.h>
KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_CREATE_VCPU = 0xAE41
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
KVM_EXIT_HLT = 5
EXIT_REASON = 8
SEGMENT = struct.Struct("<QIHBBBBBBBBBB")
SREGS_BYTES = 312
CR0_AT = 224

REGION_STRIDE = 256 << 20
CODE_GPA = 0xE0000000
CODE_BYTES = 1 << 20
LIST_AT = 0x10000
LIST_BYTES = 0x38000
ENTRY = struct.Struct("<II")
SUM_STRIDE = 256
COUNT_AT = 4092

# esi: list of (address, sum), ecx: entries, edx: 1 to count, 0 to look only
CODE = bytes.fromhex(
    "e322"  #           again: jecxz done
    "8b1e"  #                  mov (%esi), %ebx
    "31c0"  #                  xor %eax, %eax
    "bf10000000"  #            mov $16, %edi
    "0303"  #           next:  add (%ebx), %eax
    "d1c0"  #                  rol %eax
    "81c300010000"  #          add $256, %ebx
    "4f"  #                    dec %edi
    "75f3"  #                  jnz next
    "894604"  #                mov %eax, 4(%esi)
    "0153fc"  #                add %edx, -4(%ebx)
    "83c608"  #                add $8, %esi
    "49"  #                    dec %ecx
    "ebdc"  #                  jmp again
    "f4"  #             done:  hlt
)

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
]  # fmt: skip
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def fail(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


class Region:
    """Guest memory as Firecracker maps it: private and anonymous."""

    def __init__(self, number: int, pages: int, huge: bool, offset: int) -> None:
        self.gpa, self.offset = number * REGION_STRIDE, offset
        self.size_bytes = pages * PAGE_BYTES
        self.page_bytes = HUGE_BYTES if huge else PAGE_BYTES
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        flags |= MAP_HUGETLB if huge else MAP_NORESERVE
        prot = mmap.PROT_READ | mmap.PROT_WRITE
        found = libc.mmap(None, self.size_bytes, prot, flags, -1, 0)
        if found == ctypes.c_void_p(-1).value:
            raise fail("mmap")
        self.base = found

    def mapping(self) -> dict[str, int]:
        return {
            "base_host_virt_addr": self.base,
            "size": self.size_bytes,
            "offset": self.offset,
            "page_size": self.page_bytes,
            "page_size_kib": self.page_bytes,
        }

    def advise(self, page: int, n_pages: int, advice: int) -> None:
        if libc.madvise(self.base + page * PAGE_BYTES, n_pages * PAGE_BYTES, advice):
            raise fail("madvise")

    def page(self, number: int) -> bytes:
        return ctypes.string_at(self.base + number * PAGE_BYTES, PAGE_BYTES)


class Vcpu:
    """Walks lists of pages; one at a time."""

    def __init__(self, vm: int, number: int, code: mmap.mmap) -> None:
        self._code, self._list_at = code, LIST_AT + number * LIST_BYTES
        self._fd = fcntl.ioctl(vm, KVM_CREATE_VCPU, number)
        with open("/dev/kvm", "rb", buffering=0) as kvm:
            run_bytes = fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)
        self._run = mmap.mmap(self._fd, run_bytes)
        self._set_flat_mode()

    def _set_flat_mode(self) -> None:
        sregs = bytearray(SREGS_BYTES)
        fcntl.ioctl(self._fd, KVM_GET_SREGS, sregs)
        for index in range(6):
            kind, selector = (11, 8) if index == 0 else (3, 16)
            flat = (0, 0xFFFFFFFF, selector, kind, 1, 0, 1, 1, 0, 1, 0, 0, 0)
            SEGMENT.pack_into(sregs, index * SEGMENT.size, *flat)
        cr0 = struct.unpack_from("<Q", sregs, CR0_AT)[0]
        struct.pack_into("<Q", sregs, CR0_AT, cr0 | 1)
        fcntl.ioctl(self._fd, KVM_SET_SREGS, bytes(sregs))

    def walk(self, addresses: list[int], count: int) -> list[int]:
        """The sums of the pages at these guest addresses."""
        sums = []
        per_run = LIST_BYTES // ENTRY.size
        for at in range(0, len(addresses), per_run):
            sums += self._walk(addresses[at : at + per_run], count)
        return sums

    def _walk(self, addresses: list[int], count: int) -> list[int]:
        for index, address in enumerate(addresses):
            ENTRY.pack_into(self._code, self._list_at + index * ENTRY.size, address, 0)
        # rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15, rip, rflags
        regs = [0] * 18
        regs[2], regs[3], regs[4] = len(addresses), count, CODE_GPA + self._list_at
        regs[16], regs[17] = CODE_GPA, 2
        fcntl.ioctl(self._fd, KVM_SET_REGS, struct.pack("<18Q", *regs))
        fcntl.ioctl(self._fd, KVM_RUN, 0)
        reason = struct.unpack_from("<I", self._run, EXIT_REASON)[0]
        if reason != KVM_EXIT_HLT:
            raise RuntimeError(f"the guest stopped for reason {reason}")
        return [
            ENTRY.unpack_from(self._code, self._list_at + index * ENTRY.size)[1]
            for index in range(len(addresses))
        ]


class Vmm:
    """All of it.

    :param regions: number of pages, whether of 2 MiB, and offset in the file.
    """

    def __init__(self, regions: list[tuple[int, bool, int]], vcpus: int) -> None:
        self.regions = [Region(n, *region) for n, region in enumerate(regions)]
        self.uffd = self._register()
        self._vm = self._create_vm()
        self.vcpus = [Vcpu(self._vm, number, self._code) for number in range(vcpus)]

    def _register(self) -> int:
        uffd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
        if uffd < 0:
            raise fail("userfaultfd")
        request = struct.pack("<QQQ", UFFD_API, UFFD_FEATURE_EVENT_REMOVE, 0)
        fcntl.ioctl(uffd, UFFDIO_API, request)
        for region in self.regions:
            mode = UFFDIO_REGISTER_MODE_MISSING
            request = struct.pack("<QQQQ", region.base, region.size_bytes, mode, 0)
            fcntl.ioctl(uffd, UFFDIO_REGISTER, request)
        return int(uffd)

    def _create_vm(self) -> int:
        with open("/dev/kvm", "rb", buffering=0) as kvm:
            vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        self._code = mmap.mmap(-1, CODE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._code[: len(CODE)] = CODE
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        slots = [(region.gpa, region.size_bytes, region.base) for region in self.regions]
        for slot, (gpa, size, hva) in enumerate([*slots, (CODE_GPA, CODE_BYTES, address)]):
            request = struct.pack("<IIQQQ", slot, 0, gpa, size, hva)
            fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, request)
        return vm

    # ---- commands ------------------------------------------------------

    def connect(self, path: str, text: str | None = None, fds: list[str] | None = None) -> bool:
        """Hand the page faults over, as Firecracker does, or with other words.

        :param fds: "uffd", or "null" for a descriptor that is none.
        """
        words = text if text is not None else json.dumps([r.mapping() for r in self.regions])
        wanted = ["uffd"] if fds is None else fds
        numbers = [os.open("/dev/null", 0) if n == "null" else self.uffd for n in wanted]
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(path)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))]
            sock.sendmsg([words.encode()], rights if numbers else [])
        return True

    def connect_by_another(self, path: str) -> bool:
        """The same, by a process that ends when it has done so."""
        pid = os.fork()
        if pid == 0:
            try:
                self.connect(path)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return True

    def mappings(self) -> list[dict[str, int]]:
        return [region.mapping() for region in self.regions]

    def walk(self, vcpu: int, pages: list[tuple[int, int]], count: bool = False) -> list[int]:
        """Sums of pages, each given by region and number."""
        addresses = [self.regions[r].gpa + p * PAGE_BYTES for r, p in pages]
        return self.vcpus[vcpu].walk(addresses, int(count))

    def remove(self, region: int, page: int, n_pages: int) -> bool:
        """As a balloon does that inflates."""
        self.regions[region].advise(page, n_pages, MADV_DONTNEED)
        return True

    def split(self, region: int, page: int, n_pages: int) -> bool:
        """Make a mapping of its own of a part, as mprotect() would."""
        self.regions[region].advise(page, n_pages, MADV_DONTDUMP)
        return True

    def checksums(self, region: int) -> list[int]:
        """CRC-32 of every page, read by the VMM itself."""
        found = self.regions[region]
        return [zlib.crc32(found.page(n)) for n in range(found.size_bytes // PAGE_BYTES)]

    def close_uffd(self) -> bool:
        os.close(self.uffd)
        return True


def main() -> None:
    lock = threading.Lock()
    vmm: Vmm | None = None

    def answer(number: int, value: Any, error: str | None = None) -> None:
        with lock:
            sys.stdout.write(json.dumps({"n": number, "value": value, "error": error}) + "\n")
            sys.stdout.flush()

    def call(number: int, name: str, arguments: list[Any]) -> None:
        try:
            answer(number, getattr(vmm, name)(*arguments))
        except Exception as error:
            answer(number, None, f"{type(error).__name__}: {error}")

    for line in sys.stdin:
        number, name, *arguments = json.loads(line)
        if name == "new":
            try:
                vmm = Vmm(*arguments)
                answer(number, True)
            except OSError as error:
                answer(number, None, str(error))
            continue
        threading.Thread(target=call, args=(number, name, arguments), daemon=True).start()


if __name__ == "__main__":
    main()

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.h - a small real machine for tests of KVM state
 *
 * One MiB of memory at 0, vCPUs in real mode, and what flags ask for of the
 * in-kernel interrupt controllers and timer. Guest programs are a few bytes
 * of 16-bit code that talk to the test through port accesses.
 */
#ifndef TESTS_C_VCPU_H
#define TESTS_C_VCPU_H

#include <linux/kvm.h>

#include "pymigrate.h"

#define TEST_VM_VCPUS	     4
#define TEST_VM_MEMORY_BYTES (1 << 20)
#define TEST_VM_CODE	     0x8000

struct test_vm {
	struct pmig_kvm kvm;
	int32_t vcpu_fds[TEST_VM_VCPUS];
	struct kvm_run *runs[TEST_VM_VCPUS];
	uint8_t *memory;
	size_t run_bytes;
};

/*
 * Make a machine; flags as of struct pmig_kvm. Skips the running test where
 * there is no /dev/kvm. The vCPUs have the host's CPUID.
 */
struct test_vm *test_vm_new(uint32_t n_vcpus, uint32_t flags);
void test_vm_free(struct test_vm *vm);

/* Does a machine on this host have that capability? Skips without KVM. */
bool test_host_has(int capability);

/* Can a vCPU's MSR be set to that value? */
bool test_host_takes_msr(uint32_t index, uint64_t value);

/*
 * A guest program, 16-bit code in the notation of the GNU assembler:
 * name[] up to name_end[].
 */
#define GUEST_PROGRAM(name, text)                                              \
	__asm__(".pushsection .rodata\n.code16\n" #name ":\n" text "\n" #name  \
		"_end:\n.code64\n.popsection");                                \
	extern const uint8_t name[], name##_end[]

/*
 * Put code at TEST_VM_CODE and vCPU 0 before its first byte, interrupts on.
 * Every interrupt and exception writes its vector to TEST_VM_VECTOR_PORT and
 * returns.
 */
#define TEST_VM_VECTOR_PORT 0x99
void test_vm_program(struct test_vm *vm, const uint8_t *code,
		     const uint8_t *code_end);

/*
 * Enter vCPU 0 until it leaves for something other than a signal; fails the
 * running test when that takes more than 20 seconds.
 */
uint32_t test_vm_run(struct test_vm *vm);

/* Run to a port access and return what was written, or the port read. */
uint32_t test_vm_expect_out(struct test_vm *vm, uint16_t port);
void *test_vm_expect_in(struct test_vm *vm, uint16_t port);

/* An ioctl that has to work. */
int test_vcpu_call(const struct test_vm *vm, uint32_t vcpu,
		   unsigned long request, void *arg);
int test_vm_call(const struct test_vm *vm, unsigned long request, void *arg);

uint64_t test_vcpu_msr(const struct test_vm *vm, uint32_t vcpu, uint32_t index);
/* False where the vCPU does not have it. */
bool test_vcpu_set_msr(const struct test_vm *vm, uint32_t vcpu, uint32_t index,
		       uint64_t value);

/* Registers of the local APIC (Intel SDM 3A, table 11-1). */
enum {
	TEST_LAPIC_SPURIOUS = 0xf0,
	TEST_LAPIC_ISR = 0x100,
	TEST_LAPIC_IRR = 0x200,
	TEST_LAPIC_LVT_TIMER = 0x320,
	TEST_LAPIC_LVT_LINT0 = 0x350,
	TEST_LAPIC_LVT_ERROR = 0x370,
	TEST_LAPIC_TIMER_COUNT = 0x380,
	TEST_LAPIC_TIMER_CURRENT = 0x390,
	TEST_LAPIC_TIMER_DIVIDE = 0x3e0,
};

uint32_t test_lapic_read(const struct test_vm *vm, uint32_t vcpu,
			 uint32_t offset);
void test_lapic_write(const struct test_vm *vm, uint32_t vcpu, uint32_t offset,
		      uint32_t value);

#endif

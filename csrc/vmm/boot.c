/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.c - start a vCPU in 64-bit mode, in the middle of its program
 *
 * No firmware and no mode switches: page tables, GDT and IDT are written to
 * guest memory and the registers are set. Accessed and dirty bits are set in
 * advance wherever the processor would set them, so it never writes to page
 * tables or the GDT and they stay clean pages.
 */
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/error.h"
#include "vmm/guest_image.h"
#include "vmm/mailbox.h"
#include "vmm/vm.h"

#define CODE_SELECTOR 0x08
#define DATA_SELECTOR 0x10
#define TASK_SELECTOR 0x18

/* Present, accessed; 64-bit code, data, busy TSS without an I/O map. */
#define GDT_CODE 0x00af9b000000ffffull
#define GDT_DATA 0x00cf93000000ffffull
#define GDT_TASK 0x00008b0000000067ull

/* present, writable, accessed, dirty; large page */
#define PTE_TABLE    0x63ull
#define PTE_LARGE    0xe3ull

#define CR0_PE	     (1ull << 0)
#define CR0_MP	     (1ull << 1)
#define CR0_ET	     (1ull << 4)
#define CR0_NE	     (1ull << 5)
#define CR0_PG	     (1ull << 31)
#define CR4_PAE	     (1ull << 5)
#define CR4_SSE	     (3ull << 9)		  /* OSFXSR, OSXMMEXCPT */
#define EFER_LONG    ((1ull << 8) | (1ull << 10)) /* LME, LMA */

#define APIC_X2APIC  (1ull << 10)
#define APIC_ENABLE  (1ull << 11)

#define RFLAGS_FIXED 2

static void write_page_tables(const struct pvmm *vm)
{
	uint64_t *pml4 = (uint64_t *)(vm->ram.base + PVMM_PML4);
	uint64_t *pdpt = (uint64_t *)(vm->ram.base + PVMM_PDPT);
	uint64_t *log = (uint64_t *)(vm->ram.base + PVMM_LOG_PD);
	uint64_t *pd = (uint64_t *)(vm->ram.base + PVMM_RAM_PD);
	uint64_t n_large = vm->ram.size_bytes / PVMM_LARGE_BYTES;

	pml4[0] = PVMM_PDPT | PTE_TABLE;
	for (uint64_t i = 0; i < n_large; i++) {
		pd[i] = pvmm_gpa(i * PVMM_LARGE_BYTES) | PTE_LARGE;
		pdpt[i / PVMM_PAGE_WORDS] =
			(PVMM_RAM_PD + i / PVMM_PAGE_WORDS * PVMM_PAGE_BYTES) |
			PTE_TABLE;
	}
	if (vm->track.log) {
		pdpt[PVMM_LOG_VA >> 30] = PVMM_LOG_PD | PTE_TABLE;
		log[0] = PVMM_LOG_GPA | PTE_LARGE;
	}
}

static void write_gate(uint64_t *idt, unsigned int vector, uint64_t address)
{
	const uint64_t interrupt_gate = 0x8eull << 40;

	idt[vector * 2] = (address & 0xffff) | CODE_SELECTOR << 16 |
			  interrupt_gate | (address >> 16 & 0xffff) << 48;
	idt[vector * 2 + 1] = address >> 32;
}

static void write_descriptors(const struct pvmm *vm)
{
	uint64_t *gdt = (uint64_t *)(vm->ram.base + PVMM_GDT);
	uint64_t *idt = (uint64_t *)(vm->ram.base + PVMM_IDT);

	gdt[CODE_SELECTOR / 8] = GDT_CODE;
	gdt[DATA_SELECTOR / 8] = GDT_DATA;
	gdt[TASK_SELECTOR / 8] = GDT_TASK;
	for (unsigned int vector = 0; vector < 32; vector++)
		write_gate(idt, vector, pvmm_image_exception(vector));
	write_gate(idt, PVMM_VECTOR_TICK, pvmm_image_tick());
	write_gate(idt, PVMM_VECTOR_SPURIOUS, pvmm_image_spurious());
}

static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
	};
}

static void set_long_mode(struct kvm_sregs *sregs)
{
	struct kvm_segment data = segment(DATA_SELECTOR, 3);

	data.db = 1;
	sregs->cs = segment(CODE_SELECTOR, 11);
	sregs->cs.l = 1;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = segment(TASK_SELECTOR, 11);
	sregs->tr.limit = 0x67;
	sregs->tr.s = 0;
	sregs->tr.g = 0;
	sregs->gdt.base = PVMM_GDT;
	sregs->gdt.limit = 5 * 8 - 1;
	sregs->idt.base = PVMM_IDT;
	sregs->idt.limit = PVMM_PAGE_BYTES - 1;
	sregs->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG;
	sregs->cr3 = PVMM_PML4;
	sregs->cr4 = CR4_PAE | CR4_SSE;
	sregs->efer = EFER_LONG;
	sregs->apic_base |= APIC_X2APIC | APIC_ENABLE;
}

static int start_vcpu(struct pvmm *vm, uint32_t id, struct pmig_error *err)
{
	uint64_t area = PVMM_VCPU_AREA + id * PVMM_VCPU_STRIDE;
	struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = pvmm_image_start(),
		.rsp = area + PVMM_VCPU_WRITTEN,
		.rdi = area,
		.rsi = area + PVMM_HEARTBEAT,
		.rflags = RFLAGS_FIXED,
	};
	int fd = vm->kvm.vcpu_fds[id];

	if (ioctl(fd, KVM_GET_SREGS, &sregs))
		return pvmm_fail_errno(err, "vCPU %u: KVM_GET_SREGS", id);
	set_long_mode(&sregs);
	if (ioctl(fd, KVM_SET_SREGS, &sregs))
		return pvmm_fail_errno(err, "vCPU %u: KVM_SET_SREGS", id);
	if (ioctl(fd, KVM_SET_REGS, &regs))
		return pvmm_fail_errno(err, "vCPU %u: KVM_SET_REGS", id);
	if (ioctl(fd, KVM_SET_MP_STATE, &runnable))
		return pvmm_fail_errno(err, "vCPU %u: KVM_SET_MP_STATE", id);
	return 0;
}

int pvmm_boot(struct pvmm *vm, struct pmig_error *err)
{
	int rc = 0;

	pvmm_image_install(vm->ram.base);
	write_page_tables(vm);
	write_descriptors(vm);
	for (uint32_t i = 0; !rc && i < vm->plan.config.n_vcpus; i++)
		rc = start_vcpu(vm, i, err);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm_fill.h"

#include <string.h>
#include <sys/ioctl.h>

#include "unit.h"

#define CR4_OSXSAVE (1 << 18)

/* Where the upper halves of the YMM registers lie in the XSAVE area. */
#define XSAVE_YMM   576
#define XSAVE_BV    512
#define XSAVE_SSE   160
#define X87_SSE	    3
#define X87_SSE_AVX 7

/* Written by a guest's boot; the low byte is free for the vCPU's number. */
static const struct {
	uint32_t index;
	uint64_t value;
} msrs[] = {
	{0x00000174, 0x10},	  /* SYSENTER CS */
	{0x00000175, 0x81001000}, /* SYSENTER ESP; AMD has 32 bits of it */
	{0x00000176, 0x81002000}, /* SYSENTER EIP */
	{0x00000277, 0x0007010600070106}, /* PAT */
	{0xc0000081, 0x0023001000000000}, /* STAR */
	{0xc0000082, 0xffff800000003000}, /* LSTAR */
	{0xc0000083, 0xffff800000004000}, /* CSTAR */
	{0xc0000084, 0x47700},		  /* SYSCALL mask */
	{0xc0000102, 0xffff800000005000}, /* kernel GS base */
	{0x000002ff, 0xc06},		  /* MTRR default type */
	{0x00000200, 0x80000006},	  /* MTRR base 0 */
	{0x00000201, 0xffc0000800},	  /* MTRR mask 0 */
	{0x0000020e, 0xc0000000},	  /* MTRR base 7 */
	{0x00000250, 0x0606060606060606}, /* MTRR fixed */
	{0x0000026f, 0x0505050505050505}, /* MTRR fixed, the last */
	{0x00000400, ~0ULL},		  /* machine check bank 0 */
	{0x4b564d01, 0x2001},		  /* kvmclock at 0x2000 */
};

static void fill_regs(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_regs regs = {0};
	uint64_t *words = (uint64_t *)&regs;

	for (size_t i = 0; i < sizeof(regs) / sizeof(*words); i++)
		words[i] = 0x1111111111111111 * (i % 15 + 1) + vcpu;
	regs.rip = 0x8000 + vcpu;
	regs.rflags = 0x202;
	test_vcpu_call(vm, vcpu, KVM_SET_REGS, &regs);
}

static void fill_sregs(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_sregs sregs;

	test_vcpu_call(vm, vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr2 = 0xdeadbeef000 + vcpu;
	sregs.cr3 = 0x7000;
	sregs.cr4 |= CR4_OSXSAVE;
	sregs.cr8 = 5;
	sregs.fs.base = 0xffff800000006000;
	sregs.gs.base = 0xffff800000007000 + vcpu;
	sregs.gdt.base = 0x1000;
	sregs.gdt.limit = 0x7f;
	sregs.idt.base = 0x3000;
	sregs.idt.limit = 0xfff;
	test_vcpu_call(vm, vcpu, KVM_SET_SREGS, &sregs);
}

static void fill_debugregs(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_debugregs debugregs = {
		.db = {0x1000 + vcpu, 0x2000, 0x3000, 0x4000},
		.dr6 = 0xffff0ff1,
		.dr7 = 0x403,
	};

	test_vcpu_call(vm, vcpu, KVM_SET_DEBUGREGS, &debugregs);
}

/* Has the host AVX, as its XSAVE says? */
static bool has_avx(const struct test_vm *vm)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = X87_SSE_AVX};

	return ioctl(vm->vcpu_fds[0], KVM_SET_XCRS, &xcrs) == 0;
}

static void fill_xsave(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = X87_SSE};
	uint8_t area[8192] = {0};
	uint64_t components = X87_SSE;

	if (has_avx(vm)) {
		components = X87_SSE_AVX;
		memset(area + XSAVE_YMM, 0xa0 + vcpu, 256);
	}
	xcrs.xcrs[0].value = components;
	test_vcpu_call(vm, vcpu, KVM_SET_XCRS, &xcrs);
	memcpy(area, "\x7f\x03", 2);	  /* x87 control word */
	memcpy(area + 24, "\x80\x1f", 2); /* MXCSR */
	memset(area + XSAVE_SSE, 0x50 + vcpu, 256);
	memcpy(area + XSAVE_BV, &components, sizeof(components));
	test_vcpu_call(vm, vcpu, KVM_SET_XSAVE, area);
}

static uint64_t msr_value(size_t i, uint32_t vcpu)
{
	/* only addresses may differ by a few bytes */
	return msrs[i].value >> 32 == 0xffff8000 ? msrs[i].value + vcpu
						 : msrs[i].value;
}

static void fill_msrs(const struct test_vm *vm, uint32_t vcpu)
{
	for (size_t i = 0; i < sizeof(msrs) / sizeof(*msrs); i++)
		if (!test_vcpu_set_msr(vm, vcpu, msrs[i].index,
				       msr_value(i, vcpu)))
			UNIT_FAIL("cannot set MSR 0x%x", msrs[i].index);
}

/* Software-enabled, a vector requested and one in service. */
static void fill_lapic(const struct test_vm *vm, uint32_t vcpu)
{
	test_lapic_write(vm, vcpu, TEST_LAPIC_SPURIOUS, 0x1ff);
	test_lapic_write(vm, vcpu, TEST_LAPIC_ISR + 0x10, 1 << vcpu);
	test_lapic_write(vm, vcpu, TEST_LAPIC_IRR + 0x20, 1 << (4 + vcpu));
	test_lapic_write(vm, vcpu, TEST_LAPIC_LVT_LINT0, 0x10041);
	test_lapic_write(vm, vcpu, TEST_LAPIC_LVT_ERROR, 0x10043);
}

static void fill_events(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_vcpu_events events;

	test_vcpu_call(vm, vcpu, KVM_GET_VCPU_EVENTS, &events);
	events.exception.pending = 1;
	events.exception.nr = 14;
	events.exception.has_error_code = 1;
	events.exception.error_code = 6;
	events.exception_has_payload = 1;
	events.exception_payload = 0xcafe000 + vcpu;
	events.nmi.pending = 1;
	events.nmi.masked = vcpu & 1;
	test_vcpu_call(vm, vcpu, KVM_SET_VCPU_EVENTS, &events);
}

static void fill_chips(const struct test_vm *vm)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
	struct kvm_pit_state2 pit;

	test_vm_call(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.pic.irq_base = 0x20;
	chip.chip.pic.imr = 0xfb;
	test_vm_call(vm, KVM_SET_IRQCHIP, &chip);
	chip = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_PIC_SLAVE};
	test_vm_call(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.pic.irq_base = 0x28;
	chip.chip.pic.imr = 0xef;
	test_vm_call(vm, KVM_SET_IRQCHIP, &chip);
	chip = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_IOAPIC};
	test_vm_call(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[4].fields.vector = 0x54;
	chip.chip.ioapic.redirtbl[23].fields.vector = 0x67;
	test_vm_call(vm, KVM_SET_IRQCHIP, &chip);
	test_vm_call(vm, KVM_GET_PIT2, &pit);
	pit.channels[0].count = 11932;
	pit.channels[0].mode = 5; /* does not tick by itself */
	pit.channels[2].count = 1193;
	pit.channels[2].mode = 3;
	pit.channels[2].rw_mode = 3;
	test_vm_call(vm, KVM_SET_PIT2, &pit);
}

void test_vm_fill(struct test_vm *vm)
{
	for (uint32_t v = 0; v < vm->kvm.n_vcpus; v++) {
		struct kvm_mp_state halted = {KVM_MP_STATE_HALTED};

		fill_sregs(vm, v);
		fill_regs(vm, v);
		fill_xsave(vm, v);
		fill_debugregs(vm, v);
		fill_lapic(vm, v);
		fill_msrs(vm, v);
		fill_events(vm, v);
		test_vcpu_call(vm, v, KVM_SET_MP_STATE, &halted);
	}
	fill_chips(vm);
}

static void check_registers(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_debugregs debugregs;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	test_vcpu_call(vm, vcpu, KVM_GET_REGS, &regs);
	CHECK_EQ(regs.rax, 0x1111111111111111 + vcpu);
	CHECK_EQ(regs.r15, 0x1111111111111111 + vcpu);
	CHECK_EQ(regs.rip, 0x8000 + vcpu);
	test_vcpu_call(vm, vcpu, KVM_GET_SREGS, &sregs);
	CHECK_EQ(sregs.cr2, 0xdeadbeef000 + vcpu);
	CHECK_EQ(sregs.cr8, 5);
	CHECK(sregs.cr4 & CR4_OSXSAVE);
	CHECK_EQ(sregs.gs.base, 0xffff800000007000 + vcpu);
	CHECK_EQ(sregs.idt.base, 0x3000);
	test_vcpu_call(vm, vcpu, KVM_GET_DEBUGREGS, &debugregs);
	CHECK_EQ(debugregs.db[0], 0x1000 + vcpu);
	CHECK_EQ(debugregs.db[3], 0x4000);
	CHECK_EQ(debugregs.dr6, 0xffff0ff1);
	CHECK_EQ(debugregs.dr7, 0x403);
}

static void check_xsave(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_xcrs xcrs = {0};
	uint8_t area[8192] = {0};

	test_vcpu_call(vm, vcpu, KVM_GET_XSAVE, area);
	for (int i = 0; i < 256; i++)
		CHECK_EQ(area[XSAVE_SSE + i], 0x50 + vcpu);
	test_vcpu_call(vm, vcpu, KVM_GET_XCRS, &xcrs);
	CHECK_EQ(xcrs.nr_xcrs, 1);
	if (xcrs.xcrs[0].value != X87_SSE_AVX)
		UNIT_SKIP("this host's processor has no AVX (CPUID 1 ecx, "
			  "bit 28); all but the YMM registers was checked");
	for (int i = 0; i < 256; i++)
		CHECK_EQ(area[XSAVE_YMM + i], 0xa0 + vcpu);
}

static void check_events(const struct test_vm *vm, uint32_t vcpu)
{
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;

	test_vcpu_call(vm, vcpu, KVM_GET_MP_STATE, &mp_state);
	CHECK_EQ(mp_state.mp_state, KVM_MP_STATE_HALTED);
	test_vcpu_call(vm, vcpu, KVM_GET_VCPU_EVENTS, &events);
	CHECK_EQ(events.exception.pending, 1);
	CHECK_EQ(events.exception.nr, 14);
	CHECK_EQ(events.exception.error_code, 6);
	CHECK_EQ(events.exception_has_payload, 1);
	CHECK_EQ(events.exception_payload, 0xcafe000 + vcpu);
	CHECK_EQ(events.nmi.pending, 1);
	CHECK_EQ(events.nmi.masked, vcpu & 1);
	CHECK_EQ(test_lapic_read(vm, vcpu, TEST_LAPIC_IRR + 0x20),
		 1 << (4 + vcpu));
}

static void check_chips(const struct test_vm *vm)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_SLAVE};
	struct kvm_pit_state2 pit;

	test_vm_call(vm, KVM_GET_IRQCHIP, &chip);
	CHECK_EQ(chip.chip.pic.irq_base, 0x28);
	CHECK_EQ(chip.chip.pic.imr, 0xef);
	chip = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_IOAPIC};
	test_vm_call(vm, KVM_GET_IRQCHIP, &chip);
	CHECK_EQ(chip.chip.ioapic.redirtbl[4].fields.vector, 0x54);
	CHECK_EQ(chip.chip.ioapic.redirtbl[23].fields.vector, 0x67);
	test_vm_call(vm, KVM_GET_PIT2, &pit);
	CHECK_EQ(pit.channels[0].count, 11932);
	CHECK_EQ(pit.channels[0].mode, 5);
	CHECK_EQ(pit.channels[2].count, 1193);
}

void test_vm_check_filled(const struct test_vm *vm)
{
	for (uint32_t v = 0; v < vm->kvm.n_vcpus; v++) {
		for (size_t i = 0; i < sizeof(msrs) / sizeof(*msrs); i++)
			if (test_vcpu_msr(vm, v, msrs[i].index) !=
			    msr_value(i, v))
				UNIT_FAIL("vCPU %u: MSR 0x%x is 0x%llx", v,
					  msrs[i].index,
					  (unsigned long long)test_vcpu_msr(
						  vm, v, msrs[i].index));
		check_registers(vm, v);
		check_events(vm, v);
	}
	check_chips(vm);
	for (uint32_t v = 0; v < vm->kvm.n_vcpus; v++)
		check_xsave(vm, v);
}
